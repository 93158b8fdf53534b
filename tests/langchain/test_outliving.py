"""What goes on after its turn, and what others keep: each has an end, or is let go."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.base import BaseTracer

from tests.langchain.driving import LOST_IN_NODES
from tests.langchain.models import Scripted, Stuck, says
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument.langchain import observed
from trubrics_instrument.langchain.turn import RunTurn

if TYPE_CHECKING:
    from trubrics_instrument.testing import Events

PATIENCE_S = 10
TEMPLATE = ChatPromptTemplate.from_template("Question: {question}")
ASKED = {"question": "On time?"}
HANDLER: Any = TrubricsCallbackHandler("ada", thread_id="t-1")


class Keeping(BaseTracer):
    """A tracer that is made once, and keeps each run until it is told of its end."""

    def _persist_run(self, run: Any) -> None:
        """Keep nothing else."""


@pytest.mark.parametrize("what", ["model", "chain", pytest.param("agent", marks=LOST_IN_NODES)])
def test_cancelled_beside_a_tracer(what: str, events: Events) -> None:
    """A cancelled model has an end, though a tracer keeps all that it was told of it."""
    tracer, asked = Keeping(), list[asyncio.Event]()

    class Asked(Stuck):
        async def _agenerate(self, *given: Any, **more: Any) -> Any:
            asked[-1].set()
            return await super()._agenerate(*given, **more)

    def stuck() -> Any:
        return Asked(rule=says("Never."))

    built: dict[str, Any] = {"model": stuck(), "chain": TEMPLATE | stuck()}
    if what == "agent":
        agents: Any = pytest.importorskip("langgraph.graph")
        builder = agents.StateGraph(agents.MessagesState)

        async def node(state: Any) -> Any:
            return {"messages": [await stuck().ainvoke(state["messages"])]}

        builder.add_node("node", node)
        builder.add_edge(agents.START, "node")
        built["agent"] = builder.compile()

    async def disconnect(question: str) -> None:
        asked.append(asyncio.Event())
        given = {"model": question, "chain": {"question": question}}.get(what) or {
            "messages": [("user", question)]
        }
        task = asyncio.create_task(built[what].ainvoke(given, {"callbacks": [HANDLER, tracer]}))
        await asyncio.wait_for(asked[-1].wait(), PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for number in range(3):
        asyncio.run(disconnect(f"On time {number}?"))
        gc.collect()
    assert tracer.run_map
    assert [one.event for one in events] == ["Prompt", "Generation"] * 3
    assert {one.get("status") for one in events.named("Generation")} == {"incomplete"}


async def _left(stream: Any) -> None:
    async for event in stream:
        if event["event"] == "on_chat_model_stream":
            return


def test_a_left_stream_of_events(events: Events) -> None:
    """The steps of a stream that is left never end: they keep nothing of what was said."""
    chain = TEMPLATE | Scripted(rule=says("Yes, it is on time.")) | StrOutputParser()
    made: list[weakref.ref[Any]] = []

    class Watched(RunTurn):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(weakref.ref(self))

    async def main(question: str) -> None:
        config: Any = {"callbacks": [HANDLER]}
        await _left(chain.astream_events({"question": question}, config, version="v2"))

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr("trubrics_instrument.langchain.start.RunTurn", Watched)
        for question in ("When?", "Where?", "Why?"):
            asyncio.run(main(question))
    gc.collect()
    assert [one.event for one in events] == ["Prompt", "Generation"] * 3
    assert [one() for one in made] == [None] * 3


def rewriting(talker: Any) -> Any:
    """Return a chain whose text to the model is nobody's question."""
    return RunnableLambda(lambda asked: f"Context: a secret. {asked}") | talker


@LOST_IN_NODES
@pytest.mark.parametrize("then", ["a model", "a chain"])
@pytest.mark.parametrize("left", ["before the model", "in the model"])
def test_a_thread_that_goes_on(left: str, then: str, events: Events) -> None:
    """A node's thread goes on when the client has gone: what it asks is of the same question."""
    graphs: Any = pytest.importorskip("langgraph.graph")
    begun, gone, done = threading.Event(), threading.Event(), threading.Event()

    def wait(_: Any = None) -> None:
        begun.set()
        gone.wait(PATIENCE_S)

    class Waiting(Scripted):
        def _generate(self, *args: Any, **more: Any) -> Any:
            wait()
            return super()._generate(*args, **more)

    def node(_: Any) -> Any:
        try:
            if left == "before the model":
                wait()
            Waiting(rule=says("Rewritten.")).invoke("Rewrite: On time?")
            last = Scripted(rule=says("Yes."))
            (rewriting(last) if then == "a chain" else last).invoke("Rewritten.")
        finally:
            done.set()
        return {}

    async def main() -> None:
        builder = graphs.StateGraph(graphs.MessagesState)
        builder.add_node("node", node)
        builder.add_edge(graphs.START, "node")
        asked = {"messages": [("user", "On time?")]}
        task = asyncio.create_task(builder.compile().ainvoke(asked, {"callbacks": [HANDLER]}))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gone.set()
        await asyncio.to_thread(done.wait, PATIENCE_S)

    asyncio.run(main())
    told = [(one.event, one.text, one.get("total_tokens")) for one in events]
    assert told == [
        ("Prompt", "On time?", None),
        ("Generation", "Rewritten.", 5),
        ("Generation", "Yes.", 5),
    ]
    assert len({(one.prompt_id, one.user_id, one.thread_id) for one in events}) == 1


def test_a_function_called_like_a_models(events: Events) -> None:
    """A function of the app's that is called like a model's own is none of it."""

    def _call() -> bool:
        return observed.observes_this_call()

    pieces = Scripted(rule=says("Yes, it is.")).stream("?", {"callbacks": [HANDLER]})
    seen = [_call() for _ in pieces]
    assert not any(seen)
    assert len(seen) > 1
    assert len(events) == 2
