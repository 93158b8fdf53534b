"""Responses over a WebSocket: what is sent asks, what is received answers.

One connection has several lanes (`stream_id`); in a lane, answers come in the order of the
questions. Source: openai 2.54 to 3.54, `resources/responses/responses.py`.
"""

from __future__ import annotations

import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._call import ModelCall
from trubrics_instrument._shield import shield
from trubrics_instrument._stream import Recording
from trubrics_instrument.providers.openai._fields import get, get_text, mapping
from trubrics_instrument.providers.openai._request import RESPONSES

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})


def send(
    wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell the prompt of a `response.create` that is sent."""
    recording: Recording | None = None
    with shield("reading what is sent"):
        event = kwargs.get("event", args[0] if args else None)
        if get(event, "type") == "response.create" and _runtime.observing():
            recording = _ask(connection, event)
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        _not_sent(connection, recording, error)
        raise
    if recording is not None and inspect.isawaitable(result):
        return _sent(connection, recording, result)
    return result


async def _sent(connection: Any, recording: Recording, sending: Any) -> Any:
    try:
        return await sending
    except BaseException as error:
        _not_sent(connection, recording, error)
        raise


def _not_sent(connection: Any, recording: Recording | None, error: BaseException) -> None:
    """Tell that a question was not sent: the next answer is to another one."""
    with shield("reading a failure"):
        for waiting in _lanes(connection).values():
            if recording is not None and recording in waiting:
                waiting.remove(recording)
                recording.fail(error)


def parse_event(
    wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Read an event that was received, on its way to the app."""
    event = wrapped(*args, **kwargs)
    with shield("reading what is received"):
        waiting = _lanes(connection).get(get_text(event, "stream_id"))
        if waiting:
            waiting[0].take(event)
            if get_text(event, "type") in _ENDS:
                waiting.popleft().finish()
    return event


def close(
    wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell the answers so far when the app closes the connection, and close it."""
    with shield("closing a connection"):
        for waiting in _lanes(connection).values():
            while waiting:
                waiting.popleft().leave()
    return wrapped(*args, **kwargs)


def _ask(connection: Any, event: Any) -> Recording:
    body = mapping(event) or event.to_dict()
    asked = RESPONSES.asked(body, stream=True)
    call = ModelCall(RESPONSES, asked, _runtime.state().patches["openai"].observer)
    waiting = _lanes(connection).setdefault(get_text(event, "stream_id"), deque())
    recording = Recording(call, RESPONSES.gathering())
    waiting.append(recording)
    call.begin()
    return recording


def _lanes(connection: Any) -> dict[str | None, deque[Recording]]:
    """Return the answers that a connection waits for, by lane; they live as long as it does."""
    lanes: dict[str | None, deque[Recording]] = connection.__dict__.setdefault(
        "_trubrics_recordings", {}
    )
    return lanes
