"""The parts of a root run, nodes and branches: which of them makes the answer, and what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument import _runtime
from trubrics_instrument.langchain.messages import each, first_text, mapping, messages_in, role
from trubrics_instrument.langchain.reply import NAMED_ANSWERS, Reply, new_reply_in
from trubrics_instrument.langchain.written import BEGINNING, updates_in

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from trubrics_instrument._base.memory import Memory
    from trubrics_instrument.langchain.outcome import ModelAnswer
    from trubrics_instrument.langchain.reply import Known
    from trubrics_instrument.langchain.settings import Key

# How LangChain tags what makes the value of a key. Source: langchain-core 0.3.10 to 1.8.3,
# `RunnableParallel`.
_KEY_TAG = "map:key:"
# How an agent's middleware marks what it asks a model itself: a summary, a choice of tools.
# Source: langchain 1.1 to 1.5.
_INTERNAL = frozenset({"lc_source", "lc_internal_call"})


class Part(NamedTuple):
    """A node of a graph, or what makes the value of a key in a chain."""

    name: str
    is_node: bool


_BESIDE = Part("", is_node=False)


class Parts:
    """What is known of them, for a run that is left before it returns anything.

    What comes beside the answer, or behind it (follow-up questions, a title), is made under a key
    that has no answer's name, or in a node that has never written an answer, or by middleware.
    Steps may run in several threads at once: each change is one atomic operation, no lock.
    """

    def __init__(self, output_key: Key) -> None:
        self._names = {output_key} if isinstance(output_key, str) else NAMED_ANSWERS
        self._of: dict[Hashable, Part] = {}
        self._outermost: dict[Hashable, Part] = {}
        self._returned: dict[Part | None, Reply] = {}

    def started(self, key: Hashable, parent: Hashable, about: Mapping[str, Any]) -> None:
        """Take note of the start of a run inside: what it calls is of the same part."""
        part = _BESIDE if _is_internal(about) else self._of.get(parent)
        if part is None:
            part = _part_in(about)
            if part is None:
                return
            self._outermost[key] = part
            self._returned.pop(part, None)
        self._of[key] = part

    def ended(self, key: Hashable, output: Any, known: Callable[[], Known]) -> None:
        """Take note of what a part has returned, if it is one that ends."""
        part = self._outermost.get(key)
        self.left(key)
        if part is None:
            return
        turn = known()
        for update in updates_in(output) if part.is_node else ({part.name: output},):
            own = {name: update[name] for name in self._names.intersection(update)}
            reply = new_reply_in(own, turn) if not any(map(_is_of_tool, own.values())) else None
            if reply is not None:
                self._returned[part] = reply
                _answering().put(part, True)

    def left(self, key: Hashable) -> Part | None:
        """Return the part of a run inside, which is over."""
        self._outermost.pop(key, None)
        return self._of.pop(key, None)

    def so_far(self, answers: Sequence[ModelAnswer]) -> tuple[Sequence[ModelAnswer], Reply | None]:
        """Return the models' answers that may be the turn's, and what their part has returned."""
        own = [one for one in answers if one.choice.text and self._answers(one.part)]
        if own:
            return own, self._returned.get(own[-1].part)
        others = [one for one in answers if one.part is not _BESIDE]
        return others, next(reversed(self._returned.values()), None)

    def _answers(self, part: Part | None) -> bool:
        if part is None:
            return True
        return _answering().get(part) is not None if part.is_node else part.name in self._names


def _is_internal(about: Mapping[str, Any]) -> bool:
    return not _INTERNAL.isdisjoint(mapping(about.get("metadata")))


def _part_in(about: Mapping[str, Any]) -> Part | None:
    tags = (tag for tag in each(about.get("tags")) if str(tag).startswith(_KEY_TAG))
    name = next(tags, None)
    if name is not None:
        return Part(str(name).removeprefix(_KEY_TAG), is_node=False)
    node = first_text([mapping(about.get("metadata")).get("langgraph_node")])
    return None if node in (None, BEGINNING) else Part(node, is_node=True)


def _is_of_tool(value: Any) -> bool:
    """Whether a tool has spoken last: an agent has its result, and the user none of it."""
    messages = messages_in(value)
    return bool(messages) and role(messages[-1]) == "tool"


def _answering() -> Memory[bool]:
    """Return the nodes that have written an answer, in whichever graph."""
    return _runtime.memory("nodes that answer")
