"""Where a call belongs: who asks, in which conversation, and in which turn of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trubrics_instrument import _runtime, _scope
from trubrics_instrument._identity import Claim, settle
from trubrics_instrument._trail import Trail, number_of
from trubrics_instrument._turns import Told, Turn, new_turn

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from trubrics_instrument._identity import Identity
    from trubrics_instrument._reader import Answer, Asked
    from trubrics_instrument._scope import Said


class Conversation:
    """Settled at the start of a call, and carried with it: at the end, the context may be gone.

    Attributes:
        who: Who asks, and where.
        turn: The turn that the call belongs to.
        asks: Whether this call is the one that asks; else its prompt was told before.
        again: Whether the question has an answer already, and the user wants another one.
    """

    __slots__ = (
        "_answer_id",
        "_asked",
        "_claim",
        "_place",
        "_text",
        "_threads",
        "_trail",
        "_turns",
        "_words",
        "again",
        "asks",
        "turn",
        "who",
    )

    def __init__(self, asked: Asked, said: Said, claim: Claim, prompt_id: str | None) -> None:
        now = _runtime.state()
        self._turns, self._threads = now.turns, now.threads
        self._asked = asked
        self._claim = claim
        history = asked.history
        if said.prompt and history.begins:
            history = history._replace(opening=said.prompt)
        # What the user typed is what apps keep, and resend, where the model gets something longer.
        self._text = said.prompt or asked.text or ""
        self._trail = Trail(claim.user_id, history, self._text)
        self._words: list[int | None] = []
        self._answer_id: str | None = None
        self.again = False
        self._place = self._threads.find(self._trail)
        self.turn, self.asks = self._find_turn(said, prompt_id)
        self.who: Identity = settle(claim, self._infer_thread)
        self.turn.thread_id = self.who.thread_id
        if self._place is not None:
            self._place.go_on(self._trail.question)
        _scope.note_call(self.turn)

    def keep(self, keys: Iterable[Hashable]) -> None:
        """Keep the turn open, under names by which a later call will ask for it."""
        names = self._named(keys, wide=True)
        self.turn.awaited = frozenset(names)
        self._turns.remember(self.turn, *names)

    def may_be_retried(self) -> None:
        """Keep the turn open: the call failed, or was left half way."""
        self.turn.failed_as = self._retry_key()
        self._turns.fail(self.turn, self.turn.failed_as)

    def answered(self, answer: Answer, target: object) -> None:
        """Note where the conversation stands now, for whoever goes on from this answer."""
        if answer.status == "ok":
            self._turns.recover(self.turn)
        thread_id, share = self.who.thread_id, self._claim.thread_id is None
        self._answer_id, self._words = answer.id, []
        for choice in answer.choices:
            words = number_of(choice.text) if choice.text else None
            self._words.append(words)
            if words is not None and not choice.tool_uses:
                place = self._threads.answered(self._trail, words, thread_id, share=share)
                if answer.status == "incomplete":  # to be asked for again, or gone on from
                    place.then = partial(self._turns.recover, self.turn)
        if answer.id and not any(self._words[:1]):
            self.known_as(answer.id, target)
        if answer.id and self._asked.chained:
            self._threads.remember_answer(answer.id, thread_id)

    def known_as(self, answer_id: str, target: object) -> None:
        """Note the id of an answer that is not told, or not yet, for whoever goes on from it."""
        self._turns.remember_answer(self._told(answer_id, None, target), answer_id)

    def told(self, generation_id: str, index: int, target: object) -> None:
        """Note that a choice of the answer is told under this id, for a feedback on it."""
        words = self._words[index] if self._words else None
        answer_id = None if index else self._answer_id
        self.turn.answer = self._told(generation_id, words, target)
        self._turns.remember_answer(self.turn.answer, *{generation_id, answer_id})

    def _told(self, generation_id: str, words: int | None, target: object) -> Told:
        user_id, thread_id, _ = self.who
        return Told(generation_id, user_id, thread_id, self.turn.prompt_id, words, target)

    def _find_turn(self, said: Said, prompt_id: str | None) -> tuple[Turn, bool]:
        """Return the turn of the call, and whether the call is the one that asks."""
        if said.prompt_id:
            key = ("given", self._claim, said.prompt_id)
            turn = new_turn(said.prompt_id)
            first = self._turns.same(turn, key)  # another thread may be asking for it too
            return first, first is turn
        if self._asked.turn_keys or self._asked.continues:
            continued = self._continued()
            if continued or self._asked.continues:
                return continued or new_turn(prompt_id), False
        retried = self._retried() if self._turns.any_failed() else None
        if retried is not None:
            return retried, False
        return self._asked_again() or (new_turn(prompt_id), True)

    def _continued(self) -> Turn | None:
        """Return the turn that waits for what this call brings.

        The ids of tool calls are not unique on every host, so the answer that it goes on from is
        asked first, where it is named, and then the turn of the code that runs here: somebody else
        may have asked the same at the same time.
        """
        previous_id = self._asked.previous_id
        names = self._named(self._asked.turn_keys, wide=previous_id is not None)
        last: Turn | None = _scope.last_call()
        awaited: frozenset[Hashable] = last.awaited if last else frozenset()
        found = (last if name in awaited else self._turns.find(name) for name in names)
        own = next(filter(None, found), None)
        told = self._turns.answer(previous_id)
        if told is None or told.prompt_id is None or (own and own.prompt_id == told.prompt_id):
            return own
        return new_turn(told.prompt_id)

    def _retried(self) -> Turn | None:
        """Return the turn of the same request, if that failed.

        Two anonymous users who ask the same are two: without a name, only the code that failed
        can try again.
        """
        key = self._retry_key()
        failed = self._turns.failed(key)
        nameless = not any(self._claim)
        if failed is None or (nameless and failed is not _scope.last_call()):
            return None
        return self._turns.retry(key)

    def _retry_key(self) -> Hashable:
        return self._claim, hash(self._asked.question)

    def _asked_again(self) -> tuple[Turn, bool] | None:
        """Return the same prompt, if the same question was asked at the same place before.

        That place must be one that this process has seen: messages which the app puts before every
        question would make every "yes" the same.
        """
        place, previous_id = self._place, self._asked.previous_id
        if place is None and thread_of_answer(previous_id) is None:
            return None
        key = ("again", self._claim, place or previous_id, hash(self._text.strip()))
        turn = new_turn()
        first = self._turns.same(turn, key)  # another thread may be asking the same
        if first is turn:
            return turn, True
        self.again = first.answer is not None
        return new_turn(first.prompt_id), False

    def _infer_thread(self) -> str:
        if self.turn.thread_id:
            return self.turn.thread_id
        return self._place.thread_id if self._place else self._threads.open(self._trail)

    def _named(self, keys: Iterable[Hashable], *, wide: bool) -> list[Hashable]:
        """Return names that hold no text: ten thousand long prompts are not to be kept.

        They hold who asks and where, for the ids of tool calls are not unique on every host; in a
        `wide` search they do without the thread, which a request that goes on from an answer may
        know when the first one did not.
        """
        names = [hash(key) for key in keys]
        askers = [self._claim, Claim(self._claim.user_id)] if wide else [self._claim]
        return [(asker, name) for asker in askers for name in names]


def thread_of_answer(answer_id: str | None) -> str | None:
    """Return the thread of the answer from which a request goes on, if anybody here told it."""
    if answer_id is None:
        return None
    told = _runtime.state().turns.answer(answer_id)
    return told.thread_id if told else _runtime.state().threads.of_answer(answer_id)
