"""What the nodes of a graph write into its state in one run: what else it holds is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument.langchain import observed
from trubrics_instrument.langchain.messages import each, field, fields_in
from trubrics_instrument.langchain.question import goes_on, is_command
from trubrics_instrument.langchain.reply import NAMED_ANSWERS, LeftOver

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from trubrics_instrument.langchain.asking import Root

# Where langgraph 0.2 writes what the app brings.
_BEGINNING = "__start__"
_NO_GRAPH = object()


class Written:
    """Which of the answers that have a name we know were written by a graph's own nodes.

    Nodes may run in several threads at once: each change is one atomic operation, no lock.
    """

    def __init__(self, root: Root) -> None:
        shows = observed.shows_writes()
        self._graph = root.key if shows else _NO_GRAPH
        self._goes_on = goes_on(root.given)
        self._brought = NAMED_ANSWERS.intersection(fields_in(root.given) if shows else ())
        self._before: dict[str, str] | None = None
        self._at_work: set[Hashable] = set()
        self._names: set[str] = set()

    def started(
        self, key: Hashable, parent: Hashable, given: Any, metadata: Mapping[str, Any]
    ) -> None:
        """Take note of a step's start, if it is a node."""
        if parent != self._graph or metadata.get("langgraph_node") == _BEGINNING:
            return
        self._at_work.add(key)
        if self._before is None:
            self._before = self._texts_in(fields_in(given))

    def _texts_in(self, fields: Mapping[str, Any]) -> dict[str, str]:
        """Return the texts of a state that nodes may hand on, but what the app brought.

        That may be the very object that its code says again; those out of a checkpoint are new.
        """
        names = NAMED_ANSWERS.intersection(fields) - self._brought
        return {name: fields[name] for name in names if isinstance(fields[name], str)}

    def ended(self, key: Hashable, output: Any) -> None:
        """Take note of its end.

        A graph inside returns its whole state, and so do some functions: with the very texts that
        were in it before.
        """
        if key not in self._at_work:
            return
        before = self._before or {}
        for name, value in _updates(output):
            if value is not None and value is not before.get(name):
                self._names.add(name)
        self._at_work.discard(key)

    def failed(self, key: Hashable, error: BaseException) -> None:
        """Take note of its failure, which may be a command of a graph inside."""
        command = next(iter(error.args), None)
        self.ended(key, command if is_command(command) else None)

    def left_over(self, output: Any) -> LeftOver:
        """Return what the graph's output holds of earlier runs; nothing if that does not show."""
        if self._graph is _NO_GRAPH:
            return LeftOver()
        return LeftOver(NAMED_ANSWERS.intersection(fields_in(output)) - self._names, self._goes_on)


def _updates(output: Any) -> Iterator[tuple[str, Any]]:
    """Return what a node writes. Source: langgraph 0.2 to 1.2, `CompiledStateGraph.attach_node`."""
    several = any(map(is_command, each(output)))
    for one in each(output) if several else (output,):
        update = field(one, "update") if is_command(one) else one
        if isinstance(update, (list, tuple)):
            yield from (pair for pair in each(update) if len(each(pair)) == len(("name", "value")))
        else:
            yield from ((name, field(update, name)) for name in NAMED_ANSWERS)
