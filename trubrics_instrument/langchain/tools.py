"""The tools that run in a turn, in whatever thread: each is told once."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument import _runtime
from trubrics_instrument._observing.reader import Choice
from trubrics_instrument.langchain.messages import each, field, first_text
from trubrics_instrument.langchain.outcome import failure

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from trubrics_instrument._base.memory import Memory
    from trubrics_instrument._observing.call import ModelCall
    from trubrics_instrument._observing.reader import ToolUse
    from trubrics_instrument.langchain.outcome import ModelAnswer
    from trubrics_instrument.langchain.turn import RunTurn


class _Done(NamedTuple):
    """A tool's run, or a provider's, that is to be told.

    Attributes:
        caller: The answer that called it, if this run has seen that.
        last: The last answer before it began.
    """

    time_s: float
    own: dict[str, object]
    caller: ModelAnswer | None
    last: ModelAnswer | None = None


class ToolRun(NamedTuple):
    """One run of a tool."""

    key: Hashable
    turn: RunTurn
    name: str
    call_id: str | None
    time_s: float
    told: bool = True

    def ended(self, error: BaseException | None = None) -> None:
        """Tell it, unless the app wants that kept quiet."""
        if self.told:
            self.turn.tool_ended(self, error)

    def lost(self) -> None:
        """Do nothing: its turn knows that it has not ended."""

    def forgotten(self) -> None:
        """Tell that it was called: that is known, and nothing more."""
        self.ended()


class Tools:
    """The tools of one turn, told as acts of the model that called them.

    Each change is one atomic operation, no lock.

    Attributes:
        ran: The ids of the calls that have ended.
    """

    def __init__(self, answers: deque[ModelAnswer]) -> None:
        self._answers = answers
        self._open: dict[Hashable, tuple[ToolRun, ModelAnswer | None]] = {}
        self._untold: deque[_Done] = deque()
        self.ran: set[str | None] = set()

    def started(self, tool: ToolRun) -> None:
        """Take note of a run."""
        self._open[tool.key] = tool, self._answers[-1] if self._answers else None

    def left(self, tool: ToolRun) -> None:
        """Take note that a run is over, and is not to be told."""
        self._open.pop(tool.key, None)

    def ended(self, tool: ToolRun, error: BaseException | None = None) -> None:
        """Take note of how a run ended; one that was told as unfinished is told no more."""
        was_open = self._open.pop(tool.key, None)
        if was_open is None:
            return
        self.ran.add(tool.call_id)
        own: dict[str, object] = {"tool_name": tool.name, "tool_call_id": tool.call_id}
        if error is not None:
            outcome = failure(error)
            own |= {"status": outcome.status, "error_type": outcome.error_type}
        self._untold.append(_Done(tool.time_s, own, self._caller(tool.call_id), was_open[1]))

    def hosted(self, answer: ModelAnswer) -> None:
        """Take note of the tools that the provider has run for an answer: no run shows them."""
        for use in answer.choice.tool_uses:
            if use.hosted:
                own: dict[str, object] = {"tool_name": use.name, "tool_call_id": use.id}
                self._untold.append(_Done(time.time(), own, answer))

    def abandon(self) -> None:
        """Take note that the turn is over: what still runs is no part of it any more.

        A cancelled tool reports no end. Source: langchain-core 0.3.10 to 1.7.0, `BaseTool.arun`.
        """
        for tool, _ in list(self._open.values()):
            self.ended(tool, GeneratorExit())

    def forget(self) -> None:
        """Take note that the ends of what still runs will not be known: it was called, at least."""
        for tool, _ in list(self._open.values()):
            self.ended(tool)

    def tell(self, call: ModelCall) -> None:
        """Tell what has ended."""
        while self._untold:
            try:
                time_s, own, caller, last = self._untold.popleft()
            except IndexError:
                return
            if _told_tools().pop((call.turn.prompt_id, own["tool_call_id"])):
                continue
            caller = caller or _callers().get((*call.who[:2], own["tool_call_id"])) or last
            own |= caller.properties() if caller else {}
            call.used_tool(time_s, own, caller.assistant() if caller else None)

    def stand(self, call: ModelCall, told: Iterable[ToolUse]) -> None:
        """Take note of the calls that nobody has run by the end: a later run may.

        Args:
            call: The turn.
            told: Those of its answer, which tells them itself.
        """
        for answer in self._answers.copy():  # another thread may add to them
            caller = answer._replace(choice=Choice())  # without what it said
            for use in answer.choice.tool_uses:
                if use.id is not None and use.id not in self.ran and not use.hosted:
                    _callers().put((*call.who[:2], use.id), caller)
        for use in told:
            _told_tools().put((call.turn.prompt_id, use.id), value=True)

    def _caller(self, call_id: str | None) -> ModelAnswer | None:
        """Return the answer that called a tool, by the id of the call."""
        called = (
            answer
            for answer in reversed(self._answers.copy())
            if any(use.id == call_id for use in answer.choice.tool_uses)
        )
        return next(called, None) if call_id else None


def call_id_in(output: Any) -> str | None:
    """Return the id of the call that a tool's output answers: a message's, or a command's.

    Source: langchain-core 0.3.10 to 1.0.0, where a tool's start does not tell it.
    """
    messages = each(field(field(output, "update"), "messages"))
    return first_text([field(one, "tool_call_id") for one in (output, *messages)])


def _told_tools() -> Memory[bool]:
    """Return the tools that an answer called, and told, and that nobody had run by then."""
    return _runtime.memory("tools told by an answer")


def _callers() -> Memory[ModelAnswer]:
    """Return who called the tools that nobody had run by the end of their run."""
    return _runtime.memory("callers of tools")
