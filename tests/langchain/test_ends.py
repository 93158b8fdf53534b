"""However a run ends (left early, cancelled, by an error anywhere), its turn ends once."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from pydantic import Field

from tests.langchain.chains import ANSWER, GIVEN, QUESTION, TEMPLATE, WORDS, model, refusing
from tests.langchain.driving import (
    FULL_REPORTS,
    KNOWS_V3,
    LOST_IN_FUNCTIONS,
    Mode,
    assert_nothing_left,
    config,
    drive,
    let_go,
    turns_told,
)
from tests.langchain.lines import graph_around
from tests.langchain.models import Completing, Refused, Scripted, refuses, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from langchain_core.documents import Document

    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    # Version 3 of the events is a beta.
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
]

LONG = "One two three four"
LEFT: tuple[str, ...] = ("stream", "astream", "events", "v3", "av3")
WITHOUT_V3 = {("chain", "v3"), ("chain", "av3")}
CANCELLED: tuple[Mode, ...] = ("ainvoke", "astream", "abatch", "events")


GRANULARITIES = ("turn", "call")


# How each is built around a model, and what it is asked.
AROUND: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "model": (lambda talker: talker, QUESTION),
    "chain": (lambda talker: TEMPLATE | talker | WORDS, GIVEN),
    "graph": (graph_around, {"messages": [("user", QUESTION)]}),
}


def asked_by(name: str, granularity: str, text: str = QUESTION) -> str:
    """Return what is asked: of a chain's model, what the chain's template makes of it."""
    return f"The question is: {text}" if (name, granularity) == ("chain", "call") else text


def says_something(event: Any) -> bool:
    """Whether an event of a stream, in either version, is a piece of a model's answer."""
    if "method" in event:  # a graph's
        return bool(event["method"] == "messages")
    return "delta" in event["event"] or event["event"].endswith("_stream")


async def leave(mode: str, runnable: Any, given: Any, about: Any) -> None:
    """Read a stream to the first piece of a model's answer, and leave it."""
    if mode == "stream":
        next(runnable.stream(given, about))
    elif mode == "v3":
        stream = runnable.stream_events(given, about, version="v3")
        next(one for one in stream if says_something(one))
    elif mode == "astream":
        await _leave(runnable.astream(given, about), lambda _: True)
    elif mode == "events":
        await _leave(runnable.astream_events(given, about, version="v2"), says_something)
    else:
        await _leave(await runnable.astream_events(given, about, version="v3"), says_something)


async def _leave(stream: Any, enough: Callable[[Any], bool]) -> None:
    async for one in stream:
        if enough(one):
            break
    if hasattr(stream, "aclose"):
        await stream.aclose()


def left_cases() -> list[Any]:
    """Return each mode that streams, around each kind of run."""
    return [
        pytest.param(name, mode, marks=KNOWS_V3 if mode in {"v3", "av3"} else ())
        for name in AROUND
        for mode in LEFT
        if (name, mode) not in WITHOUT_V3
    ]


class Waiting(Scripted):
    """A chat model that says when it is asked, and never answers."""

    asked: Any = Field(default_factory=lambda: asyncio.Semaphore(0))

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        self.asked.release()
        await asyncio.Event().wait()
        raise AssertionError

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.release()
        await asyncio.Event().wait()
        yield ChatGenerationChunk(message=AIMessageChunk(content=""))


@FULL_REPORTS
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("name", "mode"), left_cases())
async def test_left_early(name: str, mode: str, granularity: str, sink: Sink) -> None:
    """A stream that is left is one prompt and one answer, with no more than had come by then.

    A call may have ended before: LangChain reads a model's stream to its end for a parser that is
    left, and a graph hands out what its nodes return.
    """
    build, given = AROUND[name]
    await leave(mode, build(model(LONG)), given, config(granularity))
    await let_go()
    [[asked, answered]] = turns_told(sink)
    assert (asked["event"], asked["$text"]) == ("Prompt", asked_by(name, granularity))
    assert answered["event"] == "Generation"
    text = answered.get("$text", "").strip()
    assert LONG.startswith(text)
    ended = granularity == "call" and text == LONG
    assert answered["status"] == ("ok" if ended else "incomplete")
    assert_nothing_left()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mode", CANCELLED)
@pytest.mark.parametrize("name", AROUND)
async def test_cancelled(name: str, mode: Mode, granularity: str, sink: Sink) -> None:
    """A task that is cancelled ends each of its turns as incomplete, in every asynchronous mode."""
    build, given = AROUND[name]
    waiting = Waiting(rule=says(ANSWER))
    task = asyncio.ensure_future(drive(mode, build(waiting), given, config(granularity)))
    count = 3 if mode == "abatch" else 1
    for _ in range(count):
        await asyncio.wait_for(waiting.asked.acquire(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await let_go()
    ends = [[(one["event"], one.get("status")) for one in turn] for turn in turns_told(sink)]
    assert ends == [[("Prompt", None), ("Generation", "incomplete")]] * count
    assert_nothing_left()


class Lost(BaseRetriever):
    """A retriever that fails."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        raise LookupError(query)


def failing(_: Any) -> Any:
    """Fail."""
    raise LookupError


FAIL = RunnableLambda(failing)
BAD = Scripted(rule=refuses)
# What is built, and how its turn ends: by the error's class, or not at all.
PLACES: dict[str, tuple[Callable[[], Any], str | None]] = {
    "the prompt": (lambda: itemgetter("nothing") | TEMPLATE | model(), None),
    "a step before the model": (lambda: FAIL | TEMPLATE | model(), None),
    "a retriever before the model": (
        lambda: RunnableLambda(itemgetter("question")) | Lost() | FAIL,
        None,
    ),
    "the model": (lambda: TEMPLATE | refusing() | WORDS, "Refused"),
    "a step after the model": (lambda: TEMPLATE | model() | FAIL, "LookupError"),
    "a retriever after the model": (lambda: TEMPLATE | model() | WORDS | Lost(), "LookupError"),
    "one of two at once": (
        lambda: TEMPLATE | RunnableParallel(good=model(), bad=model() | FAIL),
        "LookupError",
    ),
    "every fallback": (
        lambda: TEMPLATE | refusing().with_fallbacks([Scripted(rule=refuses)]),
        "Refused",
    ),
    "every retry": (
        lambda: TEMPLATE | BAD.with_retry(wait_exponential_jitter=False, stop_after_attempt=2),
        "Refused",
    ),
    "a chain in a chain": (lambda: (TEMPLATE | refusing() | WORDS) | FAIL, "Refused"),
    "a branch": (lambda: TEMPLATE | RunnableLambda(lambda _: BAD), "Refused"),
}


# There LangChain itself leaves a task behind that ends with an error.
# Source: langchain-core 1.8.3, `RunnableParallel._atransform`.
UNTIDY = {("one of two at once", "astream"), ("one of two at once", "events")}
ERRORS = [
    (place, mode)
    for place in PLACES
    for mode in ("invoke", "ainvoke", "stream", "astream", "events")
    if (place, mode) not in UNTIDY
]


@pytest.mark.parametrize(("place", "mode"), ERRORS)
async def test_errors(place: str, mode: Mode, sink: Sink) -> None:
    """An error after the model was asked fails the turn, one before it is nobody's question."""
    build, error_type = PLACES[place]
    with pytest.raises((Refused, LookupError)):
        await drive(mode, build(), GIVEN, config())
    brief = [
        [(one["event"], one.get("error_type"), one.get("status")) for one in turn]
        for turn in turns_told(sink)
    ]
    failed = [("Prompt", None, None), ("Generation failed", error_type, "error")]
    assert brief == ([failed] if error_type else [])
    assert_nothing_left()


class Picky(Scripted):
    """A model that refuses one question."""

    def _generate(self, messages: Any, *args: Any, **more: Any) -> Any:
        if "bad" in str(messages[-1].content):
            raise Refused
        return super()._generate(messages, *args, **more)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mode", ["batch", "abatch"])
@pytest.mark.parametrize("name", AROUND)
async def test_one_of_a_batch_fails(name: str, mode: Mode, granularity: str, sink: Sink) -> None:
    """A batch in which one fails: each turn ends in its own way."""
    build, _ = AROUND[name]
    texts = ["good 1", "bad", "good 2"]
    given: list[Any] = [
        {"question": text}
        if name == "chain"
        else {"messages": [("user", text)]}
        if name == "graph"
        else text
        for text in texts
    ]
    run = getattr(build(Picky(rule=says(ANSWER))), mode)
    result = run(given, config(granularity), return_exceptions=True)
    outcome = await result if mode == "abatch" else result
    assert [isinstance(one, Refused) for one in outcome] == [False, True, False]
    ends = {turn[0]["$text"]: [one["event"] for one in turn] for turn in turns_told(sink)}
    assert ends == {
        asked_by(name, granularity, "good 1"): ["Prompt", "Generation"],
        asked_by(name, granularity, "bad"): ["Prompt", "Generation failed"],
        asked_by(name, granularity, "good 2"): ["Prompt", "Generation"],
    }
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
async def test_text_model_refuses(mode: Mode, sink: Sink) -> None:
    """A text-completion model that fails is a failed turn, in every mode."""

    class Refusing(Completing):
        def _call(self, *_: Any, **__: Any) -> str:
            raise Refused

    with pytest.raises(Refused):
        await drive(mode, Refusing(), QUESTION, config())
    events = [one["event"] for turn in turns_told(sink) for one in turn]
    failures = events.count("Generation failed")
    assert failures == (3 if "batch" in mode else 1)
    assert set(events) == {"Prompt", "Generation failed"}
    assert_nothing_left()


@LOST_IN_FUNCTIONS
async def test_function_cancelled_between_models(sink: Sink) -> None:
    """A run that is cancelled after its first model is one turn, with the tokens of that model."""
    reached = asyncio.Event()

    async def ask_and_wait(_: Any) -> AIMessage:
        answer: AIMessage = await model("A note.").ainvoke("Aside")
        reached.set()
        await asyncio.Event().wait()
        return answer

    task = asyncio.ensure_future(RunnableLambda(ask_and_wait).ainvoke(QUESTION, config()))
    await asyncio.wait_for(reached.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await let_go()
    [[asked, answered]] = turns_told(sink)
    assert asked["$text"] == QUESTION
    assert (answered["status"], answered["total_tokens"]) == ("incomplete", 5)
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
async def test_sub_agent_cancelled(mode: Mode, sink: Sink) -> None:
    """An agent whose sub-agent is cancelled is one turn, and leaves nothing."""
    agents = pytest.importorskip("langchain.agents")
    from langchain_core.tools import tool

    from tests.langchain.models import calls

    waiting = Waiting(rule=says("Never."))
    inner = agents.create_agent(waiting, [])

    @tool
    async def research(x: str) -> str:
        """Ask another agent."""
        return str(await inner.ainvoke({"messages": [("user", x)]}))

    outer = agents.create_agent(Scripted(rule=calls("research")), [research])
    given = {"messages": [("user", QUESTION)]}
    task = asyncio.ensure_future(drive(mode, outer, given, config()))
    await asyncio.wait_for(waiting.asked.acquire(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await let_go()
    [turn] = turns_told(sink)
    assert [(one["event"], one.get("status")) for one in turn] == [
        ("Prompt", None),
        ("Tool call", "incomplete"),
        ("Generation", "incomplete"),
    ]
    assert turn[-1]["tool_calls"] == 1
    assert_nothing_left()


@LOST_IN_FUNCTIONS
async def test_tool_that_takes_too_long(sink: Sink) -> None:
    """A tool that the app gives up on is told as cut short, and its turn goes on."""
    from langchain_core.tools import tool

    @tool
    async def slow(x: str) -> str:
        """Never end."""
        await asyncio.Event().wait()
        return x

    async def impatient(_: Any) -> AIMessage:
        answer: AIMessage = await model(ANSWER).ainvoke("Aside")
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(slow.ainvoke({"x": "a"}), 0.01)
        return answer

    await RunnableLambda(impatient).ainvoke(QUESTION, config())
    await let_go()
    [turn] = turns_told(sink)
    assert [(one["event"], one.get("status")) for one in turn] == [
        ("Prompt", None),
        ("Tool call", "incomplete"),
        ("Generation", "ok"),
    ]
    assert "error_type" not in turn[1]
    assert turn[-1]["tool_calls"] == 1
    assert_nothing_left()


class Endless(BaseRetriever):
    """A retriever that says when it is asked, and never finds anything."""

    asked: Any = Field(default_factory=lambda: asyncio.Semaphore(0))

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        raise NotImplementedError(query)

    async def _aget_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        self.asked.release()
        await asyncio.Event().wait()
        raise AssertionError(query)


@pytest.mark.parametrize("tags", [[], ["trubrics:skip"]], ids=["counted", "skipped"])
async def test_retriever_cancelled(tags: list[str], sink: Sink) -> None:
    """A retriever that is cancelled leaves nothing behind."""
    endless = Endless()
    given = config() | {"tags": tags}
    task = asyncio.ensure_future((endless | RunnableLambda(str)).ainvoke(QUESTION, given))
    await asyncio.wait_for(endless.asked.acquire(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await let_go()
    assert turns_told(sink) == []
    assert_nothing_left()
