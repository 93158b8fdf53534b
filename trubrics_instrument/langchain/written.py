"""What the nodes of a graph write into its state in one run: what else it holds is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument.langchain.interrupts import is_bubble
from trubrics_instrument.langchain.messages import each, field, fields_in
from trubrics_instrument.langchain.question import goes_on, is_command
from trubrics_instrument.langchain.reply import NAMED_ANSWERS, Names
from trubrics_instrument.langchain.stack import shows_writes

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from trubrics_instrument._base.memory import Memory
    from trubrics_instrument.langchain.asking import Root

# Where langgraph 0.2 writes what the app brings.
BEGINNING = "__start__"
# What starts a node that another one has sent something. Source: langgraph 0.2 to 1.2.
_SENT = "__pregel_"
_NO_GRAPH = object()
_NONE: frozenset[str] = frozenset()
# Of a list of updates: a node that runs tools has one for each. A longer one is a state.
_MOST = 30
_NEVER_CHANGES = (str, int, float, type(None))


class Written:
    """Which of the answers that have a name we know were written by a graph's own nodes.

    Nodes may run in several threads at once: each change is one atomic operation, no lock.
    """

    def __init__(self, root: Root, *, asks: bool) -> None:
        shows = shows_writes()
        self._graph = root.key if shows else _NO_GRAPH
        stood = goes_on(root.given)
        self._goes_on = stood and not asks
        self._asks_on = stood and asks
        self._brought = NAMED_ANSWERS.intersection(fields_in(root.given) if shows else ())
        self._before: dict[str, Sequence[Any]] = {}
        self._at_work: set[Hashable] = set()
        self._names: set[str] = set()
        self._anew: set[str] = set()

    def started(
        self, key: Hashable, parent: Hashable, given: Any, metadata: Mapping[str, Any]
    ) -> None:
        """Take note of a step's start, if it is a node.

        Each may be given another part of the state. What one is sent need not be from there.
        """
        if parent != self._graph or metadata.get("langgraph_node") == BEGINNING:
            return
        self._at_work.add(key)
        if str(next(iter(metadata.get("langgraph_triggers") or ()), "")).startswith(_SENT):
            return
        fields = fields_in(given)
        for name in NAMED_ANSWERS.intersection(fields).difference(self._before):
            self._before[name] = _parts(fields[name])

    def ended(self, key: Hashable, output: Any) -> None:
        """Take note of its end."""
        if key not in self._at_work:
            return
        for update in updates_in(output):
            for name in NAMED_ANSWERS.intersection(update):
                self._wrote(name, update[name])
        self._at_work.discard(key)

    def failed(self, key: Hashable, error: BaseException) -> None:
        """Take note of its failure, which may be a command of a graph inside."""
        command = next(iter(error.args), None) if is_bubble(error) else None
        self.ended(key, command if is_command(command) else None)

    def _wrote(self, name: str, value: Any) -> None:
        """Take note of what a node returns.

        A graph inside returns its whole state, and so do some functions: with the very objects
        that were in it before. Only a text, or what is made of texts, is surely handed on like
        that: a list may be longer now. And what the app brought may be the very text that its code
        says again; those out of a checkpoint are new.
        """
        same = self._is_as_before(name, value)
        if value is None or (same and name not in self._brought and _never_changes(value)):
            return
        self._names.add(name)
        if not same:
            self._anew.add(name)

    def _is_as_before(self, name: str, value: Any) -> bool:
        return [*map(id, self._before.get(name, ()))] == [*map(id, _parts(value))]

    def keep(self, prompt_id: str) -> None:
        """Keep what was written in a turn that may stand still now."""
        earlier = _of_turns().get(prompt_id)
        if earlier is not None or not self._goes_on:
            _of_turns().put(prompt_id, (earlier or _NONE).union(self._names))

    def names(self, output: Any, prompt_id: str | None) -> Names:
        """Return what is known of the names in the graph's output; nothing if it does not show.

        Nor does it show what a turn has written before it stood still, if that was in another
        process, or no model had been asked yet.
        """
        if self._graph is _NO_GRAPH:
            return Names()
        fields = fields_in(output)
        left = NAMED_ANSWERS.intersection(fields) - self._names
        if self._goes_on:
            earlier = _of_turns().get(prompt_id)
            left = _NONE if earlier is None else left - earlier
        left = frozenset(name for name in left if not self._has_changed(name, fields[name]))
        return Names(frozenset(self._anew), left, asks_on=self._asks_on)

    def _has_changed(self, name: str, value: Any) -> bool:
        """Whether a node has changed an object in place, and returned something else."""
        return name in self._before and not self._is_as_before(name, value)


def updates_in(output: Any) -> Iterator[Mapping[str, Any]]:
    """Return what a node writes. Source: langgraph 0.2 to 1.2, `CompiledStateGraph.attach_node`."""
    for one in each(output)[:_MOST] or (output,):
        update = field(one, "update") if is_command(one) else one
        pairs = each(update)[:_MOST]
        yield _named(pairs) if pairs else fields_in(update)


def _named(pairs: Iterable[Any]) -> Mapping[str, Any]:
    """Return the pairs of a name and a value in a list, which may hold anything."""
    two = [each(one) for one in pairs if len(each(one)) == len(("name", "value"))]
    return {name: value for name, value in two if isinstance(name, str)}


def _parts(value: Any) -> Sequence[Any]:
    """Return what shows that an object was changed in place: the end of a list, or the fields."""
    if isinstance(value, list):
        return each(value)[-1:]
    return (value, *fields_in(value).values())


def _never_changes(value: Any) -> bool:
    """Whether it is a text, or holds such alone: in what is deeper no change would show."""
    fields = fields_in(value)
    return all(isinstance(one, _NEVER_CHANGES) for one in fields.values() or (value,))


def _of_turns() -> Memory[frozenset[str]]:
    """Return which names the nodes have written in turns that stood still, by their prompt."""
    return _runtime.memory("names written in turns")
