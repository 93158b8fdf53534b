"""Which observed run the code that runs here and now belongs to: above all, a model's."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from trubrics_instrument.langchain.stack import (
    CALLBACKS,
    MAX_FRAMES,
    MODELS,
    frames_from,
    module_of,
    teller,
)

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import FrameType

# Chains that do not tell LangChain where their code runs.
_OLD_CHAINS = ("langchain_classic.chains.base", "langchain.chains.base")
_CALLING = frozenset({"_generate", "_stream", "_call", "_agenerate", "_astream", "_acall"})

_open: dict[Hashable, None] = {}
_last_opened: ContextVar[Hashable] = ContextVar("trubrics_model_run", default=None)


def key_of(run_id: Any) -> Hashable:
    """Return a run's id as a key that does not keep the id itself alive."""
    key: Hashable = getattr(run_id, "int", run_id)
    return key


def opened(key: Hashable) -> None:
    """Note that a model run is observed from now on."""
    _open[key] = None
    _last_opened.set(key)


def closed(key: Hashable) -> None:
    """Note that it has ended."""
    _open.pop(key, None)


def observes_this_call() -> bool:
    """Whether an observed model run is making the request that is being made here.

    Told by the stack: a context variable alone would leak into the app's code between the pieces
    of a stream, and get lost on the way to another thread. It only helps where a model's own code
    was moved to a thread, and left its run behind.
    """
    if not _open:
        return False
    key, moved = _on_stack(sys._getframe(1))
    return key is not None or (moved and _last_opened.get() in _open)


def caller() -> Hashable:
    """Return the key of the observed model run that makes the run that starts here; None if none.

    A router or a wrapper answers with what another model says: that is one answer, and no two.
    """
    return _on_stack(teller())[0] if _open else None


def old_chain() -> Hashable:
    """Return the key of the run of an older chain whose code starts a run here; None if none.

    Its memory, and a subclass of the app's, ask models without handing their callbacks on.
    Source: langchain 0.3 and langchain-classic 1.0, `Chain.invoke`.
    """
    if sys.modules.keys().isdisjoint(_OLD_CHAINS):
        return None
    for frame in frames_from(teller(), MAX_FRAMES):
        if module_of(frame) in _OLD_CHAINS:
            run_id = getattr(frame.f_locals.get("run_manager"), "run_id", None)
            if run_id is not None:
                return key_of(run_id)
    return None


def _on_stack(frame: FrameType | None) -> tuple[Hashable, bool]:
    """Return the key of the observed model run whose code is on the stack, None if none is.

    And whether there is a model's code without its run: it may have been moved to a thread.
    """
    moved = False
    foreign = False
    for _ in range(MAX_FRAMES):  # no `frames_from`: this is for each call of a client
        if frame is None:
            break
        module = module_of(frame)
        if module == CALLBACKS:  # somebody else's handler asks a model on its own behalf
            return None, False
        if frame.f_code.co_name in _CALLING or module.startswith(MODELS):
            run_id = getattr(frame.f_locals.get("run_manager"), "run_id", None)
            if run_id is None:  # a model's own method is given one, or None
                own = "run_manager" in frame.f_code.co_varnames
                moved = moved or (own and frame.f_code.co_name in _CALLING)
            elif key_of(run_id) in _open:
                return key_of(run_id), False
            else:
                foreign = True
        frame = frame.f_back
    return None, moved and not foreign
