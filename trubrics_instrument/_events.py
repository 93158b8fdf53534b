"""An event, and its form on the wire: the names of all that is sent."""

from __future__ import annotations

from datetime import datetime, timezone
from difflib import get_close_matches
from functools import lru_cache
from math import floor
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

PROMPT = "Prompt"
GENERATION = "Generation"
TOOL_CALL = "Tool call"
GENERATION_FAILED = "Generation failed"
FEEDBACK = "Feedback"
EVENT_NAMES = (PROMPT, GENERATION, TOOL_CALL, GENERATION_FAILED, FEEDBACK)
TEXT = "$text"
IDS = frozenset({"$thread_id", "$assistant_id", "$prompt_id", "$generation_id"})
OF_DELIVERY = frozenset({"source", "event_id"})
# What observers fill with names of models, tools and classes: text, and nobody's words.
NAMING = frozenset(
    {
        *("model", "response_model", "provider", "operation", "framework", "attachments"),
        *("status", "finish_reason", "error_type", "tool_name", "tool_call_id"),
    }
)
# Those of them that a server words as it likes.
SERVERS_WORDS = ("response_model", "finish_reason", "error_type")
# What is told of a question and its answer: an app's own property of that name would be a lie,
# on the event that has no such fact. Trubrics' own begin with "$".
OUR_NAMES = (
    NAMING
    | OF_DELIVERY
    | {
        *("stream", "latency", "time_to_first_token", "cost_usd"),
        *("input_tokens", "output_tokens", "total_tokens"),
        *("cached_input_tokens", "reasoning_tokens"),
        *("model_calls", "tool_calls", "documents", "cached"),
        *("text_truncated", "anonymous", "thread_inferred", "id_truncated"),
        *("regenerated", "score"),
    }
)


class Event(NamedTuple):
    """Something that happened in a conversation; absent facts are None, never 0 or "".

    Attributes:
        name: One of `EVENT_NAMES`, or the app's own name.
        user_id: Who it happened to; None if nobody is known.
        time_s: When, in seconds since the epoch.
        text: What was said.
        thread_id: The conversation.
        assistant_id: The assistant, typically the model's name.
        prompt_id: The user's message.
        generation_id: The assistant's message.
        properties: Everything else: flat, snake_case, JSON scalars.
    """

    name: str
    user_id: str | None
    time_s: float
    text: str | None = None
    thread_id: str | None = None
    assistant_id: str | None = None
    prompt_id: str | None = None
    generation_id: str | None = None
    properties: Mapping[str, object] | None = None


class WireEvent(TypedDict):
    """One event as `publish_event` takes it; `publish_events` takes an array of 1 to 100.

    Source: Trubrics documentation, "Track events" (app.trubrics.com/api/ingestion).
    """

    user_id: str
    event: str
    timestamp: str
    properties: dict[str, object]


def own_properties(*said: Mapping[str, object] | None) -> dict[str, object]:
    """Return what an app has said of an event, the last word last, without the names of ours."""
    return {
        key: value
        for properties in said
        for key, value in (properties or {}).items()
        if not _is_ours(key)
    }


def check_names(name: str, properties: Mapping[str, object] | None) -> None:
    """Raise ValueError if the properties of every event have a name of ours."""
    for key in properties or {}:
        if _is_ours(key):
            raise ValueError(
                f"{name}: {key!r} is a name of ours (docs/reference/events.md): choose another"
            )


def check_new_names(name: str, new_names: Mapping[str, str | None] | None) -> None:
    """Raise ValueError if what gets a new name is nearly one of our events, and none of them."""
    for event in (new_names or {}).keys() - EVENT_NAMES:
        alike = str(event).replace("_", " ").capitalize()
        for meant in get_close_matches(alike, EVENT_NAMES, n=1, cutoff=0.9):
            raise ValueError(f"{name}: {event!r} is no event that is sent: is it {meant!r}?")


def _is_ours(key: object) -> bool:
    return key in OUR_NAMES or (isinstance(key, str) and key.startswith("$"))


def to_wire(
    event: Event, user_id: str, own: Mapping[str, object], name: str | None = None
) -> WireEvent:
    """Return the event's wire form, with this user and these properties; `name` is its new name."""
    known, _, time_s, text, thread_id, assistant_id, prompt_id, generation_id, _ = event
    properties: dict[str, object] = {}
    if text is not None:
        properties["$text"] = text
    if thread_id is not None:
        properties["$thread_id"] = thread_id
    if assistant_id is not None:
        properties["$assistant_id"] = assistant_id
    if prompt_id is not None:
        properties["$prompt_id"] = prompt_id
    if generation_id is not None:
        properties["$generation_id"] = generation_id
    for key, value in own.items():
        if value is not None:
            properties[key] = value  # noqa: PERF403 - one copy instead of two
    return {
        "user_id": user_id,
        "event": name or known,
        "timestamp": iso_time(time_s),
        "properties": properties,
    }


def iso_time(time_s: float) -> str:
    """Return seconds since the epoch as UTC, ISO 8601 with milliseconds and `Z`."""
    second = floor(time_s)
    # To the microsecond first, as `datetime` does it: 0.29 s are 290 ms, not 289.
    millisecond = round((time_s - second) * 1e6) // 1000
    if millisecond >= _SECOND_MS:
        second, millisecond = second + 1, 0
    return f"{_iso_second(second)}.{millisecond:03d}Z"


_SECOND_MS = 1000


@lru_cache(maxsize=64)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
