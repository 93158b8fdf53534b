"""Where a call belongs: who asks, in which conversation, and in which turn of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trubrics_instrument import _runtime
from trubrics_instrument._base.uuids import random_uuid, uuid_bytes
from trubrics_instrument._context import scope
from trubrics_instrument._context.identity import Claim, settle
from trubrics_instrument._conversations.threads import thread_after
from trubrics_instrument._conversations.trail import Trail, called, number_of
from trubrics_instrument._conversations.turns import Told
from trubrics_instrument._observing.names import (
    names_by_id,
    names_of,
    names_of_anybody,
    names_without_text,
)
from trubrics_instrument._observing.retries import Posed, Retries, recovered
from trubrics_instrument._observing.which_turn import WhichTurn, begins_with_results

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from trubrics_instrument._context.identity import Identity
    from trubrics_instrument._context.scope import Said
    from trubrics_instrument._observing.reader import Answer, Asked, TurnKey


class Conversation:
    """Settled at the start of a call, and carried with it: at the end, the context may be gone.

    Attributes:
        who: Who asks, and where.
        turn: The turn that the call belongs to.
        asks: Whether this call is the one that asks; else its prompt was told before.
    """

    __slots__ = (
        "_answer_id",
        "_asked",
        "_claim",
        "_place",
        "_retries",
        "_target",
        "_threads",
        "_trail",
        "_turns",
        "_typed",
        "_which",
        "_words",
        "asks",
        "turn",
        "who",
    )

    def __init__(
        self, asked: Asked, said: Said, claim: Claim, prompt_id: str | None, target: Hashable = None
    ) -> None:
        now = _runtime.state()
        self._turns, self._threads = now.turns, now.threads
        self._asked = asked
        self._claim = claim
        self._target = target
        history = asked.history
        if said.prompt and history.begins:
            history = history._replace(opening=said.prompt)
        # What the user typed is what apps keep, and resend, where the model gets something longer.
        self._typed = said.prompt
        goes_on = asked.continues and not begins_with_results(asked, said.prompt)
        if goes_on:  # the conversation began with what it goes on with
            history = history._replace(begins=False)
        text = said.prompt or asked.text or ""
        self._trail = Trail(claim.user_id, history, text, asked.text)
        self._words: list[int | None] = []
        self._answer_id: str | None = None
        self._place = self._threads.find(self._trail)
        posed = Posed(asked, claim, said, self._trail, self._place, goes_on, target)
        self._retries = Retries(posed)
        self._which = WhichTurn(posed, self._retries)
        self.turn, self.asks = self._which.find(prompt_id)
        self.who: Identity = settle(claim, self._infer_thread)
        self.turn.user_id, self.turn.thread_id, _ = self.who
        self.turn.claim = claim
        if asked.aside or asked.fetched:  # neither the user nor the code has gone on
            return
        # A turn that began elsewhere takes nobody's place: a stranger's may look the same.
        if self._place is not None and self._place.thread_id == self.who.thread_id:
            self._place.go_on(self._trail.question)
        scope.note_turn(self.turn)

    def keep(self, keys: Sequence[TurnKey]) -> None:
        """Keep the turn open, under names by which a later call will ask for it, in any process."""
        if self._asked.aside and not (self._which.in_turn or self._asked.brings):
            return  # the question has still to be asked
        names = names_of(keys, self._claim, self._typed)
        self.turn.awaited = frozenset((*names, *names_without_text(keys, self._claim)))
        names += names_of_anybody(keys)
        self._turns.remember(self.turn, *names)
        for name in names_by_id(keys):
            self._turns.remember_alone(self.turn, name)
        self._threads.share_turn(names, self.turn.prompt_id)
        if uuid_bytes(self.turn.prompt_id) is None:  # not to be shared: that somebody waits is
            self._threads.share_turn(names_of_anybody(keys), random_uuid())

    def failed(self) -> None:
        """Keep the turn open: the call failed."""
        self._retries.failed(self.turn, self.who.thread_id)

    def broke_off(self) -> None:
        """Keep the turn open: the answer was left half way, or none came."""
        self._retries.broke_off(self.turn)

    def answered(self, answer: Answer) -> None:
        """Note where the conversation stands now, for whoever goes on from this answer."""
        if answer.status == "ok" and not self._asked.aside:
            recovered(self.turn)
        self._answer_id, self._words = answer.id, []
        for choice in answer.choices:
            words = number_of(choice.text) if choice.text else None
            self._words.append(words)
            own_tools = [use.id for use in choice.tool_uses if not use.hosted]
            # What calls a tool of the app's may be all that it says in this turn.
            others = (called(own_tools[-1]),) if own_tools else choice.resent_as
            forms = (None if own_tools else words, *[number_of(one) for one in others if one])
            # A cut answer is to be asked for again, or to be gone on from.
            may_be_cut = answer.status == "incomplete" and not own_tools
            named = [
                self._trail.names_after(one, choice.resent_id) for one in forms if one is not None
            ]
            self._stand_after(named, calls=bool(own_tools), may_be_cut=may_be_cut)
        if answer.id and not any(self._words[:1]):
            self.known_as(answer.id)
        self._share_id(answer.id)

    def known_as(self, answer_id: str) -> None:
        """Note the id of an answer that is not told, or not yet, for whoever goes on from it."""
        self._turns.remember_answer(self._told(answer_id, None), answer_id)
        self._share_id(answer_id)

    def told(self, generation_id: str, index: int) -> None:
        """Note that a choice of the answer is told under this id, for a feedback on it."""
        words = self._words[index] if self._words else None
        answer_id = None if index else self._answer_id
        self.turn.answer = self._told(generation_id, words)
        if self._asked.fetched:
            scope.note_turn(self.turn)
        self._turns.remember_answer(self.turn.answer, *{generation_id, answer_id})
        if generation_id != self._answer_id or not self._asked.chained:  # else it is shared by now
            self._threads.remember_answer(generation_id, self.who.thread_id)

    def _told(self, generation_id: str, words: int | None) -> Told:
        user_id, thread_id, _ = self.who
        return Told(generation_id, user_id, thread_id, self.turn.prompt_id, words, self._target)

    def _infer_thread(self) -> str:
        if self.turn.thread_id:
            return self.turn.thread_id
        if self._asked.fetched:
            return self._threads.of_answer(self._asked.fetched) or random_uuid()
        if self._place is not None:
            return self._place.thread_id
        previous_id = self._asked.previous_id
        if previous_id:
            return thread_after(previous_id)
        # What is warmed up opens no conversation: it is asked only then.
        opens_none = self._asked.aside and not self._asked.history.tail
        return random_uuid() if opens_none else self._threads.open(self._trail)

    def _stand_after(self, forms: Iterable[list[int]], *, calls: bool, may_be_cut: bool) -> None:
        """Note that the conversation stands after an answer, by the names of each of its forms."""
        thread_id, share = self.who.thread_id, self._claim.thread_id is None
        for names in forms:
            place = self._threads.answered(names, thread_id, share=share)
            place.turn = self.turn if calls else None
            if may_be_cut:
                place.then = partial(recovered, self.turn)

    def _share_id(self, answer_id: str | None) -> None:
        if answer_id and self._asked.chained:
            self._threads.remember_answer(answer_id, self.who.thread_id)
