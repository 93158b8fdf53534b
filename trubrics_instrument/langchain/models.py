"""The models of one turn: which were asked, which are at work, and what they answered."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from trubrics_instrument.langchain.reader import sum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from trubrics_instrument._observing.reader import Usage
    from trubrics_instrument.langchain.outcome import ModelAnswer

_ANSWERS_KEPT = 16
_NUMBERS_KEPT = 64

N = TypeVar("N")


class Models:
    """What is known of them so far; several may be at work at once, in several threads.

    Attributes:
        answers: What they answered, the latest last.
        have_failed: Whether one of them failed without a word.
    """

    def __init__(self) -> None:
        self.answers: deque[ModelAnswer] = deque(maxlen=_ANSWERS_KEPT)
        self.have_failed = False
        self._usages: deque[Usage] = deque()
        self._asked: deque[int] = deque()
        self._names: set[str | None] = set()
        self._at_work: dict[Hashable, None] = {}

    @property
    def at_work(self) -> bool:
        """Whether one is at work."""
        return bool(self._at_work)

    @property
    def are_several(self) -> bool:
        """Whether not all calls were of one model."""
        return len(self._names) > 1

    def started(self, key: Hashable, name: str | None) -> None:
        """Take note of a call of the model of this name."""
        self._at_work[key] = None
        _add(self._asked, 1, sum)
        self._names.add(name)

    def answered(self, usage: Usage, answer: ModelAnswer | None) -> None:
        """Take note of what is known of an answer; None for a failure without a word."""
        _add(self._usages, usage, sum_of)
        if answer is None:
            self.have_failed = True
        else:
            self.answers.append(answer)

    def ended(self, key: Hashable) -> None:
        """Take note of the end of a call."""
        self._at_work.pop(key, None)

    def asked(self) -> int:
        """Return how many calls there were."""
        return sum(self._asked)

    def usage(self) -> Usage:
        """Return the tokens of all of them that say so."""
        return sum_of(list(self._usages))

    def words(self) -> list[str | None]:
        """Return what they said, the latest first; None for an answer without words."""
        answers = list(self.answers)  # at once: another thread may add one
        return [answer.choice.text for answer in reversed(answers)]


def _add(numbers: deque[N], number: N, total: Callable[[Sequence[N]], N]) -> None:
    """Note a number; of too many, the total takes the place: an agent may ask for hours.

    Each step is atomic: what one thread takes out, no other has.
    """
    numbers.append(number)
    if len(numbers) <= _NUMBERS_KEPT:
        return
    taken: list[N] = []
    with suppress(IndexError):  # another thread takes the rest
        while len(taken) <= _NUMBERS_KEPT:
            taken.append(numbers.popleft())
    numbers.append(total(taken))
