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
_TEXT = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_SHORT = 1 << 63


def encode(body: Mapping[str, object]) -> bytes:
    """Return the body as UTF-8 JSON.

    What JSON knows costs one pass of an encoder in C; only an event that it refuses is walked.
    """
    try:
        return dumps(body)
    except Exception:
        return with_json(plain(body))


def with_json(body: object) -> bytes:
    """Encode with what Python brings: everywhere, and any integer."""
    return _JSON(body).encode()


# No look-out for circles: an event that holds itself ends in a RecursionError, and is walked then.
_JSON = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def _fastest() -> Callable[[object], bytes]:
    """Return the encoder to use: orjson where the app has it, at a tenth of the other's price.

    Whatever `plain` gives, both encode as the same value. What orjson alone would take goes to
    `plain` too, so that an event does not depend on what is installed.
    """
    try:
        import orjson  # noqa: PLC0415 - an extra

        options = (
            orjson.OPT_PASSTHROUGH_DATACLASS
            | orjson.OPT_PASSTHROUGH_DATETIME
            | orjson.OPT_PASSTHROUGH_SUBCLASS
        )
    except Exception:  # none, or one that is too old, or broken
        return with_json

    def with_orjson(body: object) -> bytes:
        # A copy: what it returns holds on to the larger buffer that it was written to.
        return memoryview(orjson.dumps(body, None, options)).tobytes()

    return with_orjson


dumps = _fastest()


def plain(value: object, _path: tuple[int, ...] = ()) -> object:
    """Return the value in JSON's own types: NaN as null, bad surrogates as U+FFFD, else `str()`."""
    # Nearly all that there is, first: it is as it should be, and there is much of it.
    if value is None or value is True or value is False:
        return value
    if type(value) is str and value.isascii():
        return value
    if (type(value) is int and -_SHORT < value < _SHORT) or (
        type(value) is float and math.isfinite(value)
    ):
        return value
    try:
        if isinstance(value, (str, int, float)):
            return _scalar(value)
        if id(value) not in _path and len(_path) < MAX_DEPTH:
            return _compound(value, (*_path, id(value)))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: S110 - even what ends threads: it is only a value
        pass
    return f"<{type(value).__name__}>"


def is_flat(value: Mapping[str, object]) -> bool:
    """Whether `plain` would leave it as it is: numbers, and texts in ASCII."""
    values = value.values()
    if not (_SCALARS.issuperset(map(type, values)) and _TEXT.issuperset(map(type, value))):
        return False
    texts = [item for item in values if type(item) is str]
    numbers = [item for item in values if type(item) is float]
    return all(map(str.isascii, texts)) and all(map(math.isfinite, numbers))


def text_of(value: object) -> str:
    """Return a value as a `str` that UTF-8 can hold, as keys in JSON and on disk must be."""
    if type(value) is str and value.isascii():
        return value
    try:
        return _text(value if isinstance(value, str) else str(value))
    except KeyboardInterrupt:
        raise
    except BaseException:
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
        return {
            (key if type(key) is str and key.isascii() else text_of(key)):
            # Most values are short and ASCII, and a call takes longer than this look.
            (item if item is None or (type(item) is str and item.isascii()) else plain(item, path))
            for key, item in pairs
        }
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


def _text(value: str) -> str:
    """Return an exact `str` that UTF-8 can hold; halves of a pair that stand together join."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return str.__str__(value)


def _integer(value: int) -> object:
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
