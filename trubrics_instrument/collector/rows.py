"""One stored event: what the table's columns hold, and how they follow from the properties."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple, cast

from trubrics_instrument import _events

if TYPE_CHECKING:
    from collections.abc import Mapping

PROMPT = "prompt"
GENERATION = "generation"
TOOL_CALL = "tool_call"
FAILURE = "failure"
FEEDBACK = "feedback"
OTHER = "other"

_KINDS = {
    _events.PROMPT: PROMPT,
    _events.GENERATION: GENERATION,
    _events.TOOL_CALL: TOOL_CALL,
    _events.GENERATION_FAILED: FAILURE,
    _events.FEEDBACK: FEEDBACK,
}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_LARGEST_EXACT = 2.0**53
ID_PROPERTIES = {
    "$thread_id": "thread_id",
    "$assistant_id": "assistant_id",
    "$prompt_id": "prompt_id",
    "$generation_id": "generation_id",
}


class Row(NamedTuple):
    """A row of the `events` table, without its `id`.

    Attributes:
        event_id: The sender's name for this event; the same one is stored once.
        kind: What the event is in a conversation, whatever it is called: one of the names above.
        timestamp: UTC, ISO 8601 with milliseconds and `Z`, so that text order is time order.
        properties: JSON of every property that has no column of its own under its `$` name.
    """

    event_id: str | None
    user_id: str
    event: str
    kind: str
    timestamp: str
    text: str | None
    thread_id: str | None
    assistant_id: str | None
    prompt_id: str | None
    generation_id: str | None
    latency_s: float | None
    tokens: int | None
    cost_usd: float | None
    properties: str


# What a SELECT asks for to get a Row.
COLUMNS = ", ".join(Row._fields)


def to_row(user_id: str, event: str, timestamp: str, properties: Mapping[str, object]) -> Row:
    """Return the row of one valid event.

    Raises:
        RecursionError: The properties are nested too deeply.
    """
    rest = dict(properties)
    text = rest.pop("$text") if isinstance(rest.get("$text"), str) else None
    thread_id = _take_id(rest, "$thread_id")
    assistant_id = _take_id(rest, "$assistant_id")
    prompt_id = _take_id(rest, "$prompt_id")
    generation_id = _take_id(rest, "$generation_id")
    event_id = rest.get("event_id")
    kind = _KINDS.get(event) or _tell_kind(
        rest,
        has_text=text is not None,
        asked=bool(thread_id or prompt_id),
        generated=bool(generation_id),
        by_assistant=bool(assistant_id),
    )
    return Row(
        clean(event_id) if isinstance(event_id, str) and event_id else None,
        clean(user_id),
        clean(event),
        kind,
        timestamp,
        clean(text) if isinstance(text, str) else None,
        thread_id,
        assistant_id,
        prompt_id,
        generation_id,
        _amount(rest.get("latency")),
        _tokens(rest),
        _amount(rest.get("cost_usd")),
        _to_json(rest),
    )


def to_properties(row: Row) -> dict[str, object]:
    """Return the properties as they arrived, with the `$` ones."""
    properties = cast("dict[str, object]", json.loads(row.properties))
    if row.text is not None:
        properties["$text"] = row.text
    for name, column in ID_PROPERTIES.items():
        value: str | None = getattr(row, column)
        if value is not None:
            properties[name] = value
    return properties


def clean(text: str) -> str:
    """Replace lone surrogates, which JSON can carry and no database or page can."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _take_id(properties: dict[str, object], name: str) -> str | None:
    value = properties.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    del properties[name]
    return clean(value)


def _tell_kind(
    properties: Mapping[str, object],
    *,
    has_text: bool,
    asked: bool,
    generated: bool,
    by_assistant: bool,
) -> str:
    """Event names can be changed by the app, so an unknown name is told by what it carries."""
    signs = {
        FAILURE: properties.get("status") == "error",
        TOOL_CALL: "tool_name" in properties,
        FEEDBACK: "score" in properties and generated,
        GENERATION: has_text and (generated or by_assistant),
        PROMPT: has_text and asked,
    }
    return next((kind for kind, shown in signs.items() if shown), OTHER)


def _amount(value: object) -> float | None:
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _LARGEST_EXACT else None


def _tokens(properties: Mapping[str, object]) -> int | None:
    total = _amount(properties.get("total_tokens"))
    if total is not None:
        return int(total)
    asked = _amount(properties.get("input_tokens"))
    answered = _amount(properties.get("output_tokens"))
    if asked is None and answered is None:
        return None
    return int((asked or 0) + (answered or 0))


def _to_json(properties: dict[str, object]) -> str:
    try:
        text = _encode(properties)
    except ValueError:
        text = _encode(_without_infinity(properties))
    return clean(text)


def _without_infinity(value: object) -> object:
    """`1e999` is JSON and becomes infinity in Python, which is not JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        return {key: _without_infinity(item) for key, item in items.items()}
    if isinstance(value, list):
        return [_without_infinity(item) for item in cast("list[object]", value)]
    return value
