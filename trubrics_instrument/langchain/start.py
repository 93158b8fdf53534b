"""What a run's start leads to: a turn of its own, a part of one, or nothing at all."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument import _runtime
from trubrics_instrument._context.identity import first_of
from trubrics_instrument._observing.call import ModelCall
from trubrics_instrument._observing.observer import start_now
from trubrics_instrument.langchain import observed, runs, stack
from trubrics_instrument.langchain.asking import Root, asked_of
from trubrics_instrument.langchain.messages import each, field, first_text, mapping
from trubrics_instrument.langchain.model import ModelRun
from trubrics_instrument.langchain.origin import (
    SKIP_TAG,
    claim_of,
    origin_of,
    own_keys,
    own_properties,
)
from trubrics_instrument.langchain.question import resumes
from trubrics_instrument.langchain.reader import ResultReader
from trubrics_instrument.langchain.tools import ToolRun
from trubrics_instrument.langchain.turn import RunTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from trubrics_instrument.langchain.origin import Origin
    from trubrics_instrument.langchain.question import Question
    from trubrics_instrument.langchain.settings import Settings


class Started(NamedTuple):
    """A run's start, as LangChain reports it; `about` has the keywords of the callback."""

    settings: Settings
    key: Hashable
    serialized: Any
    about: Mapping[str, Any]
    may_open: bool = True

    @property
    def run_id(self) -> Any:
        """The run's id."""
        return self.about["run_id"]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The run's metadata: the run's own object, never to be changed."""
        return mapping(self.about.get("metadata"))

    @property
    def parent(self) -> Hashable:
        """The key of the run that it is reported to be a part of; None if of none."""
        parent = self.about.get("parent_run_id")
        return None if parent is None else observed.key_of(parent)

    def is_new(self) -> bool:
        """Whether nobody has reported it yet."""
        return not runs.is_open(self.key)

    def around(self) -> runs.Run | None:
        """Return the run that it is a part of; `SKIPPED` if the app wants it left alone."""
        if SKIP_TAG in each(self.about.get("tags")):
            return runs.SKIPPED
        return runs.around(self.about.get("parent_run_id"))

    def may_be_root(self) -> bool:
        """Whether a turn may begin with it."""
        return self.may_open and _runtime.observing()


class Retrieval(NamedTuple):
    """One run of a retriever."""

    turn: RunTurn

    def lost(self) -> None:
        """Do nothing: what it found is not known."""


def start_step(started: Started, given: Any) -> None:
    """Take note of a chain, a graph, or a step of one."""
    turn = _turn_of(started, given)
    if turn is not None:
        runs.enter(started.key, turn)
        turn.part_started(started.key, started.parent, started.about)
        turn.step_started(started.key, started.parent, given, started.metadata)
        if resumes(given):
            turn.went_on()


def start_tool(started: Started, given: Any) -> None:
    """Take note of a tool; one that the app itself runs is a root run like any other."""
    turn = _turn_of(started, given)
    if turn is None:
        return
    name = first_text([field(started.serialized, "name"), started.about.get("name")])
    call_id = first_text([started.about.get("tool_call_id")])
    told = _runtime.observing()
    tool = ToolRun(started.key, turn, name or "unknown", call_id, time.time(), told)
    runs.enter_mortal(started.key, tool, stack.life_of(started.run_id))
    if told:
        turn.tool_started(tool)


def start_retriever(started: Started) -> None:
    """Take note of a retriever inside a turn."""
    turn = _turn_of(started)
    if turn is not None:
        runs.enter_mortal(started.key, Retrieval(turn), stack.life_of(started.run_id))


def start_model(started: Started, ask: Callable[[], Question], operation: str) -> None:
    """Take note of a model: a call of its own, or one more call of a turn.

    A request may be long, so `ask` reads what is asked, now, and only if that is to be known.
    """
    if not started.is_new():
        return
    around, life = started.around(), stack.life_of(started.run_id)
    if around is runs.SKIPPED or _only_prepares(started):
        # Left alone means: by the patch of its client as well.
        runs.enter_mortal(started.key, ModelRun(started.key, started.run_id), life)
        return
    if not _runtime.observing():
        return
    within = _within(around)
    if within is not None:
        run = ModelRun(started.key, started.run_id, within=within.model)
        runs.enter_mortal(started.key, run, life)
        return
    params = started.about.get("invocation_params")
    origin = origin_of(started.serialized, started.metadata, params, operation)
    turn = around.turn if around and started.settings.granularity == "turn" else None
    if turn is not None:
        run = ModelRun(started.key, started.run_id, origin, turn=turn)
        runs.enter_mortal(started.key, run, life)
        turn.part_started(started.key, started.parent, started.about)
        turn.model_started(started.key, origin, ask, started.metadata)
    elif started.may_open:
        late = around if isinstance(around, runs.Late) else None
        call = _call_of(started, ask(), origin, late)
        run = ModelRun(started.key, started.run_id, origin, call=call)
        runs.enter_mortal(started.key, run, life)
        call.begin()


def _only_prepares(started: Started) -> bool:
    """Whether a model has the provider warm up its cache, and answers nothing."""
    params = mapping(started.about.get("invocation_params"))
    return mapping(params.get("prompt_cache_options")).get("prewarm") is True


_NO_ROOT = object()


def _turn_of(started: Started, given: Any = _NO_ROOT) -> RunTurn | None:
    """Return the turn that a new run is a part of; begin one if it is given something to answer.

    What the app wants left alone is remembered too: its parts do not always have its tag.
    Source: langchain-core 0.3.10 to 1.8.3, where a tool's own tags are not its model's.
    """
    if not started.is_new():
        return None
    around = started.around()
    within = None if around is runs.SKIPPED else _within(around)
    if around is runs.SKIPPED or within is not None:
        runs.enter_mortal(started.key, within or runs.SKIPPED, started.run_id)
    elif isinstance(around, runs.Late):
        runs.linger(started.key, around)
    elif around is not None and around.turn is not None:
        return around.turn
    elif given is not _NO_ROOT and started.may_be_root():
        _start_turn(started, given)
    return None


def _within(around: runs.Run | None) -> runs.Within | None:
    """Return what a model runs to answer with what another one says, if the new run is in that."""
    if isinstance(around, runs.Within):
        return around
    if isinstance(around, runs.Late):
        return None
    if isinstance(around, ModelRun):
        return runs.Within(around)
    turn = None if around is None else around.turn
    # To look who calls takes its time, and mostly no model is at work above.
    model = runs.model(observed.caller()) if turn is None or turn.at_work else None
    return None if model is None else runs.Within(model)


def _start_turn(started: Started, given: Any) -> None:
    late = bool(started.about.get("defers_inputs"))
    # Source: langgraph 0.2 to 1.2, `Pregel.update_state`.
    edits = str(started.about.get("name")).endswith("UpdateState")
    root = Root(started.key, started.run_id, given, started.metadata, late, edits)
    runs.enter_mortal(started.key, RunTurn(started.settings, root), started.run_id)


def _call_of(
    started: Started, question: Question, origin: Origin, late: runs.Late | None
) -> ModelCall:
    """Return a call of its own; one that comes `late` has the prompt of the turn that is over."""
    metadata, run_id = started.metadata, str(started.run_id)
    told = claim_of(stack.configured(sys._getframe(1))[1], metadata)
    own = own_properties(metadata) | own_keys(metadata)
    asked = asked_of(origin, question, first_of([told, origin.claim]), own)
    if late is not None:
        asked = asked._replace(continues=True, brings=False)
    if started.settings.granularity == "call":  # each has a pair of its own, whoever is asked
        asked = asked._replace(instructions=None)
    start = start_now(run_id) if late is None else late.start(run_id)
    call = ModelCall(ResultReader(origin.framework), asked, started.settings.observer, start)
    call.note({}, origin.model or origin.kind)
    return call
