"""The runs that are observed at present: each one once, whoever reports it, until it ends."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trubrics_instrument._base.memory import Memory
from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.observer import start_now
from trubrics_instrument.langchain.observed import key_of, old_chain
from trubrics_instrument.langchain.origin import enclosing_run_id

if TYPE_CHECKING:
    from collections.abc import Hashable

    from trubrics_instrument._context.identity import Identity
    from trubrics_instrument._observing.observer import Start
    from trubrics_instrument.langchain.model import ModelRun
    from trubrics_instrument.langchain.turn import RunTurn

MAX_OPEN_RUNS = 100_000


class Run(Protocol):
    """What is known of an open run."""

    @property
    def turn(self) -> RunTurn | None:
        """The turn that it belongs to; None for a model that was asked directly."""
        ...


class Mortal(Run, Protocol):
    """A run that must be told of its end, even if LangChain never reports one."""

    def lost(self) -> None:
        """Take note that it will never end."""
        ...


class Within(NamedTuple):
    """What a model runs to answer with what another one says: steps, around that other one."""

    model: ModelRun
    turn: None = None

    def lost(self) -> None:
        """Do nothing."""


class Late(NamedTuple):
    """A step that goes on after the end of its turn: who asked it, and what it belongs to.

    Nobody is there any more to be told of it, but the models that it asks take tokens.
    """

    who: Identity
    prompt_id: str
    turn: None = None

    def start(self, run_id: str) -> Start:
        """Return the start of a call that it makes."""
        start = start_now(run_id)
        user_id, thread_id, _ = self.who
        said = start.said._replace(user_id=user_id, thread_id=thread_id, prompt_id=self.prompt_id)
        return start._replace(said=said)


class _Skipped(NamedTuple):
    """What stands for every run that the app wants left alone, and for what such a run calls."""

    turn: None = None

    def lost(self) -> None:
        """Do nothing."""


SKIPPED: Mortal = _Skipped()

_open: Memory[Run] = Memory(MAX_OPEN_RUNS)
_watches: dict[Hashable, weakref.ref[Any]] = {}
# The turns of runs that have ended: what they left behind in the background may still ask a model.
_ended: Memory[weakref.ref[RunTurn]] = Memory()
# Steps that may go on where their turn does not: a thread after a timeout, or a step without end.
# Some hold what was asked, so fewer than elsewhere.
_late: Memory[RunTurn | Late] = Memory(1_000)


def count() -> int:
    """Return how many runs are open."""
    return len(_open)


def is_open(key: Hashable) -> bool:
    """Whether a run is reported already: by the same handler given twice, or by another one."""
    return _open.get(key) is not None


def model(key: Hashable) -> Any:
    """Return an open run of a model."""
    return None if key is None else _open.get(key)


def enter(key: Hashable, turn: RunTurn) -> None:
    """Take note of a step of a turn until it is left."""
    turn.steps[key] = None
    _put(key, turn)


def linger(key: Hashable, turn: RunTurn | Late) -> None:
    """Take note of a step that may go on after its end, or after that of its turn."""
    if isinstance(turn, Late):
        _late.put(key, turn)
        return
    if not turn.over:
        turn.steps[key] = None
    _late.put(key, turn.late or turn)


def outlive(turn: RunTurn) -> None:
    """Keep the steps apart that a turn leaves behind; the oldest of all are forgotten."""
    for key in list(turn.steps):
        _open.pop(key)
        linger(key, turn)


def enter_mortal(key: Hashable, run: Mortal, life: object) -> None:
    """Take note of a run, and of its death if it has no end.

    A cancelled model, tool or retriever reports neither an end nor an error, but its `life` goes
    when it goes: an object that belongs to it. Source: langchain-core 0.3.10 to 1.8.3,
    `BaseChatModel.agenerate` and `BaseRetriever.ainvoke`.
    """
    _put(key, run)
    try:
        _watches[key] = weakref.ref(life, partial(_lost, key))
    except TypeError:  # no UUID, but something that cannot be watched
        return


def leave(key: Hashable) -> Run | None:
    """Return a run, which then is forgotten; None for all but the first who reports its end."""
    _watches.pop(key, None)
    run = _open.pop(key)
    if run is None:
        return _late.pop(key)
    if run.turn is not None:
        run.turn.steps.pop(key, None)
        _ended.put(key, weakref.ref(run.turn))
    return run


def around(parent_run_id: Any) -> Run | None:
    """Return the run that a new one is a part of: its parent, else that of the code around it.

    A parent that has ended stands for its turn, as long as that goes on. Later, what it left behind
    may be a worker that many users ask, and is a turn of its own.
    """
    parent = None if parent_run_id is None else _turn_or_run(key_of(parent_run_id))
    if parent is None:
        enclosing = enclosing_run_id()
        key = old_chain() if enclosing is None else key_of(enclosing)
        parent = None if key is None else _open_run(key)
    return parent


def _turn_or_run(key: Hashable) -> Run | None:
    run = _open_run(key)
    ended = None if run is not None else _ended.get(key)
    turn = None if ended is None else ended()
    return run if turn is None or turn.over else turn


def _open_run(key: Hashable) -> Run | None:
    return _open.get(key) or _late.get(key)


def _put(key: Hashable, run: Run) -> None:
    """Remember a run. If that is one too many, the one that was used least recently is let go.

    Its end will not be known, and so it is told as unread now: a later end finds nothing.
    """
    too_many = _open.put(key, run)
    if too_many is None:
        return
    with shield("forgetting a run"):
        old_key, old = too_many
        _watches.pop(old_key, None)
        ending: Any = old
        if getattr(old, "key", None) == old_key:  # else a step, whose turn goes on
            ending.forgotten()


def _lost(key: Hashable, _: object) -> None:
    # The garbage collector may call this anywhere: no lock, and nothing is logged.
    with shield("ending a run that was dropped", quiet=True):
        _watches.pop(key, None)
        run: Any = _open.pop(key)
        if run is not None:
            run.lost()
