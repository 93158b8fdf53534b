"""Worker processes of one app, each of which runs what it is told, when it is told.

    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run("client.responses.create(**ask)", ask={"model": "m", "input": "Hi"})
        other.run("client.responses.retrieve('resp_1')")

What each has observed is delivered when `run` returns; the rest when the block is left. As with a
server that loads the app first, they are forked from a process that has imported the SDKs, and set
nothing up: a new process takes a second for that.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import trubrics_instrument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.loopback import Loopback
    from tests.sink import Sink

_IMPORTED = (
    *("httpcore", "httpcore2", "openai.resources.responses", "langchain.agents"),
    *("requests", "sqlite3", "wrapt", "trubrics_instrument.providers.openai"),
)
_MOST_BYTES = 1 << 20
_DONE, _ENDED = "done\n", "ended\n"


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

    def __init__(self, environ: Mapping[str, str], set_up: str) -> None:
        here, there = socket.socketpair()
        with here, there:
            socket.send_fds(_forking(), [json.dumps(environ).encode()], [there.fileno()])
            self._socket = here.dup()
        self._lines: Any = self._socket.makefile("rw", encoding="utf-8")
        self._say(set_up)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with self._socket, self._lines:
            self._socket.shutdown(socket.SHUT_WR)
            assert self._lines.read() == _ENDED

    def run(self, code: str, **given: object) -> None:
        """Have it run some code, with these names."""
        self._say([code, given])
        assert self._lines.readline() == _DONE

    def _say(self, said: object) -> None:
        self._lines.write(json.dumps(said) + "\n")
        self._lines.flush()


@cache
def _forking() -> socket.socket:
    """Return where a process is asked to fork a worker; it ends when this one does."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen([sys.executable, "-m", "tests.workers"], stdin=there.fileno())
    atexit.register(process.wait)
    atexit.register(here.close)
    return here


def main() -> None:
    """Fork a worker for each environment and socket that come; a worker then works there."""
    ended: list[Any] = []
    atexit.register(lambda: [lines.close() for lines in ended if lines.write(_ENDED)])  # the last
    for name in _IMPORTED:
        with suppress(ImportError):  # an SDK that is not here
            import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    door = socket.socket(fileno=sys.stdin.fileno())
    while True:
        given, descriptors, *_ = socket.recv_fds(door, _MOST_BYTES, 1)
        if not given:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(json.loads(given))
            ended.append(socket.socket(fileno=descriptors[0]).makefile("rw", encoding="utf-8"))
            _work(ended[0])
            return
        os.close(descriptors[0])


def _work(lines: Any) -> None:
    names: dict[str, Any] = {"trubrics_instrument": trubrics_instrument}
    exec(json.loads(lines.readline()), names)
    for line in lines:
        code, given = json.loads(line)
        exec(code, names | given)
        trubrics_instrument.flush()
        lines.write(_DONE)
        lines.flush()


if __name__ == "__main__":
    main()
