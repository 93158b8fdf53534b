"""Where a process is frozen once it has answered, its events have gone before."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import trubrics_instrument
from tests.replies import Gate, Reply
from trubrics_instrument import asgi, wsgi
from trubrics_instrument._context import scope
from trubrics_instrument.serverless import flush_budget_s, flushed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.sink import Sink

SLOW_S = 30.0  # an event that nobody flushes would wait this long for company


def slow(sink: Sink) -> None:
    """Let events wait for company, as long as nobody flushes."""
    trubrics_instrument.configure(host=sink.host, flush_interval_s=SLOW_S)


def names(sink: Sink) -> list[str]:
    """Return the names of the events that have arrived by now."""
    return [event["event"] for event in sink.events]


def test_a_handler_delivers_before_it_returns(sink: Sink) -> None:
    """What a function has caused has arrived when its answer, or its error, is there."""
    slow(sink)

    @flushed
    def handler(event: str) -> str:
        trubrics_instrument.track(event)
        return event.upper()

    @flushed(timeout_s=5)
    def failing() -> None:
        trubrics_instrument.track("failed")
        raise ZeroDivisionError

    assert handler("asked") == "ASKED"
    assert names(sink) == ["asked"]
    with pytest.raises(ZeroDivisionError):
        failing()
    assert names(sink) == ["asked", "failed"]
    assert handler.__name__ == "handler"


def test_each_call_has_its_own_user(sink: Sink) -> None:
    """Whom a handler names is not the user of the next call; what is said around it holds."""
    slow(sink)

    @flushed
    def handler(user_id: str | None) -> None:
        if user_id:
            trubrics_instrument.identify(user_id)
        trubrics_instrument.track("asked")

    with scope.Job():
        trubrics_instrument.identify("nobody")
        for user_id in ("ada", None, "bob"):
            handler(user_id)
    assert [event["user_id"] for event in sink.events] == ["ada", "nobody", "bob"]
    with trubrics_instrument.context(user_id="eve"):
        handler(None)
    assert sink.events[-1]["user_id"] == "eve"


@pytest.mark.anyio
async def test_each_coroutine_has_its_own_user(sink: Sink) -> None:
    """The same where one task runs one call after the other."""
    slow(sink)

    @flushed
    async def handler(user_id: str | None) -> None:
        if user_id:
            trubrics_instrument.identify(user_id)
        trubrics_instrument.track("asked")

    for user_id in ("ada", None):
        await handler(user_id)
    users = [event["user_id"] for event in sink.events]
    assert users[0] == "ada"
    assert users[1].startswith("anon-")


@pytest.mark.anyio
async def test_a_coroutine_too(sink: Sink) -> None:
    """An asynchronous handler delivers before it returns."""
    slow(sink)

    @flushed
    async def handler() -> str:
        trubrics_instrument.track("asked")
        return "answer"

    assert await handler() == "answer"
    assert names(sink) == ["asked"]


def test_the_budget_is_kept(sink: Sink) -> None:
    """A host that hangs costs the answer its budget, and no more."""
    slow(sink)
    sink.script(Reply(200, before=Gate()))

    @flushed(timeout_s=0.2)
    def handler() -> None:
        trubrics_instrument.track("asked")

    start_s = time.monotonic()
    handler()
    assert 0.2 <= time.monotonic() - start_s < 2.0


def test_what_cannot_be_is_said_at_once() -> None:
    """A handler that yields, and an impossible budget."""

    def stream() -> Iterator[int]:
        yield 1

    with pytest.raises(ValueError, match="not for one that yields"):
        flushed(stream)
    with pytest.raises(ValueError, match="0 to 60 seconds, not -1"):
        flushed(timeout_s=-1)
    for wrong in (None, "x"):
        with pytest.raises(ValueError, match=f"0 to 60 seconds, not {wrong!r}"):
            flushed(timeout_s=wrong)  # type: ignore[call-overload] # as an app may
    with pytest.raises(ValueError, match="0 to 60 seconds, not '1'"):
        flush_budget_s("1")  # type: ignore[arg-type] # likewise
    with pytest.raises(ValueError, match="0 to 60 seconds, not True"):
        flush_budget_s(asked_s=True)


def test_the_platform_decides() -> None:
    """Where a process is frozen, an answer waits for a second at most; elsewhere not at all."""
    assert flush_budget_s(environ={}) is None
    assert flush_budget_s(environ={"AWS_LAMBDA_FUNCTION_NAME": "chatbot"}) == 1.0
    assert flush_budget_s(environ={"K_SERVICE": "chatbot"}) == 1.0
    assert flush_budget_s(0, {"K_SERVICE": "chatbot"}) is None
    assert flush_budget_s(3, {}) == 3


@pytest.mark.anyio
async def test_the_end_of_an_asgi_answer_waits(sink: Sink) -> None:
    """The last piece goes out once the events have arrived; the pieces before wait for nothing."""
    slow(sink)
    arrived: list[list[str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        trubrics_instrument.track("asked")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def receive() -> Any:
        raise AssertionError

    async def send(_: Any) -> None:
        arrived.append(names(sink))

    await asgi.TrubricsMiddleware(app, flush_s=5)({"type": "http", "headers": []}, receive, send)
    assert arrived == [[], [], ["asked"]]


def test_the_end_of_a_wsgi_answer_waits(sink: Sink) -> None:
    """A whole body, and the end of a streamed one, wait for the events."""
    slow(sink)

    def whole(environ: Any, start_response: Any) -> Iterable[bytes]:
        trubrics_instrument.track("whole")
        return [b"a"]

    def streamed(environ: Any, start_response: Any) -> Iterable[bytes]:
        trubrics_instrument.track("streamed")
        yield b"a"

    def respond(*_: object) -> None: ...

    assert wsgi.TrubricsMiddleware(whole, flush_s=5)({}, respond) == [b"a"]
    assert names(sink) == ["whole"]
    body = iter(wsgi.TrubricsMiddleware(streamed, flush_s=5)({}, respond))
    assert next(body) == b"a"
    assert names(sink) == ["whole"]
    assert list(body) == []
    assert names(sink) == ["whole", "streamed"]


def test_a_notebook_needs_nothing(sink: Sink) -> None:
    """Cells that run one by one in a living process: each one's events arrive, once."""
    cells = (
        "import os, trubrics_instrument\n"
        "trubrics_instrument.patch_openai(); trubrics_instrument.patch_openai()\n"
        "trubrics_instrument.track('first')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-i", "-q", "-c", cells],
        env={"TRUBRICS_HOST": sink.host, "TRUBRICS_SPOOL": "off", "PYTHON_BASIC_REPL": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as notebook:
        sink.wait_for(1, timeout_s=30)
        assert notebook.stdin
        notebook.stdin.write("trubrics_instrument.track('second')\n")
        notebook.stdin.flush()
        sink.wait_for(2, timeout_s=30)
        notebook.communicate("exit()\n", timeout=30)
    assert names(sink) == ["first", "second"]
