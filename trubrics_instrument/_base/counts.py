"""Counts: what somebody else's software says it counted, and what we count of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def count_in(*values: object) -> int | None:
    """Return the first of the values that is a count: an int, and no bool."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def counted(kinds: Iterable[str | None]) -> str | None:
    """Return how many there are of each kind, such as "image:2,file:1"; None if there are none."""
    counts = Counter(kind for kind in kinds if kind)
    return ",".join(f"{kind}:{count}" for kind, count in sorted(counts.items())) or None
