"""Where a call belongs: who asks, in which conversation, and in which turn of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument import _runtime, _scope
from trubrics_instrument._identity import Claim, new_thread_id, settle
from trubrics_instrument._threads import fingerprint
from trubrics_instrument._turns import Told, Turn, new_turn

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from trubrics_instrument._identity import Identity
    from trubrics_instrument._reader import Answer, Asked
    from trubrics_instrument._scope import Said
    from trubrics_instrument._threads import Place


class Conversation:
    """Settled at the start of a call, and carried with it: at the end, the context may be gone.

    Attributes:
        who: Who asks, and where.
        turn: The turn that the call belongs to.
        asks: Whether this call is the one that asks; else its prompt was told before.
        again: Whether the question has an answer already, and the user wants another one.
    """

    def __init__(self, asked: Asked, said: Said, claim: Claim, prompt_id: str | None) -> None:
        self._asked = asked
        # What the user typed is what apps keep, and resend, where the model gets something longer.
        self._question = said.prompt or asked.text
        self._history = asked.history
        if said.prompt and asked.history.begins:
            self._history = asked.history._replace(opening=said.prompt)
        self._asker = claim.user_id
        self._claim = claim
        self._retry_key = ("failed", claim, hash(asked.question))
        self.again = False
        self._place = _runtime.state().threads.find(claim.user_id, self._history)
        self.turn, self.asks = self._find_turn(said, prompt_id)
        self.who: Identity = settle(claim, self._infer_thread)
        self.turn.thread_id = self.who.thread_id
        if self._place is not None:
            self._place.continued = True
        _scope.note_call(self.turn)

    def keep(self, keys: Iterable[Hashable]) -> None:
        """Keep the turn open, under names by which a later call will ask for it."""
        _runtime.state().turns.remember(self.turn, self._named(keys, wide=True))

    def may_be_retried(self) -> None:
        """Keep the turn open: the call failed, or was left half way."""
        _runtime.state().turns.remember(self.turn, [self._retry_key])

    def answered(self, answer: Answer, target: object) -> None:
        """Note where the conversation stands now, for whoever goes on from this answer."""
        texts = [choice.text for choice in answer.choices if choice.text and not choice.tool_uses]
        _runtime.state().threads.answered(
            self._asker, self._history, self._question, texts, self.who.thread_id
        )
        if answer.id:
            told = self._told(answer.id, target)
            _runtime.state().turns.remember_answer(told, answer.id)
            _runtime.state().threads.remember_answer(answer.id, self.who.thread_id)

    def told(self, generation_id: str, text: str | None, target: object) -> None:
        """Note that an answer is told under this id, for a feedback on it."""
        words = fingerprint(None, text) if text else None
        self.turn.answer = self._told(generation_id, target)._replace(words=words)
        _runtime.state().turns.remember_answer(self.turn.answer, generation_id)

    def _told(self, generation_id: str, target: object) -> Told:
        return Told(
            generation_id=generation_id,
            user_id=self.who.user_id,
            thread_id=self.who.thread_id,
            prompt_id=self.turn.prompt_id,
            anonymous=self.who.anonymous,
            target=target,
        )

    def _find_turn(self, said: Said, prompt_id: str | None) -> tuple[Turn, bool]:
        """Return the turn of the call, and whether the call is the one that asks."""
        turns = _runtime.state().turns
        if said.prompt_id:
            key = ("given", self._claim, said.prompt_id)
            known = turns.find([key])
            turn = known or new_turn(said.prompt_id)
            turns.remember(turn, [key])
            return turn, known is None
        if self._asked.continues:
            wide = self._asked.previous_id is not None
            known = turns.find(self._named(self._asked.turn_keys, wide=wide))
            return known or new_turn(prompt_id), False
        retried = self._retried()
        if retried is not None:
            return retried, False
        return self._asked_again() or (new_turn(prompt_id), True)

    def _retried(self) -> Turn | None:
        """Return the turn of the same request, if that failed.

        Two anonymous users who ask the same are two: without a name, only the code that failed
        can try again.
        """
        turns = _runtime.state().turns
        failed = turns.find([self._retry_key])
        nameless = not any(self._claim)
        if failed is None or (nameless and failed is not _scope.last_call()):
            return None
        return turns.take(self._retry_key)

    def _asked_again(self) -> tuple[Turn, bool] | None:
        """Return the same prompt, if the same question was asked at the same place before.

        That place must be one that this process has seen: messages which the app puts before every
        question would make every "yes" the same.
        """
        place = self._thread_so_far(self._place)
        if place is None:
            return None
        turns = _runtime.state().turns
        said = (self._question or "", *self._history.tail, self._asked.previous_id or "")
        key = ("again", self._claim, place, fingerprint(self._asker, *said))
        # Where an answer has just been given, nobody has asked yet: "more" is a new question there,
        # although the exchange before it was the same.
        fresh = self._place is not None and not self._place.continued
        earlier = None if fresh else turns.find([key])
        turn = new_turn(earlier.prompt_id if earlier else None)
        turn.thread_id = place
        turns.remember(turn, [key])
        self.again = earlier is not None
        return turn, earlier is None

    def _thread_so_far(self, place: Place | None) -> str | None:
        if place is not None:
            return place.thread_id
        return thread_of_answer(self._asked.previous_id)

    def _infer_thread(self) -> str:
        if self.turn.thread_id:
            return self.turn.thread_id
        if self._place is not None:
            return self._place.thread_id
        if self._history.opening is None:
            return new_thread_id()
        threads = _runtime.state().threads
        return threads.open(self._asker, self._history, self._question)

    def _named(self, keys: Iterable[Hashable], *, wide: bool) -> list[Hashable]:
        """Return names that hold no text: ten thousand long prompts are not to be kept.

        They hold who asks and where, for the ids of tool calls are not unique on every host; in a
        `wide` search they do without the thread, which a request that goes on from an answer may
        know when the first one did not.
        """
        names = [hash(key) for key in keys]
        askers = [self._claim, Claim(self._asker)] if wide else [self._claim]
        return [(asker, name) for asker in askers for name in names]


def thread_of_answer(answer_id: str | None) -> str | None:
    """Return the thread of the answer from which a request goes on, if anybody here told it."""
    if answer_id is None:
        return None
    told = _runtime.state().turns.answer(answer_id)
    return told.thread_id if told else _runtime.state().threads.of_answer(answer_id)
