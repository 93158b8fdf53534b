"""Where a graph stops to ask a human: no failure, and the end of a turn only if nobody goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument.langchain.messages import each, field
from trubrics_instrument.langchain.question import question_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


class _Interrupt(NamedTuple):
    """One that a run has passed on to its parent, with what it shows to the human."""

    parent: Hashable
    text: str | None


class Interrupts:
    """The interrupts of one turn, each where it has come to on its way up.

    A graph inside, with a checkpointer of its own, keeps its interrupt to itself: then the code
    around it may pass that on to the user as its answer, or go on and ask a model. Steps may run in
    several threads at once: each change is one atomic operation, no lock.
    """

    def __init__(self) -> None:
        self._rising: dict[Hashable, _Interrupt] = {}
        self._kept: dict[Hashable, _Interrupt] = {}

    def failed(self, error: BaseException, key: Hashable, parent: Hashable) -> None:
        """Take note that a run was left by an error, if that is an interrupt."""
        if is_interrupt(error):
            inner = [one.text for one in self._take(key).values()]
            text = _shown_to_human(error) or next(filter(None, inner), None)
            self._rising[key] = _Interrupt(parent, text)

    def ended(self, key: Hashable) -> None:
        """Take note that a run has ended well: what has come to it goes no further."""
        if self._rising:
            self._kept.update(self._take(key))

    def passed(self) -> None:
        """Take note that a model is asked, after all that was kept."""
        self._kept.clear()

    def clear(self) -> None:
        """Take note that a graph goes on past what it stopped for."""
        self._rising.clear()
        self._kept.clear()

    def shown(self) -> list[str | None]:
        """Return what each shows to the human."""
        return [one.text for one in (*self._rising.values(), *self._kept.values())]

    def _take(self, parent: Hashable) -> dict[Hashable, _Interrupt]:
        taken = {key: one for key, one in list(self._rising.items()) if one.parent == parent}
        for key in taken:
            self._rising.pop(key, None)
        return taken


def is_bubble(error: BaseException) -> bool:
    """Whether it is LangGraph's way to leave a node, and no failure; told by the class's name.

    Source: langgraph 0.2 to 1.2, `errors.py`.
    """
    return _is_a(error, "GraphBubbleUp", "GraphInterrupt", "NodeInterrupt")


def is_drained(error: BaseException) -> bool:
    """Whether a graph stops because its process is to end; the app goes on with it in another."""
    return _is_a(error, "GraphDrained")


def is_interrupt(error: BaseException) -> bool:
    """Whether a graph stops to ask a human."""
    return _is_a(error, "GraphInterrupt", "NodeInterrupt")


def _shown_to_human(error: BaseException) -> str | None:
    """Return what an interrupt shows to the human, if it is a text or holds a single one."""
    for interrupt in each(next(iter(error.args), None)):
        question = question_of(field(interrupt, "value"))
        if question is not None and question.text:
            return question.text
    return None


def _is_a(error: BaseException, *names: str) -> bool:
    kinds: Sequence[type[Any]] = type(error).__mro__
    return any(kind.__name__ in names for kind in kinds)
