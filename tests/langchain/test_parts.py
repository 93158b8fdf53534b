"""An app that is left while another model speaks has its answer, and not that one's words."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from tests.langchain.chains import GIVEN, QUESTION, TEMPLATE, WORDS, model
from tests.langchain.driving import FULL_REPORTS, assert_nothing_left, config, let_go, turns_told
from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Refused, Scripted, calls, refuses, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.sink import Sink

pytestmark = [pytest.mark.anyio, FULL_REPORTS]

ANSWERED = "We open at nine."
ASKED: dict[str, Any] = {"messages": [("user", QUESTION)]}


class Halfway(Scripted):
    """A model that says one word, and then nothing, once somebody waits for that."""

    word: str = "Aside "
    begun: Any = None

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content=self.word))
        if self.begun is not None:
            self.begun.release()
            await asyncio.Event().wait()


class Cancelled(Scripted):
    """A model that says one word, and then is cancelled."""

    word: str = "Aside "

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content=self.word))
        raise asyncio.CancelledError


class State(TypedDict, total=False):
    """A state with an answer of its own."""

    question: str
    answer: str
    topic: str


def chain_of(talker: Any) -> Any:
    """Return a chain that returns words."""
    return TEMPLATE | talker | WORDS


def node(talker: Any, write: Any = lambda said: {"messages": [said]}) -> Any:
    """Return a node that asks this model, and writes this."""

    async def ask(_: Any, config: Any) -> Any:
        return write(await talker.ainvoke(QUESTION, config))

    return RunnableLambda(lambda _: {}, afunc=ask)


def nothing(_: Any) -> dict[str, Any]:
    """Write nothing."""
    return {}


def as_answer(said: Any) -> dict[str, Any]:
    """Write an answer in the app's own words."""
    return {"answer": said.content.upper()}


async def leave(runnable: Any, given: Any, about: Any, talker: Halfway) -> None:
    """Cancel the task that reads a stream, when this model has said its word."""

    async def read() -> None:
        _ = [one async for one in runnable.astream(given, about, stream_mode="messages")]

    talker.begun = asyncio.Semaphore(0)
    task = asyncio.ensure_future(read())
    await asyncio.wait_for(talker.begun.acquire(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    talker.begun = None
    del task
    await let_go()


def ends(sink: Sink) -> list[tuple[Any, ...]]:
    """Return the text and the status of each answer, and check that nothing is left."""
    told = [one for turn in turns_told(sink) for one in turn if one["event"] != "Prompt"]
    assert_nothing_left()
    return [(one.get("$text"), one["status"]) for one in told]


def halfway(word: str = "Aside ") -> Halfway:
    """Return such a model."""
    return Halfway(rule=says(word), word=word)


async def cancel(chain: Any, **about: Any) -> None:
    """Read a stream until it is cancelled in its model."""
    with pytest.raises(asyncio.CancelledError):
        _ = [one async for one in chain.astream(GIVEN, config(**about))]
    await let_go()


def cancelled(word: str = "Aside ") -> Cancelled:
    """Return such a model."""
    return Cancelled(rule=says(word), word=word)


async def test_a_key_behind_the_answer(sink: Sink) -> None:
    """What is made under another key, behind the answer, is none of it."""
    answer = RunnablePassthrough.assign(answer=chain_of(model(ANSWERED)))
    await cancel(answer | RunnablePassthrough.assign(followups=chain_of(cancelled())))
    assert ends(sink) == [(ANSWERED, "incomplete")]


async def test_the_key_of_the_answer(sink: Sink) -> None:
    """The answer is told as far as it has come, though another key is made before, or named."""
    topic = RunnablePassthrough.assign(topic=chain_of(model("Hours")))
    chain = topic | RunnablePassthrough.assign(answer=chain_of(cancelled("We ")))
    await cancel(chain)
    await cancel(chain, output_key="topic", thread_id="t-2")
    assert ends(sink) == [("We ", "incomplete"), ("Hours", "incomplete")]


async def test_a_key_before_the_answer(sink: Sink) -> None:
    """A model that answers behind a key is told, whatever has a name that answers have."""
    text = RunnablePassthrough.assign(text=chain_of(model("Hours")))
    await cancel(text | chain_of(cancelled("We ")))
    assert ends(sink) == [("We ", "incomplete")]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "left"])
async def test_a_node_behind_the_answer(fails: bool, sink: Sink) -> None:
    """A node that writes no answer speaks last: the one that another has written is told."""
    aside: Any = Scripted(rule=says("1. 2. 3."), stop_after=1) if fails else halfway()
    graph = line_of(node(model(ANSWERED)), node(aside, nothing))
    if fails:
        with pytest.raises(Refused):
            _ = [one async for one in graph.astream(ASKED, config(), stream_mode="messages")]
    else:
        await leave(graph, ASKED, config(), aside)
    assert ends(sink) == [(ANSWERED, "error" if fails else "incomplete")]


async def test_a_node_with_words_of_its_own(sink: Sink) -> None:
    """An answer that a node has written in other words than its model's is told in those."""
    aside = halfway()
    graph = line_of(node(model(ANSWERED), as_answer), node(aside, nothing), state=State)
    await leave(graph, {"question": QUESTION}, config(), aside)
    assert ends(sink) == [(ANSWERED.upper(), "incomplete")]


async def test_a_node_that_is_known_to_answer(sink: Sink) -> None:
    """The last of several nodes that answer is told, once it was seen to do so."""
    answer = halfway("We ")
    graph = line_of(node(model("Some facts.")), node(answer))
    await graph.ainvoke(ASKED, config())
    await leave(graph, ASKED, config(), answer)
    assert ends(sink) == [("We ", "ok"), ("We ", "incomplete")]


async def test_a_tool_before_the_answer(sink: Sink) -> None:
    """The result of a tool is no answer, nor is what a model says that calls one."""

    def call(_: Any) -> Any:
        return {"messages": [AIMessage("", tool_calls=[{"name": "x", "args": {}, "id": "1"}])]}

    answer = halfway("We ")
    graph = line_of(
        call, lambda _: {"messages": [ToolMessage("Sunny", tool_call_id="1")]}, node(answer)
    )
    await leave(graph, ASKED, config(), answer)
    assert ends(sink) == [("We ", "incomplete")]


async def test_an_earlier_answer(sink: Sink) -> None:
    """An answer to an earlier question that a node hands on is none to this one."""
    answer = halfway("We ")

    async def hand_on(state: Any) -> Any:
        return {**state}

    first = kept_line(hand_on, node(model(ANSWERED), as_answer), state=State)
    about: Any = {**config(), "configurable": {"thread_id": "t-1"}}
    await first.ainvoke({"question": "Hello."}, about)
    second = line_of(hand_on, hand_on, node(answer, nothing), state=State)
    second.checkpointer = first.checkpointer
    await leave(second, {"question": QUESTION}, about, answer)
    assert ends(sink) == [(ANSWERED.upper(), "ok"), ("We ", "incomplete")]


async def test_a_node_without_a_model(sink: Sink) -> None:
    """An answer that no model has said is told, and not what a model says behind it."""
    aside = halfway()
    canned: Any = RunnableLambda(lambda _: {"answer": ANSWERED})
    graph = line_of(canned, node(aside, nothing), state=State)
    await leave(graph, {"question": QUESTION}, config(), aside)
    assert ends(sink) == [(ANSWERED, "incomplete")]


async def test_a_node_that_has_said_nothing(sink: Sink) -> None:
    """Where the node that answers has only called tools yet, what was said last is told."""
    aside = halfway()
    await line_of(node(model(ANSWERED))).ainvoke(ASKED, config())
    graph = line_of(node(Scripted(rule=calls("x"))), node(aside, nothing))
    await leave(graph, ASKED, config(), aside)
    assert ends(sink)[-1] == ("Aside ", "incomplete")


async def test_a_node_that_answers_once_more(sink: Sink) -> None:
    """A node that is at work again has the words of this time."""
    answer = halfway("We ")
    graphs = pytest.importorskip("langgraph.graph")
    talkers = iter([model("A draft."), answer])

    async def talk(_: Any, config: Any) -> Any:
        return {"messages": [await next(talkers).ainvoke(QUESTION, config)]}

    graph: Any = graphs.StateGraph(graphs.MessagesState)
    graph.add_node("talk", RunnableLambda(lambda _: {}, afunc=talk))
    graph.add_edge(graphs.START, "talk")
    graph.add_conditional_edges("talk", lambda _: "talk", ["talk"])
    await leave(graph.compile(), ASKED, config(), answer)
    assert ends(sink) == [("We ", "incomplete")]


async def test_a_node_that_says_what_it_does(sink: Sink) -> None:
    """What was said before a tool is told, and the tool's call is no end of the turn."""
    aside = halfway()
    call: Any = {"name": "x", "args": {}, "id": "1"}
    said = AIMessage("Let me look.", tool_calls=[call])
    graph = line_of(node(Scripted(rule=lambda _: said)), node(aside, nothing))
    await leave(graph, ASKED, config(), aside)
    assert ends(sink) == [("Let me look.", "incomplete")]


@pytest.mark.parametrize("mark", ["lc_source", "lc_internal_call"])
@pytest.mark.parametrize("fails", [True, False], ids=["fails", "left"])
async def test_what_middleware_asks(mark: str, fails: bool, sink: Sink) -> None:
    """A summary, or a choice of tools, is nothing that the user gets, wherever it is made."""
    aside = halfway("So far ")
    marked = (model("So far nothing.") | WORDS).with_config({"metadata": {mark: "summarization"}})

    async def talk(_: Any, config: Any) -> Any:
        await marked.ainvoke(QUESTION, config)
        return {"messages": [await Scripted(rule=refuses).ainvoke(QUESTION, config)]}

    if fails:
        with pytest.raises(Refused):
            await line_of(RunnableLambda(nothing, afunc=talk)).ainvoke(ASKED, config())
    else:
        graph = line_of(node(aside.with_config({"metadata": {mark: "summarization"}}), nothing))
        await leave(graph, ASKED, config(), aside)
    assert ends(sink) == [(None, "error" if fails else "incomplete")]
