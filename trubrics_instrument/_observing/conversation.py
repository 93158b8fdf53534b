"""Where a call belongs: who asks, in which conversation, and in which turn of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trubrics_instrument import _runtime
from trubrics_instrument._context import scope
from trubrics_instrument._context.identity import Claim, settle
from trubrics_instrument._conversations.threads import thread_after
from trubrics_instrument._conversations.trail import Trail, called, number_of
from trubrics_instrument._conversations.turns import RetryKey, Told, Turn, new_turn
from trubrics_instrument._observing.names import (
    names_by_id,
    names_of,
    names_of_anybody,
    names_without_text,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from typing import TypeGuard

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
        "_goes_on",
        "_place",
        "_text",
        "_threads",
        "_trail",
        "_turns",
        "_typed",
        "_words",
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
        self._typed = said.prompt
        self._goes_on = asked.continues and not self._begins_with_results()
        if self._goes_on:  # the conversation began with what it goes on with
            history = history._replace(begins=False)
        self._text = said.prompt or asked.text or ""
        self._trail = Trail(claim.user_id, history, self._text, asked.text)
        self._words: list[int | None] = []
        self._answer_id: str | None = None
        self._place = self._threads.find(self._trail)
        self.turn, self.asks = self._find_turn(said, prompt_id)
        self.who: Identity = settle(claim, self._infer_thread)
        self.turn.thread_id, self.turn.claim = self.who.thread_id, claim
        # A turn that began elsewhere takes nobody's place: a stranger's may look the same.
        if self._place is not None and self._place.thread_id == self.who.thread_id:
            self._place.go_on(self._trail.question)
        scope.note_turn(self.turn)

    def keep(self, keys: Sequence[TurnKey], *, share: bool = False) -> None:
        """Keep the turn open, under names by which a later call will ask for it.

        `share` tells the other processes too: the results of tools may come to any.
        """
        names = names_of(keys, self._claim, self._typed)
        self.turn.awaited = frozenset((*names, *names_without_text(keys, self._claim)))
        names += names_of_anybody(keys)
        self._turns.remember(self.turn, *names)
        for name in names_by_id(keys):
            self._turns.remember_alone(self.turn, name)
        if share:
            self._threads.share_turn(names, self.turn.prompt_id)

    def may_be_retried(self) -> None:
        """Keep the turn open: the call failed, was left half way, or brought no answer."""
        self.turn.failed_as = self._retry_key()
        self._turns.fail(self.turn, self.turn.failed_as)

    def answered(self, answer: Answer, target: object) -> None:
        """Note where the conversation stands now, for whoever goes on from this answer."""
        if answer.status == "ok":
            self._turns.recover(self.turn)
        self._answer_id, self._words = answer.id, []
        for choice in answer.choices:
            words = number_of(choice.text) if choice.text else None
            self._words.append(words)
            own_tools = [use.id for use in choice.tool_uses if not use.hosted]
            # What calls a tool of the app's may be all that it says in this turn.
            other = called(own_tools[-1]) if own_tools else choice.resent_as
            forms = (None if own_tools else words, number_of(other) if other else None)
            # A cut answer is to be asked for again, or to be gone on from.
            may_be_cut = answer.status == "incomplete" and not own_tools
            named = [
                self._trail.names_after(one, choice.resent_id) for one in forms if one is not None
            ]
            self._stand_after(named, calls=bool(own_tools), may_be_cut=may_be_cut)
        if answer.id and not any(self._words[:1]):
            self.known_as(answer.id, target)
        self._share_id(answer.id)

    def known_as(self, answer_id: str, target: object) -> None:
        """Note the id of an answer that is not told, or not yet, for whoever goes on from it."""
        self._turns.remember_answer(self._told(answer_id, None, target), answer_id)
        self._share_id(answer_id)

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
            return first, first is turn and not self._goes_on
        if self._asked.turn_keys or self._goes_on:
            continued = self._continued()
            if continued is not None:
                return continued, False
        retried = self._retried() if self._turns.any_failed() else None
        if retried is not None or self._goes_on:
            return retried or new_turn(prompt_id), False
        return self._asked_again() or (new_turn(prompt_id), True)

    def _begins_with_results(self) -> bool:
        """Whether an app that says what the user typed has called the tools itself.

        Retrieval may be put before the model like that: nobody here has seen who asked for it.
        """
        if not (self._typed and self._asked.brings) or self._asked.previous_id:
            return False
        names = names_of_anybody(self._asked.turn_keys)
        return not any(map(self._turns.find, names)) and not self._threads.turn_elsewhere(names)

    def _continued(self) -> Turn | None:
        """Return the turn that waits for what this call brings.

        The ids of tool calls are not unique on every host, so the answer that it goes on from is
        asked first, where it is named, and then the turn of the code that runs here: somebody else
        may have asked the same at the same time.
        """
        previous_id = self._asked.previous_id
        keys = self._asked.turn_keys
        names = names_of(keys, self._claim, self._typed, wide=previous_id is not None)
        last: Turn | None = scope.last_turn()
        awaited: frozenset[Hashable] = last.awaited if last else frozenset()
        found = (last if name in awaited else self._turns.find(name) for name in names)
        own = next(filter(None, found), None)
        if own is None and not awaited.isdisjoint(names_without_text(keys, self._claim)):
            own = last
        told = self._turns.answer(previous_id)
        prompt_id = told.prompt_id if told else None
        if own is None and prompt_id is None:
            prompt_id = self._threads.turn_elsewhere(names)
        if own is None and prompt_id is None:
            own = self._continued_by_id()
        if prompt_id is None or (own and own.prompt_id == prompt_id):
            return own
        return new_turn(prompt_id)

    def _continued_by_id(self) -> Turn | None:
        """Return the turn of the tool call whose result comes, whatever question comes with it.

        An app may put that anew at each step, or resend a window without it.
        """
        for name in names_by_id(self._asked.turn_keys):
            turn = self._turns.find(name)
            if turn is not None and turn.claim == self._claim:
                return turn
        return None

    def _retried(self) -> Turn | None:
        """Return the turn of the same request, if that failed.

        Two anonymous users who ask the same are two: without a name, only the code that failed
        can try again.
        """
        key, last = self._retry_key(), scope.last_turn()
        if last is not None and self._is_shortened(last.failed_as):
            key = last.failed_as
        # What the failed turn had come to may stand before the question now: the call of a tool.
        begun = self._place.turn if self._place else None
        if begun is not None and _is_same_question(begun.failed_as, key):
            key = begun.failed_as
        failed = self._turns.failed(key)
        nameless = not any(self._claim)
        if failed is None or (nameless and failed is not last):
            return None
        return self._turns.retry(key)

    def _retry_key(self) -> RetryKey:
        history = self._asked.history
        # What it answers to, too: to say yes to another thing is another question. A question that
        # failed and stayed in the history opens it, as it did alone.
        opens = history.begins or history.opening in {self._text, self._asked.text}
        before = (opens, history.tail[-1:], self._asked.previous_id)
        return RetryKey(self._claim, hash((self._text, self._asked.question)), hash(before))

    def _is_shortened(self, failed: RetryKey | None) -> bool:
        """Whether this asks, without its history, what has just failed with it: it was too long."""
        alone = self._asked.history.begins and self._asked.previous_id is None
        return alone and _is_same_question(failed, self._retry_key())

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
        turn = new_turn(first.prompt_id)
        turn.again = first.answer is not None
        return turn, False

    def _infer_thread(self) -> str:
        if self.turn.thread_id:
            return self.turn.thread_id
        if self._place is not None:
            return self._place.thread_id
        previous_id = self._asked.previous_id
        return thread_after(previous_id) if previous_id else self._threads.open(self._trail)

    def _stand_after(self, forms: Iterable[list[int]], *, calls: bool, may_be_cut: bool) -> None:
        """Note that the conversation stands after an answer, by the names of each of its forms."""
        thread_id, share = self.who.thread_id, self._claim.thread_id is None
        for names in forms:
            place = self._threads.answered(names, thread_id, share=share)
            place.turn = self.turn if calls else None
            if may_be_cut:
                place.then = partial(self._turns.recover, self.turn)

    def _share_id(self, answer_id: str | None) -> None:
        if answer_id and self._asked.chained:
            self._threads.remember_answer(answer_id, self.who.thread_id)


def _is_same_question(failed: RetryKey | None, asked: RetryKey) -> TypeGuard[RetryKey]:
    """Whether what failed was the same question of the same user, whatever it answers to."""
    return failed is not None and failed[:2] == asked[:2]


def thread_of_answer(answer_id: str | None) -> str | None:
    """Return the thread of the answer from which a request goes on, if anybody here told it."""
    if answer_id is None:
        return None
    told = _runtime.state().turns.answer(answer_id)
    return told.thread_id if told else _runtime.state().threads.of_answer(answer_id)
