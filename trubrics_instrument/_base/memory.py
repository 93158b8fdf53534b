"""A bounded memory that needs no lock."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

MAX_REMEMBERED = 10_000

V = TypeVar("V")


class Memory(Generic[V]):
    """A bounded map that forgets what was used least recently.

    Each step is one atomic operation of an `OrderedDict`: no lock, so that it may be used while
    the garbage collector runs.
    """

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> V | None:
        """Return what is remembered under `key`, and keep it for longer."""
        entries = self._entries
        value = entries.get(key)
        if value is None:
            return None
        try:
            entries.move_to_end(key)
        except KeyError:  # another thread has just forgotten it
            return None
        return value

    def put(self, key: Hashable, value: V) -> tuple[Hashable, V] | None:
        """Remember `value` under `key`, and return what is forgotten for it, with its key."""
        entries = self._entries
        entries[key] = value
        try:
            entries.move_to_end(key)
            return entries.popitem(last=False) if len(entries) > self._size else None
        except KeyError:  # another thread has just forgotten it, or everything
            return None

    def first(self, key: Hashable, value: V) -> V:
        """Return what was remembered first under `key`: `value`, if there is nothing yet."""
        kept = self._entries.setdefault(key, value)
        self.put(key, kept)
        return kept

    def pop(self, key: Hashable) -> V | None:
        """Return what is remembered under `key`, and forget it."""
        return self._entries.pop(key, None)

    def latest(self) -> list[V]:
        """Return all that is remembered, what was used last first."""
        return list(self._entries.values())[::-1]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
