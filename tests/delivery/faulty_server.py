"""A loopback ingestion host with faults: what it takes, it counts; the rest is its mood.

    with FaultyServer() as server:
        server.mood = refuse(503, {"Retry-After": "1"})
        ...
        server.mood = take
        server.wait_for(250)
        assert server.taken == Counter(...)

A mood is a function of a request that returns a `Reply`. `down()` closes the port, `up()` opens
the same one again.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HANG_S = 60.0
ENDLESS = 1_000_000
PORT_TAKEN_S = 10.0


@dataclass(frozen=True)
class Request:
    """One request: when it came, where to, its events and the headers (names in lower case)."""

    at_s: float
    endpoint: str
    events: list[dict[str, Any]]
    headers: dict[str, str]
    connection: tuple[str, int]


@dataclass(frozen=True)
class Reply:
    """What happens to a request.

    Attributes:
        status: The answer; None cuts the connection with an RST instead.
        body: What is answered, as JSON.
        page: These very bytes instead, and no type but that of `headers`.
        takes: Whether the host keeps the events.
        hangs: Whether no answer comes before the server is closed.
        pause_s: The latency of the answer.
        drips: Whether a byte of the body comes each 50 ms, and no end.
    """

    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: object = None
    page: bytes | None = None
    takes: bool = True
    hangs: bool = False
    pause_s: float = 0.0
    drips: bool = False


Mood: TypeAlias = "Callable[[Request], Reply]"


def take(_: Request) -> Reply:
    """Take everything."""
    return Reply()


def hang(_: Request) -> Reply:
    """Accept the connection and never answer."""
    return Reply(takes=False, hangs=True)


def reset(_: Request) -> Reply:
    """Cut the connection."""
    return Reply(None, takes=False)


def refuse(status: int, headers: Mapping[str, str] | None = None, body: object = None) -> Mood:
    """Return a mood that refuses everything with this status."""
    return lambda _: Reply(status, headers or {}, body, takes=False)


class FaultyServer:
    """The host, for the length of a `with` block.

    Attributes:
        mood: What it does with the next requests.
        requests: All of them, in order.
        taken: How often each event id was taken.
        events: The events taken, in order.
    """

    def __init__(self, mood: Mood = take) -> None:
        self.mood = mood
        self.requests: list[Request] = []
        self.events: list[dict[str, Any]] = []
        self.taken: Counter[str] = Counter()
        self.news = threading.Condition()
        self.closing = threading.Event()
        self._http: ThreadingHTTPServer | None = None
        self._port = 0
        self._sockets: set[socket.socket] = set()
        self.up()

    def __enter__(self) -> FaultyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.down()

    @property
    def url(self) -> str:
        """The base URL, the same after `down` and `up`."""
        return f"http://127.0.0.1:{self._port}/api/ingestion"

    def up(self) -> None:
        """Listen."""
        server = self

        class Handler(_Handler):
            owner = server

        self._http = self._bound(Handler)
        self._port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def _bound(self, handler: type[_Handler]) -> _Server:
        """Return a server at the port, which somebody's connection may have taken meanwhile."""
        until = time.monotonic() + PORT_TAKEN_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                return _Server(("127.0.0.1", self._port), handler)
            time.sleep(0.05)
        return _Server(("127.0.0.1", self._port), handler)

    def down(self) -> None:
        """Close the port and every connection."""
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()
        with self.news:
            open_now, self._sockets = self._sockets, set()
        for each in open_now:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def numbers(self) -> list[int]:
        """Return the `n` of each event taken, in order of arrival."""
        return [event["n"] for event in self.events]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many different events are taken; fail when they are not in time."""
        self.wait_until(lambda: len(self.taken) >= count, timeout_s)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until the condition holds; fail when it does not in time."""
        with self.news:
            met = self.news.wait_for(condition, timeout_s)
        requests = [(request.endpoint, len(request.events)) for request in self.requests[-5:]]
        assert met, f"{len(self.taken)} events taken after {timeout_s} s, last: {requests}"

    def connected(self, connection: socket.socket) -> None:
        """Remember a connection."""
        with self.news:
            self._sockets.add(connection)

    def answer(self, request: Request) -> Reply:
        """Decide on a request and count what is taken."""
        reply = self.mood(request)
        with self.news:
            self.requests.append(request)
            if reply.takes:
                self.taken.update(event["event_id"] for event in request.events)
                self.events.extend(request.events)
            self.news.notify_all()
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that were cut: that is what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one segment
    disable_nagle_algorithm = True
    owner: FaultyServer

    def setup(self) -> None:
        super().setup()
        self.owner.connected(self.connection)

    def do_POST(self) -> None:
        """Read a request and do what the mood says."""
        body: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint = self.path.rsplit("/", 1)[-1]
        request = Request(
            time.monotonic(),
            endpoint,
            body if endpoint == "publish_events" else [body],
            {name.lower(): value for name, value in self.headers.items()},
            self.client_address,
        )
        reply = self.owner.answer(request)
        if reply.hangs or reply.pause_s:
            self.owner.closing.wait(reply.pause_s or HANG_S)
        if reply.status is None or reply.hangs:
            self._cut()
            return
        self._send(reply.status, reply)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Write nothing to standard error."""

    def _send(self, status: int, reply: Reply) -> None:
        payload = json.dumps(reply.body).encode() if reply.page is None else reply.page
        self.send_response(status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.page is None:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(ENDLESS if reply.drips else len(payload)))
        self.end_headers()
        if reply.drips:
            self._drip()
        self.wfile.write(payload)

    def _drip(self) -> None:
        with contextlib.suppress(OSError):
            while not self.owner.closing.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()
        self.close_connection = True

    def _cut(self) -> None:
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
