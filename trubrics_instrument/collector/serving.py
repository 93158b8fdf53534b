"""Running the collector: in the foreground for the command, in a thread for tests and the demo."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import uvicorn

from trubrics_instrument._base.hosts import COLLECTOR_PORT, LOOPBACK, LOOPBACK_HOSTS
from trubrics_instrument.collector.app import create_app
from trubrics_instrument.collector.security import ANY_HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import timedelta
    from pathlib import Path

    from starlette.applications import Starlette

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


class Server(NamedTuple):
    """A collector that runs in a thread of this process.

    Attributes:
        url: Where its pages are, and what `TRUBRICS_HOST` is set to.
        close: Stops it; what it acknowledged is on disk.
    """

    url: str
    close: Callable[[], None]


def serve(
    db: str | Path,
    *,
    host: str = LOOPBACK,
    port: int = COLLECTOR_PORT,
    api_key: str | None = None,
    password: str | None = None,
    retention: timedelta | None = None,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until the process is told to stop; `on_ready` gets the URL once it can be opened.

    The arguments are those of `create_app`, and where to listen.

    Raises:
        OSError: The address cannot be had.
        ForeignDatabaseError: The file is not a database of the collector.
        ValueError: Other machines could reach it, and there is no key or no password.
    """
    _check_exposure(host, api_key, password)
    with _listen(host, port) as listener:
        app = create_app(
            db, api_key=api_key, hosts=_hosts(host), password=password, retention=retention
        )
        on_ready(_url(listener))
        _server(app).run(sockets=[listener])


@contextmanager
def running(
    db: str | Path,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    api_key: str | None = None,
    password: str | None = None,
) -> Generator[Server, None, None]:
    """Serve from a thread while the block runs, on a free port unless one is named.

    Raises:
        OSError: The address cannot be had.
        ForeignDatabaseError: The file is not a database of the collector.
        ValueError: Other machines could reach it, and there is no key or no password.
    """
    _check_exposure(host, api_key, password)
    with _listen(host, port) as listener:
        server = _server(create_app(db, api_key=api_key, hosts=_hosts(host), password=password))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="trubrics-collector-server"
        )
        thread.start()

        def close() -> None:
            server.should_exit = True
            thread.join(_STOP_TIMEOUT_S)

        try:
            _wait_until_started(server, thread)
            yield Server(_url(listener), close)
        finally:
            close()


def _check_exposure(host: str, api_key: str | None, password: str | None) -> None:
    if host in LOOPBACK_HOSTS:
        return
    if not api_key or not password:
        raise ValueError(
            f"{host} can be reached from other machines: a key for senders and a password for "
            "people are needed"
        )


def _hosts(host: str) -> set[str]:
    """Behind a login no name is a danger: a cookie is sent to the name it came from only."""
    return set(LOOPBACK_HOSTS) if host in LOOPBACK_HOSTS else {ANY_HOST}


def _server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    app.state.stopping = lambda: server.should_exit
    return server


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Uvicorn has no event for it, so it is asked until it says so."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the collector did not start; its log says why")
        time.sleep(0.005)
