"""The turns that a later call may belong to: it goes on with one, or tries or asks it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._base.memory import MAX_REMEMBERED, Memory
from trubrics_instrument._base.uuids import random_uuid

if TYPE_CHECKING:
    from collections.abc import Hashable

# Whoever asks the same later than this asks anew.
RETRIES_S = 600


class Told(NamedTuple):
    """Where an answer was told, for a feedback on it, and for whoever goes on from it.

    Attributes:
        user_id: Who was answered; None if that was the anonymous user of the thread.
        words: The number of its text, for a UI that knows nothing else of it.
        target: The destination of its events; None is the configured one.
    """

    generation_id: str
    user_id: str | None
    thread_id: str
    prompt_id: str | None = None
    words: int | None = None
    target: object = None


# What a question answers to that opens a conversation: that it does, what was said, which answer.
ALONE: tuple[bool, tuple[str, ...], str | None] = (True, (), None)


class RetryKey(NamedTuple):
    """Under which a failed call is asked again: who asks what, and to what that answers."""

    claim: Hashable
    question: int
    before: int

    def alone(self) -> RetryKey:
        """Return the name that the same question has with nothing before it."""
        return self._replace(before=hash(ALONE))


class Turn:
    """One thing that the user said, and what came of it so far.

    Attributes:
        again: Whether the question had an answer already, and the user wants another one.
        answer: Where its last answer was told.
        asked_as: The number of what was asked by the last call that asked it.
        asked_behind: What that call knew to be told before, if it keeps the conversation itself.
        awaited: The names under which a later call goes on with it.
        claim: Who asked, and where, as far as anybody said.
        failed_as: The name under which it may be tried again, if its last call failed.
        failed_for_all: The names that this has for the other processes, if they may try it too,
            and the prompt's id there.
        instructed: Numbers of the instructions of its last calls.
        user_id: Who asked; None if nobody is known.
        touched_s: When its last call began, or ended, by `monotonic()`.
    """

    __slots__ = (
        *("again", "answer", "asked_as", "asked_behind", "awaited", "claim", "failed_as"),
        *("failed_for_all", "instructed", "model_calls", "prompt_id", "thread_id", "tool_calls"),
        *("touched_s", "user_id"),
    )

    def __init__(self, prompt_id: str) -> None:
        self.prompt_id = prompt_id
        self.user_id: str | None = None
        self.thread_id: str | None = None
        self.model_calls = 0
        self.tool_calls = 0
        self.again = False
        self.answer: Told | None = None
        self.claim: Hashable = None
        self.asked_as: int | None = None
        self.asked_behind: tuple[int, ...] = ()
        self.instructed: tuple[int, ...] = ()
        self.awaited: frozenset[Hashable] = frozenset()
        self.failed_as: RetryKey | None = None
        self.failed_for_all: tuple[list[int], str] | None = None
        self.touched_s = 0.0

    def touch(self) -> None:
        """Note that a call of it begins or ends now."""
        self.touched_s = time.monotonic()


# Stands for the turns under a name that is to be one turn's only.
_SEVERAL = Turn("")


class Turns:
    """The turns that may still go on: they wait for tool results, or failed and may be retried."""

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._open: Memory[Turn] = Memory(size)
        self._failed: Memory[tuple[Turn, float]] = Memory(size)
        self._noted: Memory[bool] = Memory(size)
        self._answers: Memory[Told] = Memory(size)

    def find(self, key: Hashable) -> Turn | None:
        """Return the turn that is known under a name."""
        return self._open.get(key)

    def remember(self, turn: Turn, *keys: Hashable) -> None:
        """Keep a turn under the names by which a later call will ask for it."""
        for key in keys:
            self._open.put(key, turn)

    def remember_alone(self, turn: Turn, key: Hashable) -> None:
        """Keep a turn under a name that is to be its own; if another one has it, it is nobody's."""
        first = self._open.first(key, turn)
        if first.prompt_id != turn.prompt_id:
            self._open.put(key, _SEVERAL)

    def same(self, turn: Turn, key: Hashable) -> Turn:
        """Return the turn that was the first to be kept under a name, if not this one."""
        return self._open.first(key, turn)

    def any_failed(self) -> bool:
        """Whether there is a turn that may be tried again."""
        return len(self._failed) > 0

    def failed(self, asked: RetryKey) -> Turn | None:
        """Return the turn whose last call failed when it asked this, not long ago."""
        turn, failed_s = self._failed.get(asked) or (None, 0)
        return turn if time.monotonic() - failed_s < RETRIES_S else None

    def fail(self, turn: Turn, *asked: RetryKey) -> None:
        """Keep a turn whose call failed, for whoever asks the same."""
        for key in asked:
            self._failed.put(key, (turn, time.monotonic()))

    def note_failure(self, prompt_id: str) -> None:
        """Note that it was told to the other processes that a prompt failed here."""
        self._noted.put(prompt_id, True)

    def has_failed(self, prompt_id: str) -> bool:
        """Whether a prompt failed in this process."""
        return self._noted.get(prompt_id) is not None

    def retry(self, asked: RetryKey) -> Turn | None:
        """Return the same turn, which then is no failed one any more."""
        turn, _ = self._failed.pop(asked) or (None, 0)
        return turn

    def recover(self, turn: Turn) -> None:
        """Forget that a turn failed: it was answered after all, or the user has gone on."""
        asked, turn.failed_as = turn.failed_as, None
        for key in (asked, asked.alone()) if asked else ():
            failed = self._failed.get(key)
            if failed is not None and failed[0] is turn:
                self._failed.pop(key)

    def answer(self, answer_id: str | None) -> Told | None:
        """Return where an answer was told, if this process has told it."""
        return self._answers.get(answer_id) if answer_id else None

    def answer_with(self, thread_id: str | None, words: int) -> Told | None:
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


def new_turn(prompt_id: str | None = None) -> Turn:
    """Return the turn of something that the user said just now."""
    return Turn(prompt_id or random_uuid())
