"""Responses over a WebSocket: what is sent asks, what is received answers.

One connection has several lanes (`stream_id`); in a lane, answers come in the order of the
questions. What is sent may go through the connection, through its manager (which queues it until
it connects), or through a lane of a session. Source: openai 2.54 to 3.57,
`resources/responses/responses.py`, `lib/responses_websocket/_session.py`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from trubrics_instrument import _runtime
from trubrics_instrument._call import ModelCall
from trubrics_instrument._shield import shield
from trubrics_instrument._stream import Recording
from trubrics_instrument.providers.openai._fields import get, get_text, mapping
from trubrics_instrument.providers.openai._request import RESPONSES

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_MAX_AWAITED = 1_000
_NOTED = "_trubrics_awaited"
# The manager's is private to its class, so there is something before that.
_QUEUE = "_send_queue"


def send(
    wrapped: Callable[..., Any], sender: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell the prompt of a `response.create` that is sent, or queued until it can be."""
    question: _Question | None = None
    with shield("reading what is sent"):
        event = kwargs.get("event", args[0] if args else None)
        if get(event, "type") == "response.create":
            # First of all: one that cannot be read keeps its place before the next one.
            question = _await(sender, event)
            if _runtime.observing():
                _ask(question, event)
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        _not_sent(sender, question, error)
        raise
    if question is not None and inspect.isawaitable(result):
        return _sent(sender, question, result)
    return result


async def _sent(sender: Any, question: _Question, sending: Any) -> Any:
    try:
        return await sending
    except BaseException as error:
        _not_sent(sender, question, error)
        raise


def _not_sent(sender: Any, question: _Question | None, error: BaseException) -> None:
    """Tell that a question was not sent: the next answer is to another one."""
    with shield("reading a failure"):
        if question is not None and _awaited(sender).drop(question) and question.recording:
            question.recording.fail(error)


def parse_event(
    wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Read an event that was received, on its way to the app."""
    event = wrapped(*args, **kwargs)
    with shield("reading what is received"):
        awaited = _awaited(connection)
        question = awaited.next_of(get_text(event, "stream_id"))
        if question is not None:
            recording = question.recording
            if recording is not None:
                recording.take(event)
            if get_text(event, "type") in _ENDS and awaited.drop(question) and recording:
                recording.finish()
    return event


def close(
    wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell the answers so far when the app closes the connection, and close it."""
    with shield("closing a connection"):
        _awaited(connection).leave()
    return wrapped(*args, **kwargs)


class _Question:
    """One that waits for its answer; without a recording, it is told to nobody."""

    __slots__ = ("lane", "recording")

    def __init__(self, lane: str | None) -> None:
        self.lane = lane
        self.recording: Recording | None = None


class _Awaited:
    """The questions of a connection that wait for their answers, in their order; they end with it.

    One that is never closed is finalised wherever the garbage collector runs, where nothing may
    wait for a lock; and another thread may ask while this one reads.
    """

    def __init__(self) -> None:
        self._questions: list[_Question] = []

    def add(self, question: _Question) -> None:
        """Take note of a question; an app that reads no answers waits for the latest ones only."""
        self._questions.append(question)
        if len(self._questions) > _MAX_AWAITED:
            _leave(self._questions.pop(0))

    def next_of(self, lane: str | None) -> _Question | None:
        """Return the question that is answered next in a lane."""
        return next((one for one in self._questions if one.lane == lane), None)

    def drop(self, question: _Question) -> bool:
        """Wait for an answer no longer; False if nobody did."""
        try:
            self._questions.remove(question)
        except ValueError:
            return False
        return True

    def leave(self, *, quiet: bool = False) -> None:
        """Tell the answers so far."""
        while self._questions:
            _leave(self._questions.pop(0), quiet=quiet)

    def __del__(self) -> None:
        self.leave(quiet=True)


def _leave(question: _Question, *, quiet: bool = False) -> None:
    if question.recording is not None:
        question.recording.leave(quiet=quiet)


def _await(sender: Any, event: Any) -> _Question:
    # A lane of a session names itself; the event need not.
    lane = get_text(event, "stream_id") or get_text(get(sender, "_state"), "stream_id")
    question = _Question(lane)
    _awaited(sender).add(question)
    return question


def _ask(question: _Question, event: Any) -> None:
    body = mapping(event) or event.to_dict()
    asked = RESPONSES.asked(body, stream=True)
    call = ModelCall(RESPONSES, asked, _runtime.state().patches["openai"].observer)
    question.recording = Recording(call, RESPONSES.gathering())
    call.begin()


def _awaited(sender: Any) -> _Awaited:
    """Return what the connection behind a sender waits for: a manager, a lane, or itself.

    A manager is there before its connection; what both have is the queue of what is to be sent.
    """
    known = _fields_of(sender)
    if _NOTED not in known:
        connection = getattr(known.get("_session"), "connection", sender)
        parts = _fields_of(connection)
        queue = next((name for name in parts if name.endswith(_QUEUE)), None)
        shared = _fields_of(parts[queue] if queue else connection)
        known[_NOTED] = shared.setdefault(_NOTED, _Awaited())
    awaited: _Awaited = known[_NOTED]
    return awaited


def _fields_of(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", vars(value))
