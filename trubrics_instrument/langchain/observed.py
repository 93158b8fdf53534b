"""What the code that runs here and now is, told by its stack: above all, an observed model run."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from types import FrameType

_MAX_FRAMES = 60
_CALLBACKS = "langchain_core.callbacks.manager"
_MODELS = "langchain_core.language_models"
_GRAPHS = "langgraph.pregel"
# What lies between the start of a run and our handler.
_TOLD_BY = (_CALLBACKS, "trubrics_instrument.")
# Whose code holds the callback manager that tells of a start, for as long as the run lasts.
_HOLDERS = (_MODELS, "langchain_core.tools", "langchain_core.retrievers")
# Chains that do not tell LangChain where their code runs.
_OLD_CHAINS = ("langchain_classic.chains.base", "langchain.chains.base")
_CALLING = frozenset({"_generate", "_stream", "_call", "_agenerate", "_astream", "_acall"})

_TRANSFORM = "_transform_stream_with_config"
_NEAR_FRAMES = 8
_STREAMING = frozenset({"stream", "astream"})
_WHOLE = frozenset({"_generate_with_cache", "_agenerate_with_cache"})

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
    return _on_stack(_teller())[0] if _open else None


def old_chain() -> Hashable:
    """Return the key of the run of an older chain whose code starts a run here; None if none.

    Its memory, and a subclass of the app's, ask models without handing their callbacks on.
    Source: langchain 0.3 and langchain-classic 1.0, `Chain.invoke`.
    """
    if sys.modules.keys().isdisjoint(_OLD_CHAINS):
        return None
    for frame in frames_from(_teller(), _MAX_FRAMES):
        if module_of(frame) in _OLD_CHAINS:
            run_id = getattr(frame.f_locals.get("run_manager"), "run_id", None)
            if run_id is not None:
                return key_of(run_id)
    return None


def life_of(run_id: Any) -> Any:
    """Return the object that goes when the run goes whose start is told here.

    That is the callback manager that tells it, where LangChain's own code holds that and no tracer
    does; else the id, which is kept by a tracer that is never told of an end.
    Source: langchain-core 0.3.10 to 1.8.3, `BaseChatModel.agenerate`, `BaseTracer.run_map`.
    """
    for frame in frames_from(sys._getframe(1), _NEAR_FRAMES):
        outer = frame.f_back
        if outer is not None and module_of(outer).startswith(_HOLDERS):
            told_by = module_of(frame) == _CALLBACKS
            return frame.f_locals.get("self", run_id) if told_by else run_id
    return run_id


def in_stream() -> bool:
    """Whether the app streams the model that tells a piece of its answer here."""
    for frame in frames_from(sys._getframe(1), _MAX_FRAMES):
        name = frame.f_code.co_name
        if name in _WHOLE:
            return False
        if name in _STREAMING and module_of(frame).startswith(_MODELS):
            return True
    return False


def left_stream(run_id: Any) -> bool:
    """Whether the app left the stream of the run that ends here, before it had all of it.

    LangChain tells such an end as any other, with an output that lacks what was read last. It
    shows in the generator behind the stream, which has not come to its own end.
    Source: langchain-core 0.3.10 to 1.8.3, `Runnable._transform_stream_with_config`.
    """
    for frame in frames_from(sys._getframe(1), _NEAR_FRAMES):
        if frame.f_code.co_name == _TRANSFORM:
            names = frame.f_locals
            own = getattr(names.get("run_manager"), "run_id", None) == run_id
            return own and getattr(names.get("iterator"), "gi_frame", None) is not None
    return False


def shows_writes() -> bool:
    """Whether what starts here is a graph whose nodes show all that they write into its state.

    A workflow of functions has no state, and a node that comes out of a cache reports no run.
    Source: langgraph 0.2 to 1.2, `CompiledStateGraph`, `Pregel.stream`.
    """
    frame = _teller()
    if frame is None or not module_of(frame).startswith(_GRAPHS):
        return False
    graph = frame.f_locals.get("self")
    return hasattr(graph, "builder") and getattr(graph, "cache", None) is None


def frames_from(frame: FrameType | None, most: int) -> Iterator[FrameType]:
    """Yield a frame and those that called it, the nearest first."""
    for _ in range(most):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def module_of(frame: FrameType) -> str:
    """Return the name of a frame's module; code that was given to `exec` may have any, or none."""
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def _teller() -> FrameType | None:
    """Return the frame that tells our handler of a run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and module_of(frame).startswith(_TOLD_BY):
        frame = frame.f_back
    return frame


def _on_stack(frame: FrameType | None) -> tuple[Hashable, bool]:
    """Return the key of the observed model run whose code is on the stack, None if none is.

    And whether there is a model's code without its run: it may have been moved to a thread.
    """
    moved = False
    foreign = False
    for _ in range(_MAX_FRAMES):  # no `frames_from`: this is for each call of a client
        if frame is None:
            break
        module = module_of(frame)
        if module == _CALLBACKS:  # somebody else's handler asks a model on its own behalf
            return None, False
        if frame.f_code.co_name in _CALLING or module.startswith(_MODELS):
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
