"""Graphs that stand still and go on in another run: with a question, or in the middle of a turn."""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Any

from trubrics_instrument._call import who_asks
from trubrics_instrument._memory import Memory
from trubrics_instrument._reader import Asked
from trubrics_instrument._trail import NO_HISTORY
from trubrics_instrument.langchain.messages import mapping
from trubrics_instrument.langchain.origin import claim_in, own_keys

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from types import FrameType

    from trubrics_instrument._call import Observer, Start
    from trubrics_instrument._identity import Claim
    from trubrics_instrument.langchain.question import Question

# They hold texts, so fewer than elsewhere.
_questions: Memory[Question] = Memory(1_000)
_last_steps: Memory[float] = Memory()
# The next model, perhaps with a tool before it. A new question takes more steps.
_SOON = 2
_GRAPHS = "langgraph.pregel"
# From a root run's turn up to the graph; some of LangChain's own lie between.
_MAX_FRAMES = 16


class Stop:
    """Where one run of a graph goes on from, and where it may stop in its turn.

    Attributes:
        question: What the user asked when the graph stopped before any model.
    """

    def __init__(self, observer: Observer, start: Start, metadata: Mapping[str, Any]) -> None:
        self._place = _place(observer, start, metadata)
        self._step: int | None = None
        self.question = _questions.pop(self._place) if self._place and len(_questions) else None

    def wait(self, question: Question | None) -> None:
        """Keep the question of a run that ended without a model: it may have stopped before one."""
        waits = question or self.question
        if self._place is not None and waits is not None:
            _questions.put(self._place, waits._replace(history=NO_HISTORY))

    def edited(self) -> None:
        """Note that the app has changed the state of the graph, which takes a step of it."""
        self.wait(None)
        thread_id = self._place.thread_id if self._place else None
        last = _last_steps.get(thread_id)
        if last is not None:
            _last_steps.put(thread_id, last + 1)

    def pass_step(self, metadata: Mapping[str, Any]) -> None:
        """Note in which step of the graph a model is asked; a graph inside has steps of its own.

        Source: langgraph 0.2 to 1.2.
        """
        step = metadata.get("langgraph_step")
        inside = "|" in str(metadata.get("langgraph_checkpoint_ns"))
        if isinstance(step, int) and not inside:
            self._step = step

    def stand(self, thread_id: str, *, surely: bool) -> list[Hashable]:
        """Note that the turn may go on after this step, and return the names to keep it under.

        A breakpoint does not show, nor that the app will go back to an earlier checkpoint.
        """
        step = -inf if self._step is None else self._step
        _last_steps.put(thread_id, inf if surely else step)
        return [("paused", thread_id)]

    def turn_keys(self, thread_id: str | None) -> tuple[Hashable, ...]:
        """Return the names of the turn that goes on here; none if it is one of elsewhere.

        Another process may have begun a turn since; such a turn has gone on by several steps.
        """
        last, step = _last_steps.get(thread_id), self._step
        near = last is not None and (last == inf or (step is not None and step <= last + _SOON))
        return (("paused", thread_id),) if near else ()


def _place(observer: Observer, start: Start, metadata: Mapping[str, Any]) -> Claim | None:
    """Return whose conversation a graph is in, if it is a graph that starts here, and in one.

    Two users may call theirs the same, and one must never be told what the other asked.
    """
    configurable = _configurable(sys._getframe(2))
    if configurable is None:
        return None
    claim, own = claim_in(configurable, metadata), own_keys(metadata)
    place = who_asks(Asked("chat", claim=claim, metadata=own), observer, start.said)
    return place if place.thread_id else None


def _configurable(frame: FrameType | None) -> Mapping[str, Any] | None:
    """Return what the graph that starts here is configured with; None if it is no graph.

    A run's metadata has not all of it. Source: langgraph 0.2 to 1.2, `Pregel.stream`.
    """
    for _ in range(_MAX_FRAMES):
        if frame is None:
            break
        if str(frame.f_globals.get("__name__")).startswith(_GRAPHS):
            return mapping(mapping(frame.f_locals.get("config")).get("configurable"))
        frame = frame.f_back
    return None
