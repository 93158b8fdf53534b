"""Drives any runnable in each mode, and says what Trubrics was told of it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import sys
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import pytest

from tests.told import told
from trubrics_instrument import TrubricsCallbackHandler, flush
from trubrics_instrument.langchain import model, observed, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.sink import Sink

Mode: TypeAlias = Literal[
    "invoke", "ainvoke", "stream", "astream", "batch", "abatch", "events", "v3", "av3"
]
V3: tuple[Mode, ...] = ("v3", "av3")
MODES: tuple[Mode, ...] = tuple(mode for mode in get_args(Mode) if mode not in V3)
EVENTS = frozenset({"events", *V3})
ASYNC: tuple[Mode, ...] = ("ainvoke", "astream", "abatch", "events", "av3")
STREAMED = frozenset({"stream", "astream", *EVENTS})
BATCH = 3
_RUN_MESSAGE = re.compile(r"(lc_)?run-+[0-9a-f-]{36}(-\d+)?")


class Shape(NamedTuple):
    """A way in which apps are built.

    Attributes:
        name: What it is.
        build: Makes it.
        given: What it is asked.
        events: What Trubrics is to be told. `stream: True` is said in the streamed modes only, and
            `stream: "events"` in `astream_events` and `stream_events` only, which make every model
            stream.
        modes: Those that it knows.
        config: Its config, besides the handler.
        handler: The handler's arguments.
        raises: What the app itself gets to see.
        marks: What pytest is to know of it, in the modes named.
    """

    name: str
    build: Callable[[], Any]
    given: Any
    events: Sequence[Mapping[str, Any]]
    modes: Sequence[Mode] = MODES
    config: Mapping[str, Any] = {}
    handler: Mapping[str, Any] = {}
    raises: type[Exception] | None = None
    marks: Mapping[Mode, pytest.MarkDecorator] = {}

    def __str__(self) -> str:
        return self.name


def cases(shapes: Sequence[Shape], modes: Sequence[Mode] | None = None) -> list[Any]:
    """Return each shape in each of its modes, or in these."""
    names = [shape.name for shape in shapes]
    assert len(set(names)) == len(names)
    return [
        pytest.param(shape, mode, marks=shape.marks.get(mode, ()))
        for shape in shapes
        for mode in modes or shape.modes
    ]


def case_id(value: Any) -> str:
    """Return a readable name of a shape, or of a mode."""
    return str(value)


async def drive(mode: Mode, runnable: Any, given: Any, config: Any) -> Any:
    """Run it to its end, and return what the app gets."""
    if mode == "astream":
        return [piece async for piece in runnable.astream(given, config)]
    if mode == "events":
        return [one async for one in runnable.astream_events(given, config, version="v2")]
    if mode == "v3":
        return list(runnable.stream_events(given, config, version="v3"))
    if mode == "av3":
        try:
            return [one async for one in await runnable.astream_events(given, config, version="v3")]
        finally:
            await _until_told()
    batched = [given] * BATCH if mode in {"batch", "abatch"} else given
    result = getattr(runnable, mode)(batched, config)
    if inspect.isawaitable(result):
        return await result
    return list(result) if mode == "stream" else result


async def _until_told() -> None:
    """Let a model's background task end: its last event comes before its run's end."""
    for _ in range(200):
        if not runs.count():
            return
        await asyncio.sleep(0)


def config(granularity: str = "turn", **more: Any) -> Any:
    """Return a config with a handler."""
    arguments: dict[str, Any] = {"user_id": "ada", "thread_id": "t-1", "granularity": granularity}
    return {"callbacks": [TrubricsCallbackHandler(**arguments | more)]}


async def drive_shape(shape: Shape, mode: Mode) -> None:
    """Run a shape with a handler, and catch what it is meant to raise."""
    about = {**config(**shape.handler), **shape.config}
    try:
        await drive(mode, shape.build(), shape.given, about)
    except Exception as error:
        if shape.raises is None or not isinstance(error, shape.raises):
            raise
    else:
        assert shape.raises is None


async def assert_told(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Run a shape, and check that just what is written beside it is told, and nothing left."""
    await drive_shape(shape, mode)
    assert turns_told(sink) == expected(shape, mode)
    assert_nothing_left()


def expected(shape: Shape, mode: Mode) -> list[list[dict[str, Any]]]:
    """Return what Trubrics is to be told, turn by turn."""
    events: list[dict[str, Any]] = []
    for one in shape.events:
        event = {**one}
        if mode not in EVENTS and event.get("stream") == "events":
            event.pop("stream")
        elif mode not in STREAMED:
            event.pop("stream", None)
        elif "stream" in event:
            event["stream"] = True
        events.append({key: value for key, value in event.items() if value is not None})
    count = BATCH if mode in {"batch", "abatch"} else 1
    return [events] * count if events else []


def turns_told(sink: Sink, *, as_they_are: bool = False) -> list[list[dict[str, Any]]]:
    """Return what Trubrics was told, turn by turn, each as if it were the only one.

    The ids of answers as kinds of ids, unless they are wanted as they are.
    """
    gc.collect()
    assert flush(30)
    turns: dict[str, list[dict[str, Any]]] = {}
    for event in told(sink, 0):
        prompt_id = event.pop("$prompt_id")
        if "$generation_id" in event and not as_they_are:
            event["$generation_id"] = kind_of_id(event["$generation_id"])
        turns.setdefault(prompt_id, []).append(event)
    return list(turns.values())


def kind_of_id(value: str) -> str:
    """Return what an answer's id is: a message's, or a run's."""
    if _RUN_MESSAGE.fullmatch(value):
        return "message"
    try:
        uuid.UUID(value)
    except ValueError:
        return value
    return "run"


async def close(model: Any) -> None:
    """Close the clients of langchain-openai's model, which LangChain leaves open."""
    for client in (model.client, model.async_client):
        closed: Any = client._client.close()
        if inspect.isawaitable(closed):
            await closed


async def let_go() -> None:
    """Let the event loop close what was dropped, and forget what was cancelled."""
    for _ in range(200):
        gc.collect()
        await asyncio.sleep(0)
        if not runs.count():
            return


def assert_nothing_left() -> None:
    """Check that no run is remembered any more, anywhere."""
    if any(_left()):  # a run whose end was never told goes with its garbage
        gc.collect()
    assert _left() == (0, 0, 0, 0)


def _left() -> tuple[int, int, int, int]:
    return len(runs._open), len(runs._watches), len(observed._open), len(model.awaiting)


COMMON = {
    "user_id": "ada",
    "$thread_id": "thread 1",
    "framework": "langchain",
    "provider": "local",
    "operation": "chat",
    "model": "model-1",
}
GRAPH = {"framework": "langgraph"}


_CORE = tuple(int(part) for part in version("langchain-core").split(".")[:3])
# From langchain-core 1.2 on, a tool that fails can be told with the id of its call.
FAILED_TOOL_ID = _CORE >= (1, 2)
# Before Python 3.11 a task cannot be given a context. What an asynchronous run calls without
# handing its `config` on is then told to no handler, for LangChain itself forgets the run there:
# functions and tools before langchain-core 1.4.8, and the nodes of LangGraph in every version; not
# those that LangChain hands the config itself, nor where the stream is left before.
_NO_CONTEXT = sys.version_info < (3, 11)
LOST_IN_FUNCTIONS = pytest.mark.xfail(
    _NO_CONTEXT and _CORE < (1, 4, 8),
    reason="LangChain's asynchronous functions lose their config before Python 3.11",
)
LOST_IN_NODES = pytest.mark.xfail(
    _NO_CONTEXT,
    reason="LangGraph's asynchronous nodes lose their config before Python 3.11",
    strict=False,
)
IN_FUNCTIONS: Mapping[Mode, pytest.MarkDecorator] = dict.fromkeys(ASYNC, LOST_IN_FUNCTIONS)
IN_NODES: Mapping[Mode, pytest.MarkDecorator] = dict.fromkeys(ASYNC, LOST_IN_NODES)
# Tried at 1.3.3, where it is not there, at 1.4.0, where it loses refusals, and at 1.4.9.
KNOWS_V3 = pytest.mark.skipif(
    _CORE < (1, 4, 9), reason="models and graphs have no such stream yet, or not all of it"
)
FULL_REPORTS = pytest.mark.skipif(
    _CORE < (0, 3, 86),
    reason="it marks no cached answer, and loses the last piece of a stream that is left",
)


def failed_tool(name: str, **more: Any) -> dict[str, Any]:
    """Return a failed tool's run as it is to be told."""
    call_id = f"call-{name}" if FAILED_TOOL_ID else None
    failure = {"status": "error", "error_type": "LookupError"}
    return tool_call(name, **{"tool_call_id": call_id, **failure, **more})


def prompt(text: str | None, **more: Any) -> dict[str, Any]:
    """Return a prompt as it is to be told; None takes a property away."""
    return {"event": "Prompt", **COMMON, "$text": text, **more}


def generation(text: str | None, **more: Any) -> dict[str, Any]:
    """Return an answer as it is to be told, with the tokens of one call."""
    return {
        "event": "Generation",
        **COMMON,
        "$text": text,
        "$assistant_id": "model-1",
        "$generation_id": "run",
        "status": "ok",
        "model_calls": 1,
        **tokens(1),
        **more,
    }


def failed(error_type: str = "Refused", **more: Any) -> dict[str, Any]:
    """Return a failure as it is to be told."""
    event = {"event": "Generation failed", **COMMON, "$assistant_id": "model-1"}
    return {**event, "status": "error", "error_type": error_type, **more}


def tool_call(name: str, **more: Any) -> dict[str, Any]:
    """Return a tool's run as it is to be told."""
    event = {"event": "Tool call", **COMMON, "$assistant_id": "model-1", "tool_name": name}
    return {**event, **more}


def tokens(model_calls: int) -> dict[str, Any]:
    """Return the tokens of so many calls of a `Scripted` model; of none, no count at all."""
    counts = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return {name: count * model_calls or None for name, count in counts.items()}
