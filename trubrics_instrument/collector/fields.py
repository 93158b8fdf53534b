"""Reading the fields of one entry of a body, and saying as FastAPI would what is wrong."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypedDict, cast

from trubrics_instrument.collector.rows import ID_PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NAME_CHARS = 1_000
MAX_DEPTH = 100  # SQLite's JSON functions stop at 1000, Python's somewhere below
_CONTAINERS = (dict, list)
MAX_LATENCY_S = 365 * 24 * 3600.0

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,12}))?([Zz]|[+-]\d\d:?\d\d)?",
    re.ASCII,
)


class Problem(TypedDict):
    """One entry of `detail`: where, in words, and FastAPI's name for it."""

    loc: list[str | int]
    msg: str
    type: str


def problem(location: tuple[str | int, ...], msg: str, kind: str) -> Problem:
    """Return one entry of `detail`."""
    return {"loc": list(location), "msg": msg, "type": kind}


def parse_timestamp(text: str) -> datetime:
    """Read ISO 8601, with any offset; no offset means UTC.

    Raises:
        ValueError: It is no moment in time.
    """
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise ValueError("not ISO 8601")
    day, minute, second, fraction, offset = match.groups()
    if not offset or offset in "Zz":
        offset = "+00:00"
    elif ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    micros = ((fraction or "") + "000000")[:6]
    moment = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}.{micros}{offset}")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError("out of range") from error


def to_timestamp(moment: datetime) -> str:
    """Return the stored form: UTC, ISO 8601 with milliseconds and `Z`."""
    utc = moment.astimezone(timezone.utc)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Fields:
    """The fields of one entry; what is wrong with them adds up in `problems`."""

    def __init__(self, entry: Mapping[str, object], location: tuple[str | int, ...]) -> None:
        self._entry = entry
        self._location = location
        self.problems: list[Problem] = []

    def refuse(self, name: str, msg: str, kind: str) -> None:
        """Note that `name` (dots lead into properties) cannot be taken."""
        self.problems.append(problem((*self._location, *name.split(".", 1)), msg, kind))

    def text(self, name: str) -> str:
        """Return a required string of any length."""
        if name not in self._entry:
            self.refuse(name, "Field required", "missing")
            return ""
        value = self._entry[name]
        if not isinstance(value, str):
            self.refuse(name, "Input should be a valid string", "string_type")
            return ""
        return value

    def name(self, name: str, default: str | None = None) -> str:
        """Return a string that is used as a key, required unless there is a default."""
        if default is not None and self._entry.get(name) is None:
            return default
        value = self.text(name)
        self._check_length(name, value)
        return value

    def optional_name(self, name: str) -> str | None:
        """Return a string that is used as a key, or None."""
        return None if self._entry.get(name) is None else self.name(name)

    def time(self, name: str, default: datetime | None = None) -> datetime | None:
        """Return a moment in UTC, required unless there is a default; None if it is refused."""
        if default is not None and self._entry.get(name) is None:
            return default
        before = len(self.problems)
        value = self.text(name)
        if len(self.problems) > before:
            return None
        try:
            return parse_timestamp(value)
        except ValueError:
            self.refuse(name, "Input should be a valid datetime", "datetime_parsing")
            return None

    def seconds(self, name: str) -> float | None:
        """Return an optional duration."""
        value = self._entry.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(name, "Input should be a valid number", "float_type")
            return None
        if not 0 <= value <= MAX_LATENCY_S:
            self.refuse(name, "Input should be between 0 and a year", "out_of_range")
            return None
        return float(value)

    def properties(self) -> dict[str, object]:
        """Return the optional properties."""
        value = self._entry.get("properties")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.refuse("properties", "Input should be a valid dictionary", "dict_type")
            return {}
        properties = cast("dict[str, object]", value)
        for name in (*ID_PROPERTIES, "event_id"):
            held = properties.get(name)
            if isinstance(held, str):
                self._check_length(f"properties.{name}", held)
        if not _is_shallow(properties, MAX_DEPTH):
            self.refuse("properties", "Nested too deeply", "recursion_loop")
        return properties

    def _check_length(self, name: str, value: str) -> None:
        if len(value) > MAX_NAME_CHARS:
            wording = f"String should have at most {MAX_NAME_CHARS} characters"
            self.refuse(name, wording, "string_too_long")


def _is_shallow(value: object, depth: int) -> bool:
    children: Iterable[object]
    if isinstance(value, dict):
        children = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        children = cast("list[object]", value)
    else:
        return True
    if depth == 0:
        return False
    # Nearly every value is a scalar, and these need no call of their own.
    nested = [child for child in children if child.__class__ in _CONTAINERS]
    return all(_is_shallow(child, depth - 1) for child in nested)
