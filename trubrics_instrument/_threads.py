"""Which conversation a request goes on with, told by the history that it resends.

A chat request resends its history, so the last messages before the question name the conversation:
this process has seen their answer, and remembers its thread. Of each message only its beginning
and its end are looked at, and of a history only its last few messages and its first one, so that
the cost does not grow with the conversation.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._memory import MAX_REMEMBERED, Memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trubrics_instrument._board import Board

TAIL_MESSAGES = 3
_LOOKED_AT_CHARS = 128
# An answer of this length is hardly given twice; "You're welcome!" is given to everybody.
_TELLING_CHARS = 80
_ALIKE_KEPT = 8
# After so many questions on top of messages that nobody here answered, these are no conversation
# but examples or a greeting, which the app puts before every question.
_CONVERSATIONS = 2
_NAMESPACE = uuid.UUID("c1f9a3e2-0d0b-5a55-9f43-3f3c1b7f5d28")


class History(NamedTuple):
    """What a request resends of its conversation.

    Attributes:
        opening: The first thing that the user said in it.
        begins: Whether that is the question itself.
        tail: The last messages before the question, up to the assistant's last, oldest first;
            `TAIL_MESSAGES` of them at most.
    """

    opening: str | None = None
    begins: bool = False
    tail: tuple[str, ...] = ()


NO_HISTORY = History()


class Place:
    """Where a conversation stood after an answer, until somebody goes on from there."""

    __slots__ = ("continued", "thread_id")

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self.continued = False


class Threads:
    """The conversations that this process has seen last, or any process that shares its board.

    Attributes:
        board: What several processes know together; None if this one is alone.
    """

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._places: Memory[tuple[Place, ...]] = Memory(size * TAIL_MESSAGES)
        self._openings: Memory[str] = Memory(size)
        self._unanswered: Memory[int] = Memory(size)
        self.board: Board | None = None

    def find(self, asker: str | None, history: History) -> Place | None:
        """Return where the conversation stood that a history shows, if this process has seen it."""
        if not history.tail:
            return None
        for depth, key in reversed(_keys(asker, history.tail)):
            if asker or depth > 1 or _is_telling(history.tail):
                place = self._stood(key)
                if place is not None:
                    return place
        return self._stood(_question_key(asker, history.tail)) if asker else None

    def open(self, asker: str | None, history: History, question: str | None) -> str:
        """Return the thread of a history that this process has not seen.

        A conversation that begins gets the name that every process gives to these words of this
        user, or a new one where these words have opened a conversation already.
        """
        if history.opening is None:
            return str(uuid.uuid4())
        begins, opening = history.begins, history.opening
        if not begins and history.tail and self._is_no_conversation(asker, history.tail):
            begins, opening = True, question or opening
        key = fingerprint(asker, "opening", opening)
        taken = self._openings.get(key) or self._on_board(key)
        if taken and not begins:
            return taken
        thread_id = str(uuid.uuid4() if taken else uuid.uuid5(_NAMESPACE, key.hex()))
        self._openings.put(key, thread_id)
        self._to_board(key, thread_id)
        return thread_id

    def of_answer(self, answer_id: str) -> str | None:
        """Return the thread of an answer, if any process has told it."""
        return self._on_board(fingerprint("answer", answer_id))

    def remember_answer(self, answer_id: str, thread_id: str) -> None:
        """Tell the other processes the thread of an answer."""
        self._to_board(fingerprint("answer", answer_id), thread_id)

    def answered(
        self,
        asker: str | None,
        history: History,
        question: str | None,
        answers: Iterable[str],
        thread_id: str,
    ) -> None:
        """Note that these answers stand at the end of a thread now."""
        place = Place(thread_id)
        for answer in answers:
            tail = (*history.tail, question or "", answer)[-TAIL_MESSAGES:]
            for _, key in _keys(asker, tail):
                self._put(key, place)
            if asker:
                self._put(_question_key(asker, tail), place)

    def _stood(self, key: bytes) -> Place | None:
        """Return the place under a key; the latest of another process counts as this one's."""
        places = self._places.get(key) or ()
        shared = self._on_board(key)
        if shared and all(place.thread_id != shared for place in places):
            places = (*places, Place(shared))[-_ALIKE_KEPT:]
            self._places.put(key, places)
        return _latest(places) if places else None

    def _on_board(self, key: bytes) -> str | None:
        return None if self.board is None else self.board.get(key)

    def _to_board(self, key: bytes, thread_id: str) -> None:
        if self.board is not None:
            self.board.put(key, thread_id)

    def _put(self, key: bytes, place: Place) -> None:
        self._to_board(key, place.thread_id)
        alike = self._places.get(key)
        if alike is None:
            self._places.put(key, (place,))
            return
        waiting = (one for one in alike if not one.continued and one.thread_id != place.thread_id)
        self._places.put(key, (*waiting, place)[-_ALIKE_KEPT:])

    def _is_no_conversation(self, asker: str | None, tail: tuple[str, ...]) -> bool:
        key = fingerprint(asker, *tail)
        seen = self._unanswered.get(key) or 0
        self._unanswered.put(key, seen + 1)
        return seen >= _CONVERSATIONS


def _latest(places: tuple[Place, ...]) -> Place:
    """Return the place that waits for the next question, the latest one first."""
    waiting = (place for place in reversed(places) if not place.continued)
    return next(waiting, places[-1])


def _is_telling(tail: tuple[str, ...]) -> bool:
    return len(tail) == 1 or len(tail[-1]) >= _TELLING_CHARS


def _keys(asker: str | None, tail: tuple[str, ...]) -> list[tuple[int, bytes]]:
    """Return a name for the last message, one for the last two, and so on."""
    digest = hashlib.blake2b((asker or "").encode(errors="replace"), digest_size=16)
    keys: list[tuple[int, bytes]] = []
    for depth, text in enumerate(reversed(tail), 1):
        digest.update(_looked_at(text))
        keys.append((depth, digest.digest()))
    return keys


def _question_key(asker: str | None, tail: tuple[str, ...]) -> bytes:
    """Return a name for what was asked last: apps change answers, but hardly questions."""
    return fingerprint(asker, "question", *tail[-2:-1])


def fingerprint(asker: str | None, *texts: str) -> bytes:
    """Return a name for what somebody said, the same in every process; it holds no text."""
    digest = hashlib.blake2b((asker or "").encode(errors="replace"), digest_size=16)
    for text in texts:
        digest.update(_looked_at(text))
    return digest.digest()


def _looked_at(text: str) -> bytes:
    """Return a text's beginning and end; apps strip what they store."""
    text = text.strip()
    if len(text) > 2 * _LOOKED_AT_CHARS:
        text = f"{text[:_LOOKED_AT_CHARS]}\0{text[-_LOOKED_AT_CHARS:]}"
    return f"\0{text}".encode(errors="replace")
