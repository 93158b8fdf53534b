"""The runs that are observed at present: each one once, whoever reports it, until it ends."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trubrics_instrument._memory import Memory
from trubrics_instrument._shield import shield
from trubrics_instrument.langchain.observed import key_of
from trubrics_instrument.langchain.origin import enclosing_run_id

if TYPE_CHECKING:
    from collections.abc import Hashable

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


def count() -> int:
    """Return how many runs are open."""
    return len(_open)


def is_open(key: Hashable) -> bool:
    """Whether a run is reported already: by the same handler given twice, or by another one."""
    return _open.get(key) is not None


def model(key: Hashable) -> Any:
    """Return an open run of a model."""
    return None if key is None else _open.get(key)


def enter(key: Hashable, run: Run) -> None:
    """Take note of a run until it is left."""
    _put(key, run)


def enter_mortal(key: Hashable, run: Mortal, run_id: object) -> None:
    """Take note of a run, and of its death if it has no end.

    A cancelled model, tool or retriever reports neither an end nor an error, but the object that is
    its id goes when the run goes. Source: langchain-core 0.3.10 to 1.8.3, `BaseChatModel.agenerate`
    and `BaseRetriever.ainvoke`.
    """
    _put(key, run)
    try:
        _watches[key] = weakref.ref(run_id, partial(_lost, key))
    except TypeError:  # no UUID, but something that cannot be watched
        return


def leave(key: Hashable) -> Run | None:
    """Return a run, which then is forgotten; None for all but the first who reports its end."""
    _watches.pop(key, None)
    run = _open.pop(key)
    if run is not None and run.turn is not None:
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
        parent = None if enclosing is None else _open.get(key_of(enclosing))
    # A step may outlive its root: a thread that goes on after a timeout, a task nobody waits for.
    turn = None if parent is None else parent.turn
    return None if turn is not None and turn.over else parent


def _turn_or_run(key: Hashable) -> Run | None:
    run = _open.get(key)
    ended = None if run is not None else _ended.get(key)
    turn = None if ended is None else ended()
    return run if turn is None or turn.over else turn


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
