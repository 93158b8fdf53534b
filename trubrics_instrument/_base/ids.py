"""Ids that an app gives: whatever they are, a str of at most 512 characters, or nothing."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable
from typing import Any

from trubrics_instrument._base.shield import shield

MAX_ID_CHARS = 512
_CUT = "…"
_DIGEST_CHARS = 16
_KEPT_CHARS = MAX_ID_CHARS - _DIGEST_CHARS - len(_CUT)

# The end of an id that is hardly given twice. Some hosts count, "functions.get_weather:0", or have
# none, and then the tool's name stands for it; others put whole signatures into them.
_END_CHARS = 64
_RANDOM = re.compile(r"(?=[A-Za-z]*[0-9])[0-9A-Za-z]{12,}$")


def clean_id(value: object) -> str | None:
    """Return an id as a str of at most 512 characters; None if there is nothing in it.

    What was not awaited or not called, and an object without a text of its own, is none. A longer
    one is cut and marked: its end is "…" and a digest of the whole, so that two ids that
    begin alike stay two.
    """
    if value is None:
        return None
    if type(value) is str and len(value) <= MAX_ID_CHARS:
        return value if value.strip() else None
    with shield("reading an id"):
        # By what it says that it is: a proxy (werkzeug's) has the methods of everything.
        kind = value.__class__
        if issubclass(kind, Awaitable) or inspect.isroutine(value) or _is_nameless(kind):
            raise TypeError("an object that has no text of its own would be another id each time")
        text = str(value)
        if len(text) <= MAX_ID_CHARS:
            return text if text.strip() else None
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        return text[:_KEPT_CHARS] + _CUT + digest[:_DIGEST_CHARS]
    return None


def _is_nameless(kind: Any) -> bool:
    """Whether all that an object of a kind says of itself is where in memory it lies."""
    return kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__


def is_random(given_id: str) -> bool:
    """Whether an id, of whichever host, ends with something random, as OpenAI's do."""
    return _RANDOM.search(given_id[-_END_CHARS:]) is not None


def is_cut(known_id: str) -> bool:
    """Whether an id was cut by `clean_id`."""
    return len(known_id) == MAX_ID_CHARS and known_id[_KEPT_CHARS] == _CUT
