"""Which prompt a call belongs to: a new one, or one that goes on or is tried again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._memory import MAX_REMEMBERED, Memory

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


class Told(NamedTuple):
    """Where an answer was told, for a feedback on it, and for whoever goes on from it.

    Attributes:
        words: A digest of its text, for a UI that knows nothing else of it.
        target: The destination of its events; None is the configured one.
    """

    generation_id: str
    user_id: str
    thread_id: str
    prompt_id: str | None = None
    anonymous: bool = False
    words: bytes | None = None
    target: object = None


class Turn:
    """One thing that the user said, and what came of it so far."""

    __slots__ = ("answer", "model_calls", "prompt_id", "thread_id", "tool_calls")

    def __init__(self, prompt_id: str) -> None:
        self.prompt_id = prompt_id
        self.thread_id: str | None = None
        self.model_calls = 0
        self.tool_calls = 0
        self.answer: Told | None = None


class Turns:
    """The turns that may still go on: they wait for tool results, or failed and may be retried."""

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._open: Memory[Turn] = Memory(size)
        self._answers: Memory[Told] = Memory(size)

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

    def answer(self, answer_id: str | None) -> Told | None:
        """Return where an answer was told, if this process has told it."""
        return self._answers.get(answer_id) if answer_id else None

    def answer_with(self, thread_id: str | None, words: bytes) -> Told | None:
        """Return the last answer of a thread with these words."""
        for told in self._answers.latest():
            if told.words == words and told.thread_id == thread_id:
                return told
        return None

    def remember_answer(self, told: Told, *answer_ids: str | None) -> None:
        """Note where an answer was told, under the ids by which it may be asked for."""
        for answer_id in answer_ids:
            if answer_id:
                self._answers.put(answer_id, told)

    def forget_all(self) -> None:
        """Forget every turn."""
        self._open.clear()


def new_turn(prompt_id: str | None = None) -> Turn:
    """Return the turn of something that the user said just now."""
    return Turn(prompt_id or str(uuid.uuid4()))
