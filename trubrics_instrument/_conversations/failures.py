"""Questions that failed, for the processes of a machine: the next try may come to any of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._conversations.board import number_as_id, number_in
from trubrics_instrument._conversations.turns import RETRIES_S

if TYPE_CHECKING:
    from trubrics_instrument._conversations.board import Board

# Whether there was a failure at all is asked before each question, so that is one look.
_LAST, _OF_PROMPT, _OF_THREAD, _OF_TIME = 5, 6, 7, 8
_OVERCOME = number_as_id(0)


class Failure(NamedTuple):
    """A turn whose last call failed, in this process or another.

    Attributes:
        prompt_id: Its prompt's, or any where the app gave that.
        thread_id: Its thread, or None where the app gave that.
    """

    prompt_id: str
    thread_id: str | None


class Failures:
    """What failed not long ago, under names that are the same in every process.

    Args:
        board: What the processes know together; None if this one is alone.
    """

    def __init__(self, board: Board | None) -> None:
        self._board = board

    def any(self) -> bool:
        """Whether anything failed not long ago."""
        return self._board is not None and _is_recent(self._board.get(_LAST))

    def note(self, name: int, failure: Failure) -> None:
        """Note that a question failed."""
        board, now = self._board, number_as_id(int(time.time()))
        if board is None:
            return
        board.put([hash((_OF_PROMPT, name))], failure.prompt_id)
        if failure.thread_id is not None:
            board.put([hash((_OF_THREAD, name))], failure.thread_id)
        board.put([hash((_OF_TIME, name)), _LAST], now)

    def find(self, name: int) -> Failure | None:
        """Return what failed last under a name, not long ago, if it is not overcome."""
        board = self._board
        if board is None or not _is_recent(board.get(hash((_OF_TIME, name)))):
            return None
        prompt_id = board.get(hash((_OF_PROMPT, name)))
        return Failure(prompt_id, board.get(hash((_OF_THREAD, name)))) if prompt_id else None

    def overcome(self, name: int) -> None:
        """Note that the question is tried again, or that the user has gone on: that is once."""
        if self._board is not None:
            self._board.put([hash((_OF_TIME, name))], _OVERCOME)

    def is_overcome(self, name: int, prompt_id: str) -> bool:
        """Whether any process has noted that, or that another prompt failed since."""
        board = self._board
        if board is None:
            return False
        if board.get(hash((_OF_PROMPT, name))) not in {None, prompt_id}:
            return True
        return board.get(hash((_OF_TIME, name))) == _OVERCOME


def _is_recent(moment: str | None) -> bool:
    if moment is None:
        return False
    # A clock that was set back must not keep it for longer; the moment was cut to a whole second.
    return -1 < time.time() - number_in(moment) < RETRIES_S
