"""Which conversation a request goes on with, told by the history that it resends.

A chat request resends its history, so the last messages before the question name the conversation:
this process has seen their answer, and remembers its thread. Of each message only its beginning
and its end are looked at, and of a history only its last few messages and its first one, so that
the cost does not grow with the conversation.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._memory import MAX_REMEMBERED, Memory
from trubrics_instrument._uuids import random_uuid, uuid_of

if TYPE_CHECKING:
    from trubrics_instrument._board import Board

TAIL_MESSAGES = 3
_LOOKED_AT_CHARS = 128
# Whatever an app strips of what it stores is less than this.
_LONG_CHARS = 1024
# An answer of this length is hardly given twice; "You're welcome!" is given to everybody.
_TELLING_CHARS = 80
_ALIKE_KEPT = 8
# After so many questions on top of messages that nobody here answered, these are no conversation
# but examples or a greeting, which the app puts before every question.
_CONVERSATIONS = 2
_NAMESPACE = bytes.fromhex("c1f9a3e20d0b5a559f433f3c1b7f5d28")
# What a name is of where it is not of the last messages: in the place of the asker's number.
_OF_QUESTION, _OF_ANSWER_ID = 1, 2


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


class Trail:
    """What leads to a question: who asks, the messages before it, and the question itself.

    Names are numbers, the same in every process; they hold no text. A name for several messages is
    `hash()` of their numbers, which Python salts for texts only.

    Attributes:
        asker: The user, if known.
        history: What the request resends.
        text: The question.
        question: Its number.
        last: The number of the message before it; None if there is none.
    """

    __slots__ = ("_who", "asker", "history", "last", "question", "text")

    def __init__(self, asker: str | None, history: History, text: str | None) -> None:
        self.asker = asker
        self.history = history
        self.text = text
        self.question = number_of(text or "")
        self.last = number_of(history.tail[-1]) if history.tail else None
        self._who = _number_of_asker(asker)

    def last_name(self) -> int:
        """Return the name of the last message before the question."""
        return hash((self._who, self.last))

    def names(self) -> list[int]:
        """Return a name of the last message before the question, one of the last two, and so on."""
        numbers = (self.last, *map(number_of, self.history.tail[-2::-1]))
        return [hash((self._who, *numbers[:depth])) for depth in range(1, len(numbers) + 1)]

    def question_name(self) -> int:
        """Return a name for what was asked before: apps change answers, but hardly questions."""
        return self._question_name(number_of(self.history.tail[-2]))

    def names_after(self, answer: int) -> list[int]:
        """Return the names by which a request will ask that goes on from an answer."""
        who, question, last = self._who, self.question, self.last
        names = [hash((who, answer)), hash((who, answer, question))]
        if last is not None:
            names.append(hash((who, answer, question, last)))
        if self.asker:
            names.append(self._question_name(question))
        return names

    def _question_name(self, question: int) -> int:
        return hash((_OF_QUESTION, self._who, question))


class Place:
    """Where a conversation stood after an answer, until somebody goes on from there.

    `alone` says that this process knows of no other place with the same last answer.
    """

    __slots__ = ("alone", "continued", "thread_id")

    def __init__(self, thread_id: str, *, alone: bool = False) -> None:
        self.thread_id = thread_id
        self.alone = alone
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

    def find(self, trail: Trail) -> Place | None:
        """Return where the conversation stood that a trail shows, if this process has seen it."""
        tail = trail.history.tail
        if not tail:
            return None
        telling = len(tail[-1]) >= _TELLING_CHARS
        if telling:
            place = self._alone(trail.last_name())
            if place is not None:
                return place
        names = trail.names()
        deciding = names if telling or trail.asker or len(names) == 1 else names[1:]
        for name in reversed(deciding):
            place = self._stood(name)
            if place is not None:
                return place
        asked_before = trail.asker and len(tail) > 1
        return self._stood(trail.question_name()) if asked_before else None

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
        digest = _opening_digest(trail.asker, opening)
        name = int.from_bytes(digest[:8], "little", signed=True)
        taken = self._openings.get(name) or self._on_board(name)
        if taken and not begins:
            return taken
        thread_id = random_uuid() if taken else uuid_of(_NAMESPACE, digest.hex())
        self._openings.put(name, thread_id)
        if self.board is not None:
            self.board.put([name], thread_id)
        return thread_id

    def of_answer(self, answer_id: str) -> str | None:
        """Return the thread of an answer, if any process has told it."""
        return self._on_board(_answer_name(answer_id))

    def remember_answer(self, answer_id: str, thread_id: str) -> None:
        """Tell the other processes the thread of an answer."""
        if self.board is not None:
            self.board.put([_answer_name(answer_id)], thread_id)

    def answered(self, trail: Trail, answer: int, thread_id: str, *, share: bool) -> None:
        """Note that an answer, by its number, stands at the end of a thread now.

        `share` tells the other processes too: they need it where nobody says what the thread is.
        """
        names, places = trail.names_after(answer), self._places
        place = Place(thread_id, alone=places.get(names[0]) is None)
        for name in names:
            alike = places.get(name)
            places.put(name, (place,) if alike is None else _beside(alike, place))
        if share and self.board is not None:
            self.board.put(names, thread_id)

    def _alone(self, name: int) -> Place | None:
        """Return the place under the name of a last answer, if no other was ever under it."""
        places = self._places.get(name) or ()
        place = places[-1] if len(places) == 1 else None
        if place is None or not place.alone:
            return None
        shared = self._on_board(name)
        return place if shared is None or shared == place.thread_id else None

    def _stood(self, name: int) -> Place | None:
        """Return the place under a name; the latest of another process counts as this one's."""
        places = self._places.get(name) or ()
        shared = self._on_board(name)
        if shared and all(place.thread_id != shared for place in places):
            places = (*places, Place(shared))[-_ALIKE_KEPT:]
            self._places.put(name, places)
        return _latest(places) if places else None

    def _on_board(self, name: int) -> str | None:
        return None if self.board is None else self.board.get(name)

    def _is_no_conversation(self, trail: Trail) -> bool:
        name = trail.names()[-1]
        seen = self._unanswered.get(name) or 0
        self._unanswered.put(name, seen + 1)
        return seen >= _CONVERSATIONS


def number_of(text: str) -> int:
    """Return a number for a text, by its beginning and its end; apps strip what they store."""
    return int.from_bytes(blake2b(_looked_at(text), digest_size=8).digest(), "little")


@lru_cache(maxsize=1_000)
def _number_of_asker(asker: str | None) -> int:
    who = (asker or "").encode(errors="replace")
    return int.from_bytes(blake2b(who, digest_size=8).digest(), "little")


def _answer_name(answer_id: str) -> int:
    return hash((_OF_ANSWER_ID, number_of(answer_id)))


def _opening_digest(asker: str | None, opening: str) -> bytes:
    who = (asker or "").encode(errors="replace")
    said = b"\0".join((who, b"opening", _looked_at(opening)))
    return blake2b(said, digest_size=16).digest()


def _looked_at(text: str) -> bytes:
    """Return the beginning and the end of a text."""
    if len(text) > _LONG_CHARS:
        text = text[: _LONG_CHARS // 2] + text[-_LONG_CHARS // 2 :]
    text = text.strip()
    if len(text) > 2 * _LOOKED_AT_CHARS:
        # Two whole blocks of the hash, where all of it is ASCII: a mark between them is a third.
        text = text[:_LOOKED_AT_CHARS] + text[-_LOOKED_AT_CHARS:]
    return text.encode(errors="replace")


def _beside(alike: tuple[Place, ...], place: Place) -> tuple[Place, ...]:
    """Return the places that still wait under a name, and a new one."""
    waiting = (one for one in alike if not one.continued and one.thread_id != place.thread_id)
    return (*waiting, place)[-_ALIKE_KEPT:]


def _latest(places: tuple[Place, ...]) -> Place:
    """Return the place that waits for the next question, the latest one first."""
    waiting = (place for place in reversed(places) if not place.continued)
    return next(waiting, places[-1])
