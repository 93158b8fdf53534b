"""Which turn a call belongs to: the one that it asks, goes on with, tries again or asks anew."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trubrics_instrument import _runtime
from trubrics_instrument._base.uuids import uuid_bytes
from trubrics_instrument._context import scope
from trubrics_instrument._conversations.turns import Turn, new_turn
from trubrics_instrument._observing.names import (
    names_by_id,
    names_of,
    names_of_anybody,
    names_without_text,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from trubrics_instrument._observing.reader import Asked
    from trubrics_instrument._observing.retries import Posed, Retries

_MOST_ASSISTANTS = 8  # of one turn
# Code that passes a question on does so by then; a user who says the same again has read and typed.
_SOON_S = 2


class WhichTurn:
    """The search for the turn of one call, by what it asks, who asks it, and at which place.

    Attributes:
        in_turn: Whether an aside was found to come in a turn.
    """

    __slots__ = (
        *("_asked", "_claim", "_given_id", "_goes_on", "_place", "_retries", "_target", "_threads"),
        *("_trail", "_turns", "_typed", "in_turn"),
    )

    def __init__(self, posed: Posed, retries: Retries) -> None:
        now = _runtime.state()
        self._turns, self._threads = now.turns, now.threads
        self._asked, self._claim, said, self._trail, self._place, self._goes_on, target = posed
        self._target = target
        self._given_id, self._typed = said.prompt_id, said.prompt
        self._retries = retries
        self.in_turn = False

    def find(self, prompt_id: str | None) -> tuple[Turn, bool]:
        """Return the turn of the call, and whether the call is the one that asks.

        A turn that begins here is to have this `prompt_id`.
        """
        if self._asked.fetched:
            return new_turn(prompt_id), False
        if self._asked.aside:
            around = self._around_aside()
            self.in_turn = around is not None
            return around or new_turn(self._given_id or prompt_id), False
        turn, asks = self._of_question(prompt_id)
        turn.touch()
        if not self._goes_on:
            turn.asked_as, turn.asked_behind = self._asked_as(), self._asked.told
        instructions = self._instructions()
        if instructions not in turn.instructed:
            turn.instructed = (*turn.instructed, instructions)[-_MOST_ASSISTANTS:]
        return turn, asks

    def _of_question(self, prompt_id: str | None) -> tuple[Turn, bool]:
        if self._given_id:
            return self._named(self._given_id)
        if self._asked.turn_keys or self._goes_on:
            continued = self._continued()
            if continued is not None:
                return continued, False
        retried = self._retries.here() or (None if self._goes_on else self._failed_elsewhere())
        if retried is not None:
            retried.instructed = ()  # all of its assistants may be asked again
        if retried is not None or self._goes_on:
            return retried or new_turn(prompt_id), False
        passed_on = self._passed_on()
        if passed_on is not None:
            return passed_on, False
        return self._asked_again(prompt_id) or (new_turn(prompt_id), True)

    def _named(self, prompt_id: str) -> tuple[Turn, bool]:
        """Return the turn that the app names; whoever names it first asks."""
        retried = self._failed_elsewhere()
        turn = retried or new_turn(prompt_id)
        first = self._turns.same(turn, self._given_key(prompt_id))  # another thread may be asking
        asks = first is turn and retried is None
        return first, asks and not self._goes_on

    def _around_aside(self) -> Turn | None:
        """Return the turn in which an aside comes: it neither asks, nor tries anything again."""
        if self._given_id:
            return self._turns.find(self._given_key(self._given_id))
        _, failed = self._retries.failed_here()
        return self._continued() or failed

    def _given_key(self, prompt_id: str) -> Hashable:
        return ("given", self._claim, prompt_id)

    def _continued(self) -> Turn | None:
        """Return the turn that waits for what this call brings.

        The ids of tool calls are not unique on every host, so the answer that it goes on from is
        asked first, where it is named, and then what waits here.
        """
        previous_id, keys = self._asked.previous_id, self._asked.turn_keys
        names = names_of(keys, self._claim, self._typed, wide=previous_id is not None)
        latest = bool(keys) and keys[0].latest  # whichever code has begun it
        own = self._continued_here(names, None if latest else scope.last_turn())
        told = self._turns.answer(previous_id)
        prompt_id = told.prompt_id if told else None
        if own is None:
            shared = latest or prompt_id is None
        else:  # an id of the app's own is not there
            shared = latest and uuid_bytes(own.prompt_id) is not None
        if shared:
            prompt_id = self._threads.turn_elsewhere(names)
        if prompt_id is None:
            return own or self._continued_by_id()
        return own if own and own.prompt_id == prompt_id else new_turn(prompt_id)

    def _continued_here(self, names: Iterable[Hashable], last: Turn | None) -> Turn | None:
        """Return the turn that waits in this process; first, that of the code that runs here.

        Somebody else may have asked the same at the same time.
        """
        awaited: frozenset[Hashable] = last.awaited if last else frozenset()
        found = (last if name in awaited else self._turns.find(name) for name in names)
        own = next(filter(None, found), None)
        if own is None:
            without_text = names_without_text(self._asked.turn_keys, self._claim)
            return None if awaited.isdisjoint(without_text) else last
        return own

    def _continued_by_id(self) -> Turn | None:
        """Return the turn of the tool call whose result comes, whatever question comes with it.

        An app may put that anew at each step, or resend a window without it.
        """
        for name in names_by_id(self._asked.turn_keys):
            turn = self._turns.find(name)
            if turn is not None and turn.claim == self._claim:
                return turn
        return None

    def _failed_elsewhere(self) -> Turn | None:
        """Return the turn of the same request, if that failed in another process."""
        turn = self._retries.elsewhere()
        key = self._again_key() if turn else None
        if turn is not None and key is not None:  # it is asked here from now on
            self._turns.remember(turn, key)
        return turn

    def _passed_on(self) -> Turn | None:
        """Return the turn that the code here has begun, if it asks the same of another assistant.

        The one before has just told what kind of question it is, whether it may be answered, or
        who is to answer it; perhaps with less of the history. Each is asked once, but instructions
        may also hold the time, or documents. Where the conversation is not known, the same words
        may be about another thing; so may they, where no block and no request holds them together.
        """
        turn: Turn | None = scope.turn_around()
        if turn is None or not (self._claim.thread_id or self._place):
            return None
        if turn.asked_as != self._asked_as() or self._instructions() in turn.instructed:
            return None
        told = self._asked.told  # whoever keeps the conversation may have answered since
        if told and turn.asked_behind and told != turn.asked_behind:
            return None
        return turn if time.monotonic() - turn.touched_s < _SOON_S else None

    def _asked_as(self) -> int:
        """Return what tells this question from others, whatever it answers to."""
        return hash((self._target, self._claim, self._trail.question, self._asked.question))

    def _instructions(self) -> int:
        return hash(self._asked.instructions)

    def _asked_again(self, prompt_id: str | None) -> tuple[Turn, bool] | None:
        """Return the same prompt, if the same question was asked at the same place before.

        That place must be one that this process has seen: messages which the app puts before every
        question would make every "yes" the same.
        """
        key = self._again_key()
        if key is None:
            return None
        turn = new_turn(prompt_id)
        first = self._turns.same(turn, key)  # another thread may be asking the same
        if first is turn:
            return turn, True
        turn = new_turn(first.prompt_id)
        turn.again = first.again or first.answer is not None
        self._turns.remember(turn, key)  # the one that asked first may never get an answer
        return turn, False

    def _again_key(self) -> Hashable:
        """Return a name for the same question at the same place; None if nobody knows that."""
        place, previous_id = self._place, self._asked.previous_id
        if place is None and thread_of_answer(previous_id) is None:
            return None
        return ("again", self._claim, place or previous_id, hash((self._trail.text or "").strip()))


def begins_with_results(asked: Asked, typed: str | None) -> bool:
    """Whether an app that says what the user typed has called the tools itself.

    Retrieval may be put before the model like that: nobody here has seen who asked for it.
    """
    if not (typed and asked.brings) or asked.previous_id:
        return False
    now, names = _runtime.state(), names_of_anybody(asked.turn_keys)
    return not any(map(now.turns.find, names)) and not now.threads.turn_elsewhere(names)


def thread_of_answer(answer_id: str | None) -> str | None:
    """Return the thread of the answer from which a request goes on, if anybody here told it."""
    if answer_id is None:
        return None
    told = _runtime.state().turns.answer(answer_id)
    return told.thread_id if told else _runtime.state().threads.of_answer(answer_id)
