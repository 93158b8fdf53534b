"""A loopback HTTP server that answers what a test scripts, faults included, and records all.

    with Loopback() as server:
        client = OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
        server.script(json_reply(chat_completion("Hello")), error_reply(429))  # one a request
        server.script(chat_stream(chat_chunks("Hi there")), path="/v1/chat/completions")
        server.always(lambda request: json_reply(chat_completion(request.json["model"])))
        ...
        assert server.requests[0].json["model"] == "gpt-4o"

Which reply: the first one scripted for the path, then the first for any path, then `always`,
for the path before any; else 418, which no SDK retries. `always` is not used up.

A `Reply` is a status, headers and *steps*, taken one after the other:
    bytes    are sent, each as a chunk of its own if the reply is chunked
    Gate()   stands still: `gate.reached.wait(5)` tells the test, `gate.open()` lets it go on;
             a server that closes opens its gates
    0.05     pauses for so many seconds (for a test about latency; prefer a Gate)
    RESET    cuts the connection with an RST
    CLOSE    closes it early, so that the body is truncated
`Reply(before=gate)` takes a step before the headers; `before=RESET` gives no answer at all.

json_reply(body, status)    raw_reply(b"{not json")    error_reply(status, message)
chat_stream([*chat_chunks("a b")[:2], gate, error_body("broken")])    ends with [DONE]
response_stream([*response_events("a b")[:5], RESET])                 has event: lines
truncated_reply(body)       half of the body, then closed

Replies are in `tests.replies`, bodies of OpenAI in `openai_wire` and `responses_wire`,
and `tests.sink` is the ingestion endpoint.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.replies import PATIENCE_S, RESET, Fault, Gate, Reply, Step, error_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Answerer: TypeAlias = "Reply | Callable[[Request], Reply]"


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names are lower-case, `client` is its connection."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    client: tuple[str, int]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Loopback:
    """An HTTP/1.1 server on 127.0.0.1 for the length of a `with` block."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._scripted: dict[str | None, deque[Reply]] = {}
        self._always: dict[str | None, Answerer] = {}
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._gates: list[Gate] = []
        self._connections: list[tuple[threading.Thread, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.base_url = f"{self.url}/v1"
        self._acceptor = threading.Thread(target=self._accept, name="loopback", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def script(self, *replies: Reply, path: str | None = None) -> None:
        """Add replies, one for each request to come (to `path`, such as /v1/responses)."""
        with self._news:
            self._scripted.setdefault(path, deque()).extend(replies)

    def always(self, answer: Answerer, path: str | None = None) -> None:
        """Set the reply, or the function of the request, for when nothing is scripted."""
        with self._news:
            self._always[path] = answer

    def wait_for(self, n: int, timeout_s: float = 5.0) -> list[Request]:
        """Return the requests as soon as there are `n`; fail when there are not in time."""
        with self._news:
            arrived = self._news.wait_for(lambda: len(self.requests) >= n, timeout_s)
            assert arrived, f"{len(self.requests)} of {n} requests after {timeout_s} s"
            return list(self.requests)

    def close(self) -> None:
        """Stop at once: open the gates, cut the connections, end the threads."""
        self._closing.set()
        # accept() does not notice that its socket is closed; a last visitor wakes it.
        socket.create_connection(self._listener.getsockname()).close()
        self._acceptor.join(PATIENCE_S)
        self._listener.close()
        for gate in self._gates:
            gate.open()
        for thread, connection in self._connections:
            _shut(connection)
            thread.join(PATIENCE_S)

    def answer(self, request: Request) -> Reply:
        """Record the request and choose its reply; for the server's side."""
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
            for path in (request.path, None):
                if self._scripted.get(path):
                    return self._scripted[path].popleft()
            answer = self._always.get(request.path) or self._always.get(None)
        if answer is None:
            return error_reply(418, f"Nothing is scripted for {request.method} {request.path}.")
        return answer if isinstance(answer, Reply) else answer(request)

    def stand_still(self, gate: Gate) -> None:
        """Wait at a gate, which opens when the server closes; for the server's side."""
        self._gates.append(gate)
        if self._closing.is_set():
            gate.open()
        gate.pass_through()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the closing; for the server's side."""
        self._closing.wait(seconds)

    def _accept(self) -> None:
        while True:
            connection, address = self._listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            arguments = (connection, address)
            thread = threading.Thread(target=self._serve, args=arguments, daemon=True)
            self._connections.append((thread, connection))
            thread.start()

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        # The client may leave, and the test may end: what the client sees, its test asserts.
        with connection, contextlib.suppress(OSError):
            _Handler(connection, address, self)


class _Handler(BaseHTTPRequestHandler):
    """One connection, with as many requests as the client sends on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each small chunk waits 40 ms for the last one

    def __init__(
        self, connection: socket.socket, address: tuple[str, int], loopback: Loopback
    ) -> None:
        self._loopback = loopback
        # The base class only keeps its third argument, and asks nothing of it.
        super().__init__(connection, address, None)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        """Answer one request."""
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        size_bytes = int(headers.get("content-length", "0"))
        body = self.rfile.read(size_bytes)
        if len(body) < size_bytes:  # whoever sent it has hung up
            self.close_connection = True
            return
        request = Request(self.command, path, query, headers, body, self.client_address)
        self._send(self._loopback.answer(request))

    do_GET = do_DELETE = do_PUT = do_PATCH = do_POST  # noqa: N815 - as above

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing: the test has the requests."""

    def _send(self, reply: Reply) -> None:
        if reply.before is not None and not self._take(reply.before):
            return
        self.send_response(reply.status)
        for name, value in self._framing(reply).items():
            self.send_header(name, value)
        self.end_headers()
        if not all(self._take(step, chunked=reply.chunked) for step in reply.steps):
            return
        if reply.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _framing(self, reply: Reply) -> dict[str, str]:
        if reply.chunked:
            return {"transfer-encoding": "chunked"} | dict(reply.headers)
        size_bytes = sum(len(step) for step in reply.steps if isinstance(step, bytes))
        return {"content-length": str(size_bytes)} | dict(reply.headers)

    def _take(self, step: Step, *, chunked: bool = False) -> bool:
        """Take one step, and return whether the connection is still there for the next."""
        if isinstance(step, Fault):
            self._break(step)
            return False
        if isinstance(step, Gate):
            self._loopback.stand_still(step)
        elif not isinstance(step, bytes):
            self._loopback.pause(step)
        elif chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(step), step))
        else:
            self.wfile.write(step)
        return True

    def _break(self, fault: Fault) -> None:
        self.close_connection = True
        if fault is RESET:
            # Lingering for no time at all makes the kernel send RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # its thread may have closed it already
        connection.shutdown(socket.SHUT_RDWR)
