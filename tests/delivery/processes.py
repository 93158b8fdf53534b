"""Real child processes, started and ended within bounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.strict import STRICT_PYTHON

if TYPE_CHECKING:
    from tests.delivery.faulty_server import FaultyServer

ROOT = Path(__file__).parents[2]
PATIENCE_S = 40.0


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code, what it printed and logged, and when, by `time.monotonic()`."""

    code: int
    output: str
    at_s: float
    errors: str

    @property
    def exit_took_s(self) -> float:
        """How long it ended, if the last that it printed is when it began to."""
        return self.at_s - float(self.output.split()[-1])


class Child:
    """A program of `children.py`, running."""

    def __init__(self, program: str, server: FaultyServer, spool: str, spool_dir: Path) -> None:
        command = [*STRICT_PYTHON, "-m", "tests.delivery.children"]
        self.process = subprocess.Popen(
            [*command, program, server.url, spool, str(spool_dir)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()  # and close the pipes

    def wait_for_line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for its end; whatever it wrote to standard error shows in a failing test."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        sys.stderr.write(errors)
        return Ended(self.process.returncode, output, time.monotonic(), errors)


def run(program: str, server: FaultyServer, spool: str, spool_dir: Path) -> Ended:
    """Run a program to its end."""
    with Child(program, server, spool, spool_dir) as child:
        return child.end()


def restart(server: FaultyServer, spool: str, spool_dir: Path, count: int) -> None:
    """Start the next process, which tracks one event, and end it when `count` have arrived."""
    with Child("carry_on", server, spool, spool_dir) as child:
        server.wait_for(count)
        child.signal(signal.SIGTERM)
        assert child.end().code == 0
