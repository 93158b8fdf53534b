"""An event as JSON bytes, whatever it holds: a value that JSON cannot hold degrades."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from enum import Enum
from typing import Any, cast

MAX_DEPTH = 32
_SHORT = 1 << 63

_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=True, separators=(",", ":")
).encode


def encode(body: Mapping[str, object]) -> bytes:
    """Return the body as UTF-8 JSON.

    What JSON knows costs one pass of the C encoder; only an event that it refuses is walked.
    """
    try:
        return _dumps(body).encode()
    except Exception:
        return _dumps(plain(body)).encode()


def plain(value: object, _path: tuple[int, ...] = ()) -> object:
    """Return the value in JSON's own types: NaN as null, bad surrogates as U+FFFD, else `str()`."""
    # Nearly all that there is, first: it is as it should be, and there is much of it.
    if value is None or value is True or value is False:
        return value
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, (str, int, float)):
        return _scalar(value)
    if id(value) in _path or len(_path) >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    try:
        return _compound(value, (*_path, id(value)))
    except Exception:
        return f"<{type(value).__name__}>"


def _scalar(value: str | float) -> object:
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _integer(value)


def _compound(value: object, path: tuple[int, ...]) -> object:
    if isinstance(value, (dict, Mapping)):  # asking for a Mapping alone takes thrice as long
        pairs = cast("Mapping[object, object]", value).items()
        return {_name(key): plain(item, path) for key, item in pairs}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, path) for item in cast("list[object]", value)]
    for kind, degrade in _DEGRADED:
        if isinstance(value, kind):
            return plain(degrade(value), path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in dataclasses.fields(value)]
        return {name: plain(getattr(value, name, None), path) for name in names}
    return _foreign(value, path)


def _foreign(value: object, path: tuple[int, ...]) -> object:
    """Read pydantic models and numpy values by their habits; both libraries stay unimported."""
    for habit in ("model_dump", "tolist"):
        method: Callable[[], Any] | None = getattr(type(value), habit, None)
        if callable(method):
            return plain(cast("Any", value).__getattribute__(habit)(), path)
    return _text(str(value))


def _name(key: object) -> str:
    if type(key) is str and key.isascii():
        return key
    return _text(key if isinstance(key, str) else str(key))


def _text(value: str) -> str:
    """Return an exact `str` that UTF-8 can hold; halves of a pair that stand together join."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return str.__str__(value)


def _integer(value: int) -> object:
    if type(value) is int and -_SHORT < value < _SHORT:
        return value
    try:
        return int(repr(int(value)))
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return f"<{type(value).__name__}>"


def _octets(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<{len(value)} bytes>"


_DEGRADED: tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...] = (
    (Enum, lambda value: value.value),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    ((bytes, bytearray, memoryview), lambda value: _octets(bytes(value))),
)
