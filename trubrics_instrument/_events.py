"""An event, and its form on the wire: the only file that knows Trubrics' field names."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

PROMPT = "Prompt"
GENERATION = "Generation"
TOOL_CALL = "Tool call"
GENERATION_FAILED = "Generation failed"
FEEDBACK = "Feedback"
EVENT_NAMES = (PROMPT, GENERATION, TOOL_CALL, GENERATION_FAILED, FEEDBACK)


class Event(NamedTuple):
    """Something that happened in a conversation; absent facts are None, never 0 or "".

    Attributes:
        name: One of `EVENT_NAMES`, or the app's own name.
        user_id: Who it happened to.
        time_s: When, in seconds since the epoch.
        text: What was said.
        thread_id: The conversation.
        assistant_id: The assistant, typically the model's name.
        prompt_id: The user's message.
        generation_id: The assistant's message.
        properties: Everything else: flat, snake_case, JSON scalars.
    """

    name: str
    user_id: str
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


_WIRE_FIELDS = (
    ("$text", "text"),
    ("$thread_id", "thread_id"),
    ("$assistant_id", "assistant_id"),
    ("$prompt_id", "prompt_id"),
    ("$generation_id", "generation_id"),
)


def to_wire(event: Event, name: str | None = None) -> WireEvent:
    """Return the event's wire form, under `name` if its name was changed."""
    properties: dict[str, object] = {}
    for wire_name, field in _WIRE_FIELDS:
        value = getattr(event, field)
        if value is not None:
            properties[wire_name] = value
    own = event.properties or {}
    properties.update({key: value for key, value in own.items() if value is not None})
    return {
        "user_id": event.user_id,
        "event": name or event.name,
        "timestamp": iso_time(event.time_s),
        "properties": properties,
    }


def iso_time(time_s: float) -> str:
    """Return seconds since the epoch as UTC, ISO 8601 with milliseconds and `Z`."""
    moment = datetime.fromtimestamp(time_s, tz=timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
