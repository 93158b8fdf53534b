"""Graphs that stand still and go on in another run: with a question, or in the middle of a turn."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from trubrics_instrument._memory import Memory
from trubrics_instrument._trail import NO_HISTORY

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from trubrics_instrument.langchain.question import Question

# They hold texts, so fewer than elsewhere.
_questions: Memory[Question] = Memory(1_000)
_last_steps: Memory[float] = Memory()
# The next model, perhaps with a tool before it. A new question takes more steps.
_SOON = 2


def wait(thread_id: str | None, question: Question | None) -> None:
    """Keep the question of a run that ended without a model: it may have stopped before one."""
    if thread_id and question is not None:
        _questions.put(thread_id, question._replace(history=NO_HISTORY))


def take(thread_id: str | None) -> Question | None:
    """Return the question that waits in a conversation, if there is one, and forget it."""
    return _questions.pop(thread_id) if thread_id and len(_questions) else None


def step_of(metadata: Mapping[str, Any]) -> int | None:
    """Return the step of its graph in which a model is asked; None in a graph inside.

    Source: langgraph 0.2 to 1.2.
    """
    step = metadata.get("langgraph_step")
    inside = "|" in str(metadata.get("langgraph_checkpoint_ns"))
    return step if isinstance(step, int) and not inside else None


def stand(thread_id: str, step: int | None, *, surely: bool) -> list[Hashable]:
    """Note that a turn may go on after this step, and return the names to keep it under.

    A breakpoint does not show, nor that the app will go back to an earlier checkpoint.
    """
    _last_steps.put(thread_id, inf if surely else -inf if step is None else step)
    return [("paused", thread_id)]


def turn_keys(thread_id: str | None, step: int | None) -> tuple[Hashable, ...]:
    """Return the names of the turn that a graph goes on with; none if it is one of elsewhere.

    Another process may have begun a turn since; such a turn has gone on by several steps.
    """
    last = _last_steps.get(thread_id)
    near = last is not None and (last == inf or (step is not None and step <= last + _SOON))
    return (("paused", thread_id),) if near else ()
