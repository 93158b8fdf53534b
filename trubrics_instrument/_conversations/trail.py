"""What leads to a question, as numbers that stand for what was said.

Of each message only its beginning and its end are looked at, and of a history only its last few
messages and its first one, so that the cost does not grow with the conversation.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._base.ids import is_random

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    # Whether the assistant said it, its text, and the id with which it is resent.
    Spoken = tuple[bool, str | None, str | None]

TAIL_MESSAGES = 3
# However long a history is, no more of it is looked at than this, from either end, and no more
# than that behind the question, with the tools of a long turn.
MOST_SPOKEN = 24
MOST_BEHIND = 500
_LOOKED_AT_CHARS = 128
# Whatever an app strips of what it stores is less than this.
_LONG_CHARS = 1024
_MUCH_CHARS = 4096
# An answer of this length is hardly given twice; "You're welcome!" is given to everybody.
_TELLING_CHARS = 80
_SHORTENED = "shortened context "
# What a name is of where it is not of the last messages: in the place of the asker's number.
_OF_QUESTION, _OF_ANSWER_ID, _OF_TURN = 1, 2, 3


class History(NamedTuple):
    """What a request resends of its conversation.

    Attributes:
        opening: The first thing that the user said in it.
        begins: Whether that is the question itself.
        tail: The last messages before the question, up to the assistant's last, oldest first;
            `TAIL_MESSAGES` of them at most.
        answer_id: The id with which the last of these is resent, where apps resend ids.
    """

    opening: str | None = None
    begins: bool = False
    tail: tuple[str, ...] = ()
    answer_id: str | None = None

    @property
    def is_shortened(self) -> bool:
        """Whether the question stands behind what the provider has made of a longer history."""
        return bool(self.tail) and self.tail[-1].startswith(_SHORTENED)


NO_HISTORY = History()


def history_of(opening: str | None, *, begins: bool, spoken: Iterable[Spoken]) -> History:
    """Return a history, out of what was said before the question, the latest first.

    Of several messages of the assistant's in a row, the last one counts. Tools speak to nobody, and
    are to be left out; what calls them is `called`.
    """
    tail: list[str] = []
    answer_id: str | None = None
    answering = False
    for by_assistant, text, message_id in islice(spoken, MOST_SPOKEN):
        again, answering = by_assistant and answering, by_assistant
        # A user may have shown something instead.
        if not again and (text or not by_assistant) and (tail or by_assistant):
            answer_id = answer_id if tail else message_id
            tail.append(text or "")
            if len(tail) == TAIL_MESSAGES:
                break
    return History(opening, begins, tuple(reversed(tail)), answer_id)


def called(call_id: str | None) -> str | None:
    """Return what stands for an answer that calls a tool of the app's."""
    return None if call_id is None else f"tool call {call_id}"


def shortened(item_id: str | None) -> str | None:
    """Return what stands for a context that the provider has made shorter."""
    return None if item_id is None else f"{_SHORTENED}{item_id}"


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

    __slots__ = ("_sent", "_who", "asker", "history", "last", "question", "text")

    def __init__(
        self, asker: str | None, history: History, text: str | None, sent: str | None = None
    ) -> None:
        self.asker = asker
        self.history = history
        self.text = text
        self.question = number_of(text or "")
        self._sent = number_of(sent) if sent and sent != text else None
        self.last = number_of(history.tail[-1]) if history.tail else None
        self._who = _number_of_asker(asker)

    def last_is_telling(self) -> bool:
        """Whether the message before the question is one that is hardly said twice."""
        return len(self.history.tail[-1]) >= _TELLING_CHARS

    def last_name(self) -> int:
        """Return the name of the last message before the question."""
        return hash((self._who, self.last))

    def last_name_to_nobody(self) -> int:
        """Return the name that it has for a user who has not said who they are."""
        return hash((_number_of_asker(None), self.last))

    def names(self) -> list[int]:
        """Return a name of the last message before the question, one of the last two, and so on."""
        numbers = (self.last, *map(number_of, self.history.tail[-2::-1]))
        return [hash((self._who, *numbers[:depth])) for depth in range(1, len(numbers) + 1)]

    def name_by_id(self) -> int | None:
        """Return a name of all these messages, with the id of the last one, if that has one.

        Of the last one alone, if its id is hardly given twice: what was asked before may be kept in
        other words than the model got.
        """
        answer_id = self.history.answer_id
        if not answer_id:
            return None
        deciding = 0 if is_random(answer_id) else -1
        return _with_id(self.names()[deciding], number_of(answer_id))

    def question_name(self) -> int:
        """Return a name for what was asked before: apps change answers, but hardly questions."""
        return self._question_name(number_of(self.history.tail[-2]))

    def names_after(self, answer: int, answer_id: str | None = None) -> list[int]:
        """Return the names by which a request will ask that goes on from an answer."""
        who, last = self._who, self.last
        names = [hash((who, answer))]
        # An app resends what the user typed, or the longer text that the model got.
        questions = (self.question,) if self._sent is None else (self.question, self._sent)
        for question in questions:
            names.append(hash((who, answer, question)))
            if last is not None:
                names.append(hash((who, answer, question, last)))
        if answer_id:  # with each of them: what is resent may be a window of any size
            number = number_of(answer_id)
            names += [_with_id(name, number) for name in names]
        if self.asker:
            names += map(self._question_name, questions)
        return names

    def _question_name(self, question: int) -> int:
        return hash((_OF_QUESTION, self._who, question))


def _with_id(name: int, answer_id: int) -> int:
    return hash((name, answer_id))


def number_of(text: str) -> int:
    """Return a number for a text, by its beginning and its end; apps strip what they store."""
    return int.from_bytes(blake2b(_looked_at(text), digest_size=8).digest(), "little")


def number_of_much(text: str) -> int:
    """Return a number for a text by much of it, where another middle is mostly another text."""
    if len(text) > _MUCH_CHARS:
        text = text[: _MUCH_CHARS // 2] + text[-_MUCH_CHARS // 2 :]
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")


@lru_cache(maxsize=1_000)
def _number_of_asker(asker: str | None) -> int:
    who = (asker or "").encode(errors="replace")
    return int.from_bytes(blake2b(who, digest_size=8).digest(), "little")


def name_of_answer(answer_id: str) -> int:
    """Return the name of an answer that is asked for by its id."""
    return hash((_OF_ANSWER_ID, number_of(answer_id)))


def name_of_turn(awaited: Hashable, asked: str | None) -> int:
    """Return the name of a turn that waits for something, and of what was asked."""
    return hash((_OF_TURN, number_of(str(awaited)), number_of(asked or "")))


def digest_of_opening(asker: str | None, opening: str) -> bytes:
    """Return what stands for the first thing that a user said."""
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
