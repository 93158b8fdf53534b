"""Worker processes of one app, each of which runs what it is told, when it is told.

    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run("client.responses.create(**ask)", ask={"model": "m", "input": "Hi"})
        other.run("client.responses.retrieve('resp_1')")

What each has observed is delivered when `run` returns; the rest when the block is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

_RUNS_WHEN_TOLD = """
import json
import sys
import trubrics_instrument
exec(json.loads(sys.stdin.readline()))
for line in sys.stdin:
    code, given = json.loads(line)
    exec(code, globals() | given)
    trubrics_instrument.flush()
    print("done", flush=True)
"""


def environ(server: Loopback, sink: Sink) -> dict[str, str]:
    """Return the environment of a process that asks this server, and shares a board."""
    return {
        **os.environ,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": server.base_url,
        "TRUBRICS_HOST": sink.host,
        "TRUBRICS_SPOOL": "auto",
    }


class Worker:
    """A process that lives as long as its block."""

    def __init__(self, environ: dict[str, str], set_up: str) -> None:
        command = [sys.executable, "-c", _RUNS_WHEN_TOLD]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = subprocess.Popen(command, env=environ, **pipes)
        self._say(set_up)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.stdin.close()
        assert self._process.returncode == 0

    def run(self, code: str, **given: object) -> None:
        """Have it run some code, with these names."""
        self._say([code, given])
        assert self._process.stdout.readline() == "done\n"

    def _say(self, said: object) -> None:
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
