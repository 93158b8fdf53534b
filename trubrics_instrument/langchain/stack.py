"""What the stack shows of LangChain's and LangGraph's own code, and no callback tells."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trubrics_instrument.langchain.messages import field, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

CALLBACKS = "langchain_core.callbacks.manager"
MODELS = "langchain_core.language_models"
MAX_FRAMES = 60
_GRAPHS = "langgraph.pregel"
# What lies between the start of a run and our handler.
_TOLD_BY = (CALLBACKS, "trubrics_instrument.")
# Whose code holds the callback manager that tells of a start, for as long as the run lasts.
_HOLDERS = (MODELS, "langchain_core.tools", "langchain_core.retrievers")
_RUNNERS = (
    *(_GRAPHS, "langchain_core.runnables", MODELS),
    *("langchain_classic.", "langchain.chains", "langchain.agents"),
)
# From a run's start up to who runs it; some of LangChain's own lie between.
_STARTING_FRAMES = 16
_NEAR_FRAMES = 8
_TRANSFORM = "_transform_stream_with_config"
_STREAMING = frozenset({"stream", "astream"})
_WHOLE = frozenset({"_generate_with_cache", "_agenerate_with_cache"})


def life_of(run_id: Any) -> Any:
    """Return the object that goes when the run goes whose start is told here.

    That is the callback manager that tells it, where LangChain's own code holds that and no tracer
    does; else the id, which is kept by a tracer that is never told of an end.
    Source: langchain-core 0.3.10 to 1.8.3, `BaseChatModel.agenerate`, `BaseTracer.run_map`.
    """
    for frame in frames_from(sys._getframe(1), _NEAR_FRAMES):
        outer = frame.f_back
        if outer is not None and module_of(outer).startswith(_HOLDERS):
            told_by = module_of(frame) == CALLBACKS
            return frame.f_locals.get("self", run_id) if told_by else run_id
    return run_id


def in_stream() -> bool:
    """Whether the app streams the model that tells a piece of its answer here."""
    for frame in frames_from(sys._getframe(1), MAX_FRAMES):
        name = frame.f_code.co_name
        if name in _WHOLE:
            return False
        if name in _STREAMING and module_of(frame).startswith(MODELS):
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


def configured(frame: FrameType | None) -> tuple[bool, Mapping[str, Any]]:
    """Return whether a graph starts here, and what the run that starts is configured with.

    Its metadata has not all of it, and nothing else shows it. Source: langgraph 0.2 to 1.2,
    `Pregel.stream`; langchain-core 0.3.10 to 1.8.3, `Runnable.invoke`, `batch` and the like.
    """
    found: Mapping[str, Any] = {}
    for one in frames_from(frame, _STARTING_FRAMES):
        module = module_of(one)
        if module.startswith(_RUNNERS):
            # To make the dict of a frame's locals takes long, where there are many.
            if not found and "config" in one.f_code.co_varnames:
                config = mapping(one.f_locals.get("config"))
                found = mapping(config.get("configurable"))
            if module.startswith(_GRAPHS):
                return True, found
    return False, found


def shows_writes() -> bool:
    """Whether what starts here is a graph whose nodes show all that they write into its state.

    A workflow of functions has no state, and a node that comes out of a cache reports no run.
    Source: langgraph 0.2 to 1.2, `CompiledStateGraph`, `Pregel.stream`.
    """
    frame = teller()
    if frame is None or not module_of(frame).startswith(_GRAPHS):
        return False
    graph = frame.f_locals.get("self")
    return hasattr(graph, "builder") and getattr(graph, "cache", None) is None


def stops_here(frame: FrameType | None) -> bool:
    """Whether the graph that ends here has not come to its end, but stops at a breakpoint.

    Nothing else shows it. Source: langgraph 0.2 to 1.2, `Pregel.stream`, `PregelLoop.status`.
    """
    for one in frames_from(frame, _STARTING_FRAMES):
        if module_of(one).startswith(_GRAPHS):
            status = field(one.f_locals.get("loop"), "status")
            return str(status).startswith("interrupt_")
    return False


def teller() -> FrameType | None:
    """Return the frame that tells our handler of a run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and module_of(frame).startswith(_TOLD_BY):
        frame = frame.f_back
    return frame


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
