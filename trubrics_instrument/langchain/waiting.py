"""Graphs that stand still and go on in another run: with a question, or in the middle of a turn."""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument import _runtime
from trubrics_instrument._conversations.trail import NO_HISTORY, number_of
from trubrics_instrument._observing.observer import who_asks
from trubrics_instrument._observing.reader import Asked, TurnKey
from trubrics_instrument.langchain.origin import claim_in, own_keys
from trubrics_instrument.langchain.stack import configured, stops_here

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from trubrics_instrument._base.memory import Memory
    from trubrics_instrument._context.identity import Claim
    from trubrics_instrument._observing.observer import Observer, Start
    from trubrics_instrument.langchain.asking import First, Root
    from trubrics_instrument.langchain.question import Question

_TOLD_KEPT = 16
_NOTHING_TOLD = 0
_PAUSED = "paused"
# The next node, perhaps after a change of the state. A new question takes more steps.
_SOON = 2


class _Last(NamedTuple):
    """The last step that is known of a graph, and whether its turn goes on from there."""

    step: float
    stands: bool


class _Told(NamedTuple):
    """The number of an answer, and whether the graph came to its end with it.

    Where it did not, a node may be the next to speak.
    """

    number: int
    ends: bool


class Stop:
    """Where one run of a graph goes on from, and where it may stop in its turn.

    Attributes:
        question: What the user asked when the graph stopped before any model.
        configurable: What the root run is configured with; its steps may have their own.
    """

    def __init__(self, observer: Observer, start: Start, root: Root) -> None:
        is_graph, self.configurable = configured(sys._getframe(2))
        claim = claim_in(self.configurable, root.metadata)
        self._place = _place(observer, start, root.metadata, claim) if is_graph else None
        self._edits = root.edits
        self._began_at: int | None = None
        self._step: int | None = None
        self._first_step: int | None = None
        self._inside = False
        self._stops = False
        self._put = _put().pop(self._place) if self._place else None
        self.question = _questions().pop(self._place) if self._place else None

    def wait(self, question: Question | None) -> None:
        """Keep the question of a run that ended without a model: it may have stopped before one."""
        if self._place is None:
            return
        if self._edits:
            self._edited(question)
            question = None
        waits = question or self.question
        if waits is not None:
            _questions().put(self._place, waits._replace(history=NO_HISTORY))
        if self._put is not None:
            _put().put(self._place, self._put)

    def tell(self, text: str | None) -> None:
        """Note what the graph has answered."""
        if self._place is not None and text:
            number = number_of(text)
            before = [one for one in self._told if one.number != number]
            told = _Told(number, ends=not self._stops)
            _last_told().put(self._place, (*before, told)[-_TOLD_KEPT:])

    @property
    def last_told(self) -> tuple[int, ...]:
        """What the graph answered last: the question after that is another one, if it is the same.

        Its state has the history, which its first model need not get. Empty where it keeps none.
        """
        if "thread_id" not in self.configurable:
            return ()
        return tuple([one.number for one in self._told[-1:]]) or (_NOTHING_TOLD,)

    def told_at(self, text: str) -> int | None:
        """Return when that was the answer to an earlier question, if it was; greater is later."""
        told, number = [one.number for one in self._told], number_of(text)
        return told.index(number) if number in told else None

    @property
    def _told(self) -> tuple[_Told, ...]:
        return (_last_told().get(self._place) if self._place else None) or ()

    def _edited(self, put: Question | None) -> None:
        """Note that the app has changed the state of the graph, which takes a step of it.

        What it has put there may be a message of the user's.
        """
        if put is not None and put.is_last:
            self._put = number_of(put.text or "")
        last = _last_steps().get(self._place)
        if last is not None:
            _last_steps().put(self._place, last._replace(step=last.step + 1))

    def root_ended(self) -> None:
        """Note, where the root run ends, whether its graph stops at a breakpoint."""
        self._stops = self._place is not None and stops_here(sys._getframe(2))

    def pass_node(self, metadata: Mapping[str, Any]) -> None:
        """Note in which step of the graph a node runs."""
        self._step = _step_in(metadata, self._step)
        if self._began_at is None:
            self._began_at = self._step

    def pass_model(self, metadata: Mapping[str, Any]) -> None:
        """Note in which step of the graph a model is asked: its own, or its node's."""
        self.pass_node(metadata)
        if self._first_step is None:
            self._first_step, self._inside = self._step, _is_inside(metadata)

    def stand(self, thread_id: str, first: First, *, waits: bool, ok: bool) -> list[TurnKey]:
        """Note that the turn may go on after this step, and return the names to keep it under.

        The app may also go back to an earlier checkpoint, where the first model is asked the same
        again. What it is asked after a stop may be the same in each turn: an instruction.
        """
        step = -inf if self._step is None else self._step
        stands = waits or self._stops or not ok
        _last_steps().put(self._place or thread_id, _Last(step, stands))
        here = self._keys_here(thread_id, first.question)[:1]
        if first.resumed:
            return [*here, _last_key(thread_id)]
        # A later model of the turn may be the first that is asked with the user's own words.
        words = dict.fromkeys((first.question.text, first.asked.text))
        return [*here, *[_key_of(thread_id, text) for text in words], _last_key(thread_id)]

    def is_put(self, thread_id: str | None, question: Question) -> bool:
        """Whether it is surely a question that the app has put into the state.

        A node may put messages there too, for its next model or in a graph inside, and what
        another process was asked was told there. So the app was seen to put it there, or it stands
        right behind an answer that was told here, with which the graph came to its end.
        """
        if self._inside or question.message_id is None or not question.is_last:
            return False
        if self._put == number_of(question.text or ""):
            return True
        if not (question.follows and question.history.tail) or self._stood(thread_id):
            return False
        before = number_of(question.history.tail[-1])
        return any(one.ends and one.number == before for one in self._told)

    def turn_keys(
        self, thread_id: str | None, question: Question, *, put: bool
    ) -> tuple[TurnKey, ...]:
        """Return the names of the turn that goes on here; none if it is one of elsewhere.

        Another process may have begun a turn since; such a turn has gone on by several steps, and
        is only known by what its first model was asked: as one of an earlier checkpoint is.
        """
        known = (*self._keys_here(thread_id, question), _key_of(thread_id, question.text))
        if put or not (self._travels or self._is_near(thread_id)):
            return known
        last = _last_key(thread_id)
        return (last, *known) if self._stood(thread_id) else (*known, last)

    def _stood(self, thread_id: str | None) -> bool:
        """Whether the last turn stood still, and the graph goes on from there."""
        last = _last_steps().get(self._place or thread_id)
        stood = last is not None and last.stands
        return stood and not self._travels and self._is_near(thread_id)

    @property
    def _travels(self) -> bool:
        """Whether the app names the checkpoint from which the graph goes on."""
        return self.configurable.get("checkpoint_id") is not None

    def _is_near(self, thread_id: str | None) -> bool:
        """Whether the last turn is hardly one before others, which another process has told."""
        last, step = _last_steps().get(self._place or thread_id), self._began_at
        return last is not None and step is not None and step <= last.step + _SOON

    def _keys_here(self, thread_id: str | None, question: Question) -> list[TurnKey]:
        """Return the names of a turn of a graph by what its first model was asked, and where.

        To go back to a checkpoint may take a step. Source: langgraph 0.2 to 1.2.
        """
        step = self._first_step
        steps = () if step is None else (step, step - 1)
        places = (question.message_id,) if question.message_id else steps
        return [_key_of(thread_id, question.text, place) for place in places]


def _last_key(thread_id: str | None) -> TurnKey:
    """Return the name of the last turn of a graph that stood still."""
    return TurnKey((_PAUSED, thread_id), latest=True)


def _key_of(thread_id: str | None, text: str | None, *where: Hashable) -> TurnKey:
    """Return the name of a turn of a graph by what its first model was asked."""
    return TurnKey((_PAUSED, thread_id, number_of(text or ""), *where), latest=True)


def _step_in(metadata: Mapping[str, Any], else_step: int | None) -> int | None:
    """Return the step of the graph, but not one of a graph inside, which counts its own.

    Source: langgraph 0.2 to 1.2.
    """
    step = metadata.get("langgraph_step")
    return step if isinstance(step, int) and not _is_inside(metadata) else else_step


def _is_inside(metadata: Mapping[str, Any]) -> bool:
    """Whether a graph inside runs here."""
    return "|" in str(metadata.get("langgraph_checkpoint_ns"))


def _questions() -> Memory[Question]:
    """Return what was asked of graphs that stopped before any model: texts, so only so many."""
    return _runtime.memory("questions of graphs", 1_000)


def _put() -> Memory[int]:
    """Return what the app was seen to put into the state of graphs, as numbers."""
    return _runtime.memory("put into graphs")


def _last_steps() -> Memory[_Last]:
    return _runtime.memory("last steps of graphs")


def _last_told() -> Memory[tuple[_Told, ...]]:
    return _runtime.memory("last answers of graphs")


def _place(
    observer: Observer, start: Start, metadata: Mapping[str, Any], claim: Claim
) -> Claim | None:
    """Return whose conversation a graph is in, if it is in one.

    Two users may call theirs the same, and one must never be told what the other asked.
    """
    own = own_keys(metadata)
    place = who_asks(Asked("chat", claim=claim, metadata=own), observer, start.said)
    return place if place.thread_id else None
