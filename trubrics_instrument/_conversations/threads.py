"""Which conversation a request goes on with, told by the history that it resends.

A chat request resends its history, so the last messages before the question name the conversation:
this process has seen their answer, and remembers its thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument._base.memory import MAX_REMEMBERED, Memory
from trubrics_instrument._base.uuids import random_uuid, uuid_of
from trubrics_instrument._conversations.places import Places
from trubrics_instrument._conversations.trail import (
    TAIL_MESSAGES,
    digest_of_opening,
    name_of_answer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trubrics_instrument._conversations.board import Board
    from trubrics_instrument._conversations.places import Place
    from trubrics_instrument._conversations.trail import Trail

# After so many questions on top of messages that nobody here answered, these are no conversation
# but examples or a greeting, which the app puts before every question.
_QUESTIONS = 2
_NAMESPACE = bytes.fromhex("c1f9a3e20d0b5a559f433f3c1b7f5d28")


def thread_after(answer_id: str) -> str:
    """Return the thread of an answer that nobody here has told: the same in every process."""
    return uuid_of(_NAMESPACE, f"answer\0{answer_id}")


class Threads:
    """The conversations that this process has seen last, or any process that shares its board.

    Attributes:
        board: What several processes know together; None if this one is alone.
    """

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._places = Places(size * TAIL_MESSAGES)
        self._openings: Memory[str] = Memory(size)
        self._unanswered: Memory[tuple[int, ...]] = Memory(size)
        self.board: Board | None = None

    def find(self, trail: Trail) -> Place | None:
        """Return where the conversation stood that a trail shows, if this process has seen it."""
        if not trail.history.tail:
            return None
        name = trail.name_by_id()
        place = None if name is None else self._stood(name, trail)
        return place or self._find_by_words(trail)

    def _find_by_words(self, trail: Trail) -> Place | None:
        telling = trail.last_is_telling()
        if telling:
            place = self._alone(trail.last_name())
            if place is not None:
                return place
        names = trail.names()
        deciding = names if telling or trail.asker or len(names) == 1 else names[1:]
        for name in reversed(deciding):
            place = self._stood(name, trail)
            if place is not None:
                return place
        if not trail.asker:
            return None
        asked_before = self._stood(trail.question_name(), trail) if len(names) > 1 else None
        # Who has said by now who they are went on from an answer to nobody.
        return asked_before or (self._alone(trail.last_name_to_nobody()) if telling else None)

    def open(self, trail: Trail) -> str:
        """Return the thread of a history that this process has not seen.

        A conversation that begins gets the name that every process gives to these words of this
        user, or a new one where these words have opened a conversation already.
        """
        history = trail.history
        if history.opening is None:
            return random_uuid()
        begins, opening = history.begins, history.opening
        if not begins and history.tail and self._is_no_conversation(trail):
            begins, opening = True, trail.text or opening
        digest = digest_of_opening(trail.asker, opening)
        name = int.from_bytes(digest[:8], "little", signed=True)
        taken = self._on_board(name) or self._openings.get(name)  # the latest one, of any process
        if taken and not begins:
            return taken
        thread_id = random_uuid() if taken else uuid_of(_NAMESPACE, digest.hex())
        self._openings.put(name, thread_id)
        if self.board is not None:
            self.board.put([name], thread_id)
        return thread_id

    def of_answer(self, answer_id: str) -> str | None:
        """Return the thread of an answer, if any process has told it."""
        return self._on_board(name_of_answer(answer_id))

    def remember_answer(self, answer_id: str, thread_id: str) -> None:
        """Tell the other processes the thread of an answer."""
        if self.board is not None:
            self.board.put([name_of_answer(answer_id)], thread_id)

    def share_turn(self, names: Iterable[int], prompt_id: str) -> None:
        """Tell the other processes under which names a turn waits."""
        if self.board is not None:
            self.board.put(names, prompt_id)

    def turn_elsewhere(self, names: Iterable[int]) -> str | None:
        """Return the prompt of a turn that waits under one of these names, in any process."""
        return next(filter(None, map(self._on_board, names)), None)

    def answered(self, names: list[int], thread_id: str, *, share: bool) -> Place:
        """Note that a thread stands after an answer with these names now; return the place.

        `share` tells the other processes too: they need it where nobody says what the thread is.
        """
        if share and self.board is not None:
            self.board.put(names, thread_id)
        return self._places.note(names, thread_id)

    def _alone(self, name: int) -> Place | None:
        """Return the place under the name of a last answer, if no process knows of another."""
        place = self._places.alone(name)
        if place is None:
            return None
        shared = self._on_board(name)
        return place if shared is None or shared == place.thread_id else None

    def _stood(self, name: int, trail: Trail) -> Place | None:
        return self._places.likeliest(name, trail, self._on_board(name))

    def _on_board(self, name: int) -> str | None:
        return None if self.board is None else self.board.get(name)

    def _is_no_conversation(self, trail: Trail) -> bool:
        name = trail.names()[-1]
        before = self._unanswered.get(name) or ()
        # A user who asks the same again may want another answer; strangers are several.
        others = [one for one in before if one != trail.question or not trail.asker]
        self._unanswered.put(name, (*others[-_QUESTIONS:], trail.question))
        return len(others) >= _QUESTIONS
