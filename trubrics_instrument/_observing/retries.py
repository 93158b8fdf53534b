"""The same request again after a failure: the turn that failed, here or in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trubrics_instrument import _runtime
from trubrics_instrument._base.uuids import random_uuid
from trubrics_instrument._context import scope
from trubrics_instrument._conversations.failures import Failure, Failures
from trubrics_instrument._conversations.turns import ALONE, RetryKey, Turn, new_turn
from trubrics_instrument._observing.names import name_of_question

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import TypeGuard

    from trubrics_instrument._context.identity import Claim
    from trubrics_instrument._context.scope import Said
    from trubrics_instrument._conversations.places import Place
    from trubrics_instrument._conversations.trail import Trail
    from trubrics_instrument._observing.reader import Asked


_AnsweredTo: TypeAlias = "tuple[bool, tuple[str, ...], str | None]"


class Posed(NamedTuple):
    """What is asked, by whom, and at which place of a conversation.

    Attributes:
        asked: What the request asks.
        claim: Who asks, and where, as far as anybody says.
        said: What the app has said.
        trail: What leads to the question.
        place: Where the conversation stood; None if nobody here knows.
        goes_on: Whether it goes on with a turn, and asks nothing.
        target: The destination of its events.
    """

    asked: Asked
    claim: Claim
    said: Said
    trail: Trail
    place: Place | None
    goes_on: bool
    target: Hashable


class Retries:
    """The turns of the same question that failed, for one call that asks it."""

    __slots__ = (
        *("_asked", "_claim", "_given_id", "_goes_on", "_place", "_text", "_threads", "_turns"),
    )

    def __init__(self, posed: Posed) -> None:
        now = _runtime.state()
        self._turns, self._threads = now.turns, now.threads
        self._asked, self._claim, said, trail, self._place, self._goes_on, _ = posed
        self._given_id = said.prompt_id
        self._text = trail.text or ""

    def here(self) -> Turn | None:
        """Return the turn of the same request, if that failed; it is tried again by now."""
        if not self._turns.any_failed():
            return None
        key, failed = self.failed_here()
        if failed is None:
            return None
        _overcome(failed)
        return self._turns.retry(key)

    def failed_here(self) -> tuple[RetryKey, Turn | None]:
        """Return the turn of the same request, if that failed in this process, and its name.

        Two anonymous users who ask the same are two: without a name, only the code that failed
        can try again.
        """
        last = scope.last_turn()
        key = self._failed_key(last)
        failed = self._turns.failed(key)
        if failed is None:
            return key, None
        nameless = not any(self._claim)
        if failed is not last and (nameless or self._is_at_another_place(failed.thread_id)):
            return key, None
        return key, None if self._is_overcome_elsewhere(failed) else failed

    def _failed_key(self, last: Turn | None) -> RetryKey:
        """Return the name under which this failed, if it did: its history may be another by now.

        It may be shorter, or have what the failed turn had come to at its end: the call of a tool.
        """
        key = self._retry_key()
        if last is not None and self._is_shortened(last.failed_as):
            key = last.failed_as
        begun = self._place.turn if self._place else None
        if begun is not None and _is_same_question(begun.failed_as, key):
            key = begun.failed_as
        return key

    def _is_overcome_elsewhere(self, failed: Turn) -> bool:
        """Whether another process has tried it again by now."""
        if failed.failed_for_all is None:
            return False
        names, prompt_id = failed.failed_for_all
        return Failures(self._threads.board).is_overcome(names[0], prompt_id)

    def _is_at_another_place(self, thread_id: str | None) -> bool:
        """Whether the question is seen to be asked in another conversation than one that failed."""
        if self._place is None or thread_id is None or self._claim.thread_id is not None:
            return False
        return self._place.thread_id != thread_id

    def elsewhere(self) -> Turn | None:
        """Return the turn of the same request, if that failed in another process of this machine.

        Of what failed here, more is known than the name has.
        """
        failures = Failures(self._threads.board)
        name = self._name_for_all(self._answered_to()) if failures.any() else None
        failure = None if name is None else failures.find(name)
        if name is None or failure is None or self._turns.has_failed(failure.prompt_id):
            return None
        if self._is_at_another_place(failure.thread_id):
            return None
        failures.overcome(name)  # who asks the same meanwhile asks anew
        turn = new_turn(self._given_id or failure.prompt_id)
        turn.thread_id = failure.thread_id
        return turn

    def _retry_key(self) -> RetryKey:
        before = hash(self._answered_to())
        question = hash((self._text, self._asked.question, self._asked.told))
        return RetryKey(self._claim, question, before)

    def _name_for_all(self, answered_to: _AnsweredTo) -> int | None:
        """Return the name of this request in every process; None where nobody knows whose it is."""
        if self._given_id:
            return name_of_question(self._claim, ["given", self._given_id])
        if not any(self._claim):
            return None
        opens, said, previous_id = answered_to
        parts = (len(self._text), self._text, self._asked.question, opens, *said, previous_id)
        return name_of_question(self._claim, parts)

    def _answered_to(self) -> _AnsweredTo:
        """Return what the question answers to: to say yes to another thing is another question."""
        return (self._opens(), self._asked.history.tail[-1:], self._asked.previous_id)

    def _opens(self) -> bool:
        """Whether nothing was answered before the question.

        One that failed and stayed in the history opens it, as it did alone.
        """
        history = self._asked.history
        alone = history.begins or history.opening in {self._text, self._asked.text}
        return alone and not history.tail

    def _is_shortened(self, failed: RetryKey | None) -> TypeGuard[RetryKey]:
        """Whether this asks, with less of its history, what has just failed: it was too long."""
        shorter = self._opens() or self._asked.history.is_shortened
        alone = shorter and self._asked.previous_id is None
        return alone and _is_same_question(failed, self._retry_key())

    def broke_off(self, turn: Turn) -> None:
        """Keep a turn of whose answer a part came, perhaps: it may be tried again."""
        if self._asked.fetched:  # what was asked is known elsewhere
            return
        _overcome(turn)
        turn.failed_as = key = self._retry_key()
        keys = (key, key.alone()) if self._may_be_asked_alone(turn) else (key,)
        self._turns.fail(turn, *keys)

    def failed(self, turn: Turn, thread_id: str) -> None:
        """Keep a turn whose call failed: it may be tried again, here or in another process."""
        self.broke_off(turn)
        # The results of tools find their turn in each process by themselves.
        names = [] if self._goes_on else self._names_for_all(turn)
        if names:
            # No id of the app's own goes there.
            prompt_id = random_uuid() if self._given_id else turn.prompt_id
            turn.failed_for_all = names, prompt_id
            self._turns.note_failure(prompt_id)
            failure = Failure(prompt_id, None if self._claim.thread_id else thread_id)
            for name in names:
                Failures(self._threads.board).note(name, failure)

    def _names_for_all(self, turn: Turn) -> list[int]:
        """Return the names under which another process may ask what failed, its own first."""
        alone = [ALONE] if self._may_be_asked_alone(turn) else []
        names = map(self._name_for_all, (self._answered_to(), *alone))
        return [name for name in names if name is not None]

    def _may_be_asked_alone(self, turn: Turn) -> bool:
        """Whether an assistant that is asked before may get nothing but the question.

        It is the one that begins to try again, and then only a named thread tells where that is.
        """
        return len(turn.instructed) > 1 and self._claim.thread_id is not None


def recovered(turn: Turn) -> None:
    """Note that a turn that failed was answered after all, or that the user has gone on."""
    if turn.failed_as is not None:
        _runtime.state().turns.recover(turn)
    _overcome(turn)


def _overcome(turn: Turn) -> None:
    if turn.failed_for_all is not None:
        for name in turn.failed_for_all[0]:
            Failures(_runtime.state().threads.board).overcome(name)
        turn.failed_for_all = None


def _is_same_question(failed: RetryKey | None, asked: RetryKey) -> TypeGuard[RetryKey]:
    """Whether what failed was the same question of the same user, whatever it answers to."""
    return failed is not None and failed[:2] == asked[:2]
