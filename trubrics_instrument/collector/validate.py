"""What the ingestion endpoints accept: from a request's body to rows, or to what is wrong."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

from trubrics_instrument._events import GENERATION, PROMPT
from trubrics_instrument.collector.fields import Fields, Problem, problem, to_timestamp
from trubrics_instrument.collector.rows import Row, to_row

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_EVENTS = 100
ASSUMED_LATENCY_S = 1.0  # Source: the official SDK's docstring of `latency`, trubrics 1.8.5


class InvalidBodyError(Exception):
    """The request's body is not what the endpoint takes; `detail` says where."""

    def __init__(self, detail: list[Problem]) -> None:
        super().__init__(detail)
        self.detail = detail


def read_event(body: bytes) -> list[Row]:
    """Return the row of a `publish_event` body.

    Raises:
        InvalidBodyError: Something in it is not as documented.
    """
    return _read([_parse(body)], [("body",)], _event_rows)


def read_events(body: bytes) -> list[Row]:
    """Return the rows of a `publish_events` body, an array of up to 100.

    Raises:
        InvalidBodyError: Something in it is not as documented; then nothing of it is stored.
    """
    return _read_array(body, _event_rows)


def read_llm_events(body: bytes) -> list[Row]:
    """Return a Prompt and a Generation for each entry of a `publish_llm_events` body.

    Raises:
        InvalidBodyError: Something in it is not as documented; then nothing of it is stored.
    """
    return _read_array(body, _llm_rows)


def _parse(body: bytes) -> object:
    try:
        # NaN is not JSON, but Python's own json writes it: to null, as our sender would.
        return json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        refusal = problem(("body",), "JSON decode error", "json_invalid")
        raise InvalidBodyError([refusal]) from error


def _read_array(body: bytes, to_rows: Callable[[Fields], list[Row]]) -> list[Row]:
    value = _parse(body)
    if not isinstance(value, list):
        raise InvalidBodyError([problem(("body",), "Input should be a valid list", "list_type")])
    entries = cast("list[object]", value)
    # An empty array is taken: the official Python SDK posts one when it has only the other sort.
    if len(entries) > MAX_EVENTS:
        wording = f"List should have at most {MAX_EVENTS} items, not {len(entries)}"
        raise InvalidBodyError([problem(("body",), wording, "too_long")])
    return _read(entries, [("body", index) for index in range(len(entries))], to_rows)


def _read(
    entries: list[object],
    locations: list[tuple[str | int, ...]],
    to_rows: Callable[[Fields], list[Row]],
) -> list[Row]:
    problems: list[Problem] = []
    rows: list[Row] = []
    for entry, location in zip(entries, locations, strict=True):
        if not isinstance(entry, dict):
            problems.append(problem(location, "Input should be a valid dictionary", "dict_type"))
            continue
        fields = Fields(cast("dict[str, object]", entry), location)
        rows += to_rows(fields)
        problems += fields.problems
    if problems:
        raise InvalidBodyError(problems)
    return rows


def _event_rows(fields: Fields) -> list[Row]:
    user_id, event = fields.name("user_id"), fields.name("event")
    moment, properties = fields.time("timestamp"), fields.properties()
    if fields.problems or moment is None:
        return []
    return [to_row(user_id, event, to_timestamp(moment), properties)]


def _llm_rows(fields: Fields) -> list[Row]:
    user_id = fields.name("user_id")
    prompt, generation = fields.text("prompt"), fields.text("generation")
    prompt_event = fields.name("prompt_event_name", PROMPT)
    generation_event = fields.name("generation_event_name", GENERATION)
    shared = fields.properties()
    _set_present(shared, "$thread_id", fields.optional_name("thread_id"))
    assistant_id = fields.optional_name("assistant_id")
    moment = fields.time("timestamp", datetime.now(timezone.utc))
    latency_s = fields.seconds("latency")
    if fields.problems or moment is None:
        return []
    prompt_id, generation_id = str(uuid.uuid4()), str(uuid.uuid4())
    asked = {**shared, "$text": prompt, "$prompt_id": prompt_id}
    answered = {**asked, "$text": generation, "$generation_id": generation_id}
    _set_present(answered, "$assistant_id", assistant_id)
    _set_present(answered, "latency", latency_s)
    if isinstance(shared.get("event_id"), str):
        asked["event_id"] = f"{shared['event_id']}:prompt"
    asked_at = _before(moment, ASSUMED_LATENCY_S if latency_s is None else latency_s)
    return [
        to_row(user_id, prompt_event, to_timestamp(asked_at), asked),
        to_row(user_id, generation_event, to_timestamp(moment), answered),
    ]


def _set_present(properties: dict[str, object], name: str, value: object) -> None:
    if value is not None:
        properties[name] = value


def _before(moment: datetime, seconds: float) -> datetime:
    try:
        return moment - timedelta(seconds=seconds)
    except OverflowError:
        return moment
