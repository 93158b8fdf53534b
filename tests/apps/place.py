"""Where an application runs: its own environment, and a home of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

ENDS_WITHIN_S = 180
STARTS_WITHIN_S = 120
STOPS_WITHIN_S = 30


class Place(NamedTuple):
    """An application's surroundings.

    Attributes:
        bin: The programs of its environment.
        home: An empty folder.
        environ: Its environment variables.
    """

    bin: Path
    home: Path
    environ: dict[str, str]

    def run(self, *command: str, typed: str = "") -> str:
        """Run a command below `trubrics-instrument run` to its end, and return its output."""
        return self.plain("trubrics-instrument", "run", *command, typed=typed)

    def plain(self, *command: str, typed: str = "") -> str:
        """Run a command that nobody observes; fail with its output if it fails."""
        ran = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.home,
            env=self.environ,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
        assert ran.returncode == 0, f"exit code {ran.returncode}:\n{ran.stdout[-3000:]}"
        return ran.stdout

    @contextlib.contextmanager
    def serving(self, port: int, *command: str) -> Generator[None]:
        """Keep a server below `trubrics-instrument run` while the block runs."""
        log = self.home / "server.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                [str(self.bin / "trubrics-instrument"), "run", *command],
                cwd=self.home,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _wait_for(port, server, log)
                yield
            finally:
                _stop(server)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environ(home: Path, programs: Path, models_url: str, host: str) -> dict[str, str]:
    """Return the variables of a user who has a model, a Trubrics project, and nothing else."""
    return {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": models_url,
        "TRUBRICS_HOST": host,
        "TRUBRICS_SPOOL": "off",
    }


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.1)
    raise AssertionError(f"no server on port {port}:\n{log.read_text()[-3000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
