"""What the loopback server can be told to answer, faults included."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from openai_wire import SSE_DONE, error_body, sse

PATIENCE_S = 30.0


class Fault:
    """A way to end the connection before the reply is whole."""


RESET: Final = Fault()
CLOSE: Final = Fault()


class Gate:
    """A place in a reply at which the server stands still until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the server go on."""
        self._opened.set()

    def pass_through(self) -> None:
        """Report the arrival and wait for the opening; for the server's side."""
        self.reached.set()
        self._opened.wait(PATIENCE_S)


Step = bytes | float | Gate | Fault


@dataclass(frozen=True)
class Reply:
    """One answer: a step before it, status, headers, and the steps of its body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    steps: Sequence[Step] = ()
    chunked: bool = False
    before: Gate | float | Fault | None = None


def json_reply(body: object, status: int = 200, **headers: str) -> Reply:
    """Answer with JSON; headers as keywords, `retry_after="2"` for Retry-After."""
    return raw_reply(json.dumps(body).encode(), status, **headers)


def raw_reply(body: bytes, status: int = 200, **headers: str) -> Reply:
    """Answer with these very bytes, said to be JSON unless `content_type` says otherwise."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/json"} | names, (body,))


def error_reply(status: int, message: str = "Scripted.", **headers: str) -> Reply:
    """Answer with an error as OpenAI words it."""
    return json_reply(error_body(message), status, **headers)


def truncated_reply(body: object) -> Reply:
    """Promise the whole body, send the first half of it, and close."""
    whole = json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(whole))}
    return Reply(200, headers, (whole[: len(whole) // 2], CLOSE))


def chat_stream(items: Sequence[Mapping[str, Any] | Step]) -> Reply:
    """Stream chunks of a chat completion (or completion), and [DONE]."""
    return response_stream([*items, SSE_DONE])


def response_stream(items: Sequence[Mapping[str, Any] | Step]) -> Reply:
    """Stream events of the Responses API, which knows no [DONE]."""
    steps = [sse(item) if isinstance(item, Mapping) else item for item in items]
    return Reply(200, {"content-type": "text/event-stream; charset=utf-8"}, steps, chunked=True)
