"""Answers that are fetched later, for the processes of a machine: whoever fetches comes to any."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._base.uuids import uuid_bytes
from trubrics_instrument._conversations.board import number_as_id, number_in
from trubrics_instrument._conversations.trail import name_of_answer, number_of

if TYPE_CHECKING:
    from trubrics_instrument._conversations.board import Board

_PROMPT, _SINCE, _ASKER = 9, 10, 11
_TOLD = number_as_id(0)


class Question(NamedTuple):
    """What is asked in any process, and not told to its end yet.

    Attributes:
        prompt_id: Its prompt's.
        since_s: When it was asked, by `perf_counter()`, which is one clock for a whole machine
            where there is a board.
    """

    prompt_id: str
    since_s: float


class Awaited:
    """One answer that is fetched by its id, under names that are the same in every process.

    Of who asked, and where, there are numbers only: what is said of it again is compared.

    Args:
        board: What the processes know together; None if this one is alone.
        answer_id: The answer's id.
    """

    def __init__(self, board: Board | None, answer_id: str) -> None:
        self._board = board
        self._name = name_of_answer(answer_id)

    def note(self, question: Question, *asked_by: str | None) -> bool:
        """Note that it is to be fetched; return False if no other process will know.

        An id of the app's own goes nowhere.
        """
        board, (prompt_id, since_s) = self._board, question
        if board is None or uuid_bytes(prompt_id) is None:
            return False
        board.put([self._of(_PROMPT), *map(self._of_asker, asked_by)], prompt_id)
        board.put([self._of(_SINCE)], number_as_id(int(since_s * 1e6)))
        return True

    def find(self) -> Question | None:
        """Return its question, if any process waits for it, and none has told it.

        The board forgets the oldest: then it may have been told, or not.
        """
        prompt_id, since = self._get(self._of(_PROMPT)), self._get(self._of(_SINCE))
        if prompt_id is None or prompt_id == _TOLD or since is None:
            return None
        return Question(prompt_id, number_in(since) / 1e6)

    def asker_of(self, *somebody: str | None) -> str | None:
        """Return which of these is who asked, or where; None if none of them is."""
        return next((one for one in somebody if one and self.is_asked_by(one)), None)

    def is_asked_by(self, somebody: str | None) -> bool:
        """Whether this is who asked, or where; None is nobody who is known."""
        return self._get(self._of_asker(somebody)) is not None

    def take(self) -> bool:
        """Return True to the first process that is about to tell it."""
        first = self._get(self._of(_PROMPT)) != _TOLD
        if first and self._board is not None:
            self._board.put([self._of(_PROMPT)], _TOLD)
        return first

    def _of(self, what: int) -> int:
        return hash((what, self._name))

    def _of_asker(self, somebody: str | None) -> int:
        return hash((_ASKER, self._name, number_of(somebody or "")))

    def _get(self, name: int) -> str | None:
        return None if self._board is None else self._board.get(name)
