"""Which prompt a call belongs to: a new one, or one that goes on or is tried again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from trubrics_instrument._memory import MAX_REMEMBERED, Memory

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


class Turn:
    """One thing that the user said, and what came of it so far."""

    __slots__ = ("model_calls", "prompt_id", "thread_id", "tool_calls")

    def __init__(self, prompt_id: str) -> None:
        self.prompt_id = prompt_id
        self.thread_id: str | None = None
        self.model_calls = 0
        self.tool_calls = 0


class Turns:
    """The turns that may still go on: they wait for tool results, or failed and may be retried."""

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._open: Memory[Turn] = Memory(size)

    def find(self, keys: Iterable[Hashable]) -> Turn | None:
        """Return the turn that is known under one of these names."""
        return next((turn for key in keys if (turn := self._open.get(key))), None)

    def take(self, key: Hashable) -> Turn | None:
        """Return the turn that is known under this name, which then is free again."""
        return self._open.pop(key)

    def remember(self, turn: Turn, keys: Iterable[Hashable]) -> None:
        """Keep a turn under the names by which a later call will ask for it."""
        for key in keys:
            self._open.put(key, turn)

    def forget_all(self) -> None:
        """Forget every turn."""
        self._open.clear()


def new_turn(prompt_id: str | None = None) -> Turn:
    """Return the turn of something that the user said just now."""
    return Turn(prompt_id or str(uuid.uuid4()))
