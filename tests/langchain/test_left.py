"""What the model has said is told, though the app leaves, or a later step never ends or fails."""

# LangChain's and LangGraph's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda
from langchain_core.tools import tool

from tests.langchain.chains import GIVEN, MESSAGE, QUESTION, TEMPLATE, WORDS, model, refusing
from tests.langchain.driving import (
    FULL_REPORTS,
    GRAPH,
    KNOWS_V3,
    assert_nothing_left,
    config,
    failed,
    generation,
    let_go,
    prompt,
    tokens,
    turns_told,
)
from tests.langchain.lines import graph_around, line_of
from tests.langchain.models import Scripted, says
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument.langchain import runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    # Version 3 of the events is a beta, and version 1 is deprecated.
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
    pytest.mark.filterwarnings("ignore:astream_events version='v1'"),
]

LONG = "One two three four"
GRANULARITIES = ("turn", "call")


def known(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what is unknown."""
    return {name: value for name, value in event.items() if value is not None}


def fitting(pieces: Iterator[Any]) -> Iterator[Any]:
    """Hand on what comes."""
    yield from pieces


# Each with what is told of an answer of which two words were read. LangChain reads a model to its
# end for a step that is left; no handler can know how much of that the app has seen.
STREAMED: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "messages": (lambda: TEMPLATE | model(LONG), {"$text": "One two ", **tokens(0)}),
    "words": (lambda: TEMPLATE | model(LONG) | WORDS, {}),
    "generator": (lambda: TEMPLATE | model(LONG) | RunnableGenerator(fitting), {}),
}


@FULL_REPORTS
@pytest.mark.parametrize("how", ["closed", "dropped"])
@pytest.mark.parametrize("name", STREAMED)
def test_left_after_two_words(name: str, how: str, sink: Sink) -> None:
    """LangChain ends a chain's stream that is left as if it were whole: it is told as it was."""
    build, so_far = STREAMED[name]
    stream = build().stream(GIVEN, config())
    next(stream)
    next(stream)
    if how == "closed":
        stream.close()
    del stream
    about = {"status": "incomplete", "stream": True, **MESSAGE}
    told: dict[str, Any] = {"$text": LONG, **about, **so_far}
    assert turns_told(sink) == [[prompt(QUESTION), known({**generation(None), **told})]]
    assert_nothing_left()


class Begun(Scripted):
    """A model that says one word, and then nothing."""

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="One "))
        await asyncio.Event().wait()


@FULL_REPORTS
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("talker", [model(LONG), Begun(rule=says(LONG))], ids=["whole", "part"])
async def test_the_id_of_what_is_left(talker: Any, granularity: str, sink: Sink) -> None:
    """An answer that is stopped in a graph has the id that its pieces have: it may be rated."""

    async def ask(state: Any, config: Any) -> Any:
        return {"messages": [await talker.ainvoke(state["messages"], config)]}

    graph = line_of(RunnableLambda(_talk, afunc=ask))
    asked: Any = {"messages": [("user", QUESTION)]}
    stream = graph.astream(asked, config(granularity), stream_mode="messages")
    piece, _ = await anext(stream)
    await stream.aclose()
    del stream
    await let_go()
    [[_, answered]] = turns_told(sink, as_they_are=True)
    assert answered["$generation_id"] == piece.id
    assert_nothing_left()


@FULL_REPORTS
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
async def test_left_after_a_failure(sync: bool, sink: Sink) -> None:
    """A fallback that is left half way has its words, though an error holds its stream."""
    fallback: Any = TEMPLATE | refusing().with_fallbacks([model(LONG)])
    if sync:
        stream = fallback.stream(GIVEN, config())
        next(stream)
        next(stream)
        stream.close()
    else:
        stream = fallback.astream(GIVEN, config())
        await anext(stream)
        await anext(stream)
        await stream.aclose()
    del stream
    await let_go()
    about = {"stream": True, **MESSAGE, "model_calls": 2}
    answered = generation("One two ", status="incomplete", **about, **tokens(0))
    assert turns_told(sink) == [[prompt(QUESTION), known(answered)]]
    assert_nothing_left()


async def test_stopped_below_two_handlers(sink: Sink) -> None:
    """What a model in a graph said before it was stopped is told once, whoever tells of it."""
    graph = graph_around(Begun(rule=says(LONG)))
    two: Any = {"callbacks": [*config()["callbacks"], *config()["callbacks"]]}
    stream = graph.astream({"messages": [("user", QUESTION)]}, two, stream_mode="messages")
    await anext(stream)
    await stream.aclose()
    del stream
    await let_go()
    about = {"stream": True, **MESSAGE, **GRAPH}
    answered = generation("One ", status="incomplete", **about, **tokens(0))
    assert turns_told(sink) == [[prompt(QUESTION, **GRAPH), known(answered)]]
    assert_nothing_left()


def test_inside_a_stream(sink: Sink) -> None:
    """A run inside the stream of another, which goes on, has all of its output."""
    inner = TEMPLATE | model("yes") | WORDS | RunnableLambda(str.upper)

    def ask(_: Iterator[Any]) -> Iterator[str]:
        while True:
            yield inner.invoke(GIVEN, config())

    next(RunnableGenerator(ask).stream("Unobserved"))
    assert turns_told(sink) == [[prompt(QUESTION), generation("YES")]]
    assert_nothing_left()


class Steps:
    """A model, and a step after it that fails, or that never ends and says when it begins."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)

    def build(self, name: str, after: str) -> tuple[Any, Any]:
        """Return what runs, and what it is asked."""
        step = RunnableLambda(self._never, afunc=getattr(self, f"_{after}"))
        if name == "chain":
            return TEMPLATE | model(LONG) | step, GIVEN
        return line_of(RunnableLambda(_talk, afunc=_talk_async), step), {
            "messages": [("user", QUESTION)]
        }

    def _never(self, _: Any) -> Any:
        raise NotImplementedError

    async def _waits(self, _: Any) -> Any:
        self.begun.release()
        await asyncio.Event().wait()

    async def _fails(self, _: Any) -> Any:
        raise LookupError


def _talk(state: Any, config: Any) -> Any:
    raise NotImplementedError


async def _talk_async(state: Any, config: Any) -> Any:
    return {"messages": [await model(LONG).ainvoke(state["messages"], config)]}


async def opened(kind: str, runnable: Any, given: Any, about: Any) -> Any:
    """Return a stream."""
    if kind == "messages":
        return runnable.astream(given, about, stream_mode="messages")
    stream = runnable.astream_events(given, about, version=kind)
    return await stream if kind == "v3" else stream


async def read(stream: Any, *, leave: bool) -> None:
    """Read a stream to its end, or leave it when the model has said all of its answer."""
    async for one in stream:
        if leave and isinstance(one, dict) and one["event"] == "on_chat_model_end":
            break
    await stream.aclose()


CASES = [
    *(("chain", kind) for kind in ("v1", "v2")),
    *(("graph", kind) for kind in ("v1", "v2", "v3", "messages")),
]


def kinds(*without: str) -> list[Any]:
    """Return each kind of stream of each kind of run."""
    return [
        pytest.param(name, kind, marks=KNOWS_V3 if kind == "v3" else ())
        for name, kind in CASES
        if kind not in without
    ]


def told_as(name: str, granularity: str, end: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the turn: a call ended before, and is whole."""
    of_graph = GRAPH if name == "graph" else {}
    if granularity == "turn":
        return [prompt(QUESTION, **of_graph), {**end, **of_graph, "stream": True}]
    asked = f"The question is: {QUESTION}" if name == "chain" else QUESTION
    answered = generation(LONG, **MESSAGE, stream=True, **of_graph)
    return [prompt(asked, **of_graph), answered]


CUT_SHORT = generation(LONG, status="incomplete", **MESSAGE)
FAILED = failed("LookupError", **{"$text": LONG}, **tokens(1))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", ["chain", "graph"])
async def test_left_before_the_last_step(name: str, granularity: str, sink: Sink) -> None:
    """An app that leaves when the model has spoken, and another step goes on, has its answer."""
    runnable, given = Steps().build(name, "waits")
    stream = await opened("v2", runnable, given, config(granularity))
    await asyncio.wait_for(read(stream, leave=True), 10)
    del stream
    await let_go()
    assert turns_told(sink) == [told_as(name, granularity, CUT_SHORT)]
    assert_nothing_left()


# LangChain's version 1 of the events waits for a step that never ends, whoever is cancelled.
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("name", "kind"), kinds("v1"))
async def test_cancelled_in_the_last_step(
    name: str, kind: str, granularity: str, sink: Sink
) -> None:
    """A task that is cancelled when the model has spoken has its answer."""
    steps = Steps()
    runnable, given = steps.build(name, "waits")
    stream = await opened(kind, runnable, given, config(granularity))
    task = asyncio.ensure_future(read(stream, leave=False))
    del stream
    await asyncio.wait_for(steps.begun.acquire(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await let_go()
    assert turns_told(sink) == [told_as(name, granularity, CUT_SHORT)]
    assert_nothing_left()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("name", "kind"), kinds())
async def test_failed_last_step(name: str, kind: str, granularity: str, sink: Sink) -> None:
    """A failure after the model has spoken is told with what it said, and with its tokens."""
    runnable, given = Steps().build(name, "fails")
    stream = await opened(kind, runnable, given, config(granularity))
    with pytest.raises(LookupError):
        await asyncio.wait_for(read(stream, leave=False), 10)
    del stream
    await let_go()
    assert turns_told(sink) == [told_as(name, granularity, FAILED)]
    assert_nothing_left()


def test_dropped_by_who_told_of_it(sink: Sink) -> None:
    """A model that the app itself tells of, and then drops, ends as one that is cancelled does."""
    manager = CallbackManager.configure([TrubricsCallbackHandler("ada", thread_id="t-1")])
    manager.on_chat_model_start({}, [[HumanMessage(QUESTION)]])
    told = [(one["event"], one.get("status")) for [*turn] in turns_told(sink) for one in turn]
    assert told == [("Prompt", None), ("Generation", "incomplete")]
    assert_nothing_left()


def test_a_tool_that_outlives_its_turn(sink: Sink) -> None:
    """A tool that still runs when its turn ends is told as unfinished, and not once more later."""
    may_end = threading.Event()

    @tool
    def look(x: str) -> str:
        """Look."""
        assert may_end.wait(10)
        return x

    def answer(asked: str, config: RunnableConfig) -> str:
        said = str(model().invoke(asked).content)
        pool.submit(look.invoke, {"x": "1"}, config)
        while runs.count() < 2:  # the root, and the tool
            time.sleep(0.001)
        return said

    with ThreadPoolExecutor(1) as pool:
        RunnableLambda(answer).invoke(QUESTION, config())
        may_end.set()
    [[_, used, _]] = turns_told(sink)
    assert (used["tool_name"], used["status"]) == ("look", "incomplete")
    assert_nothing_left()
