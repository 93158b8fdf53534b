"""The models of one turn: which were asked, which are at work, and what they answered."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from trubrics_instrument._observing.reader import Usage
    from trubrics_instrument.langchain.outcome import ModelAnswer

_ANSWERS_KEPT = 16


class Models:
    """What is known of them so far; several may be at work at once, in several threads.

    Attributes:
        answers: What they answered, the latest last.
        usages: The tokens of each that says so.
    """

    def __init__(self) -> None:
        self.answers: deque[ModelAnswer] = deque(maxlen=_ANSWERS_KEPT)
        self.usages: list[Usage] = []
        self._asked: list[Hashable] = []
        self._names: set[str | None] = set()
        self._at_work: dict[Hashable, None] = {}

    @property
    def at_work(self) -> bool:
        """Whether one is at work."""
        return bool(self._at_work)

    @property
    def asked(self) -> int:
        """How many calls there were."""
        return len(self._asked)

    @property
    def are_several(self) -> bool:
        """Whether not all calls were of one model."""
        return len(self._names) > 1

    def started(self, key: Hashable, name: str | None) -> None:
        """Take note of a call of the model of this name."""
        self._at_work[key] = None
        self._asked.append(key)
        self._names.add(name)

    def answered(self, usage: Usage, answer: ModelAnswer | None) -> None:
        """Take note of what is known of an answer."""
        self.usages.append(usage)
        if answer is not None:
            self.answers.append(answer)

    def ended(self, key: Hashable) -> None:
        """Take note of the end of a call."""
        self._at_work.pop(key, None)

    def words(self) -> list[str | None]:
        """Return what they said, the latest first; None for an answer without words."""
        return [answer.choice.text for answer in reversed(self.answers)]
