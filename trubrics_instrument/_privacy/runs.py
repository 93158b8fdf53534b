"""The long runs of a text, found at a nanosecond a character: only there can a key or token be."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._privacy.key_kinds import KEY_ALPHABET, KEY_CHARS, KEYS
from trubrics_instrument._privacy.secret_kinds import BEARER_CHARS, TOKEN_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trubrics_instrument._privacy.recogniser import Recogniser

# Masked, a text is "x" where a key may be and " " elsewhere: then one search finds a long run.
_MASK = bytes(ord("x" if chr(code) in KEY_ALPHABET else " ") for code in range(256))
_LONG = b"x" * TOKEN_CHARS
# Most prefixes have a character that few runs have; the search for one is the cheapest of all.
_MARKS = "-_./:"


class Runs(NamedTuple):
    """What is known of a text's long runs.

    Attributes:
        keys: The runs that are as long as a key, one a line.
        before: What stands before each run that is as long as a token, one a line.
    """

    keys: str
    before: str


def long_runs(text: str) -> Runs | None:
    """Return the long runs of a text; None if there are none."""
    if len(text) < TOKEN_CHARS:
        return None
    # One byte for each character, so that a place in the mask is a place in the text.
    mask = text.encode("ascii", "replace").translate(_MASK)
    if mask.rfind(_LONG) < 0:  # half to a third of what `find` takes
        return None
    start = mask.find(_LONG)
    keys: list[str] = []
    before: list[str] = []
    while start >= 0:
        end = mask.find(b" ", start)
        end = len(mask) if end < 0 else end
        if end - start >= KEY_CHARS:
            keys.append(text[start:end])
        before.append(text[max(0, start - BEARER_CHARS) : start])
        start = mask.find(_LONG, end)
    return Runs("\n".join(keys), "\n".join(before))


def keys_that_may_be_in(runs: str) -> Sequence[Recogniser]:
    """Return the kinds of key whose prefix is in the runs, in the order of `KEYS`."""
    found = [
        (place, key)
        for mark, keys in _KEYS_BY_MARK.items()
        if mark in runs
        for prefix, place, key in keys
        if prefix in runs
    ]
    return [key for _, key in sorted(found)] if found else ()


def _by_mark() -> dict[str, list[tuple[str, int, Recogniser]]]:
    """Return the keys by the mark that their prefix has; "", which is in every run, if none."""
    by_mark: dict[str, list[tuple[str, int, Recogniser]]] = defaultdict(list)
    for place, key in enumerate(KEYS):
        (prefix,) = key.gates
        by_mark[next((mark for mark in _MARKS if mark in prefix), "")].append((prefix, place, key))
    return dict(by_mark)


_KEYS_BY_MARK = _by_mark()
