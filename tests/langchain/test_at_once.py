"""What happens at once: the tools of one turn, and the same question several times."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool

from tests.langchain.chains import ANSWER, GIVEN, MESSAGE, QUESTION, chain, model
from tests.langchain.driving import (
    GRAPH,
    IN_FUNCTIONS,
    IN_NODES,
    Mode,
    assert_nothing_left,
    config,
    drive,
    generation,
    prompt,
    tokens,
    tool_call,
    turns_told,
)
from tests.langchain.models import USAGE, Scripted, says
from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
AT_ONCE = 3
USES: list[dict[str, Any]] = [
    {"name": name, "args": {"x": f"{name} {number}"}, "id": f"{name}-{number}"}
    for name in ("plain", "asking")
    for number in range(AT_ONCE)
]


def calls_all(messages: list[Any]) -> AIMessage:
    """Call every tool at once, and answer when all have answered."""
    if isinstance(messages[-1], ToolMessage):
        return says(ANSWER)(messages)
    return AIMessage("", tool_calls=USES, usage_metadata=dict(USAGE))


class Together:
    """Tools that end only when all of them run, and of which half ask a model."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(len(USES))
        self._running = 0
        self._all = asyncio.Event()
        self.tools = [
            self._tool("plain", self._plain, self._plain_async),
            self._tool("asking", self._asking, self._asking_async),
        ]

    def _tool(self, name: str, run: Any, arun: Any) -> StructuredTool:
        return StructuredTool.from_function(run, arun, name=name, description="Look it up.")

    def _plain(self, x: str) -> str:
        self._barrier.wait(10)
        return f"Found {x}"

    def _asking(self, x: str) -> str:
        self._barrier.wait(10)
        return str(model(f"About {x}").invoke(x).content)

    async def _plain_async(self, x: str) -> str:
        await self._met()
        return f"Found {x}"

    async def _asking_async(self, x: str) -> str:
        await self._met()
        return str((await model(f"About {x}").ainvoke(x)).content)

    async def _met(self) -> None:
        self._running += 1
        if self._running == len(USES):
            self._all.set()
        await asyncio.wait_for(self._all.wait(), 10)


def as_call(use: dict[str, Any]) -> dict[str, Any]:
    """Return what a tool is to be invoked with, to answer a call of the model's."""
    return {**use, "type": "tool_call"}


def by_hand(together: Together) -> Any:
    """Return an agent made by hand, which runs its tools in threads, or in tasks."""
    talker = Scripted(rule=calls_all)
    tools = {one.name: one for one in together.tools}

    def loop(given: Any, config: Any) -> AIMessage:
        messages: list[Any] = [HumanMessage(given["question"])]
        messages.append(talker.invoke(messages, config))
        with ThreadPoolExecutor(len(USES)) as pool:
            messages += pool.map(lambda use: tools[use["name"]].invoke(as_call(use), config), USES)
        return talker.invoke(messages, config)

    async def aloop(given: Any, config: Any) -> AIMessage:
        messages: list[Any] = [HumanMessage(given["question"])]
        messages.append(await talker.ainvoke(messages, config))
        messages += await asyncio.gather(
            *(tools[use["name"]].ainvoke(as_call(use), config) for use in USES)
        )
        return await talker.ainvoke(messages, config)

    return RunnableLambda(loop, afunc=aloop)


def agent(together: Together) -> Any:
    """Return LangChain's own agent."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain 1.x")
    return agents.create_agent(Scripted(rule=calls_all), together.tools)


def told_in_order(sink: Sink) -> list[list[dict[str, Any]]]:
    """Return what was told, with the tools of a turn in the order in which they were called."""
    ids = [use["id"] for use in USES]
    turns = turns_told(sink)
    for turn in turns:
        turn[1:-1] = sorted(turn[1:-1], key=lambda one: ids.index(one["tool_call_id"]))
    return turns


def pair_with_tools(mode: Mode, **more: Any) -> list[dict[str, Any]]:
    """Return the turn as it is to be told."""
    model_calls = 2 + AT_ONCE
    totals: dict[str, Any] = {"model_calls": model_calls, **tokens(model_calls)}
    streamed = {"stream": True} if mode == "events" else {}
    return [
        prompt(QUESTION, **more),
        *(tool_call(use["name"], tool_call_id=use["id"], **more) for use in USES),
        generation(ANSWER, tool_calls=len(USES), **{**totals, **MESSAGE, **streamed, **more}),
    ]


def marked(marks: Any) -> list[Any]:
    """Return each mode, with what pytest is to know of it."""
    return [pytest.param(one, marks=marks.get(one, ())) for one in ALONE]


@pytest.mark.parametrize("mode", marked(IN_FUNCTIONS))
async def test_tools_run_by_hand(mode: Mode, sink: Sink) -> None:
    """Tools that run at once are each told once, and the models that they ask are in the sums."""
    await drive(mode, by_hand(Together()), GIVEN, config())
    assert told_in_order(sink) == [pair_with_tools(mode)]
    assert_nothing_left()


@pytest.mark.parametrize("mode", marked(IN_NODES))
async def test_tools_of_an_agent(mode: Mode, sink: Sink) -> None:
    """The same for the tools that LangGraph runs at once."""
    await drive(mode, agent(Together()), {"messages": [("user", QUESTION)]}, config())
    assert told_in_order(sink) == [pair_with_tools(mode, **GRAPH)]
    assert_nothing_left()


HISTORY: list[Any] = [HumanMessage("Hello"), AIMessage("Hi there."), HumanMessage(QUESTION)]
RUNNABLES: dict[str, tuple[Any, Any]] = {
    "model": (model, QUESTION),
    "messages": (model, [HumanMessage(QUESTION)]),
    "chain": (chain, GIVEN),
}
WHO: dict[str, dict[str, Any]] = {
    "nobody": {},
    "a user": {"user_id": "ada"},
    "a thread": {"user_id": "ada", "thread_id": "t-1"},
}


async def batched(mode: str, runnable: Any, given: Any, about: Any) -> None:
    """Ask the same several times at once."""
    result = getattr(runnable, mode)([given] * AT_ONCE, about)
    if mode == "abatch":
        await result


def ends(sink: Sink) -> list[tuple[Any, ...]]:
    """Return each turn's user, thread and events, the same in all of them."""
    told: dict[str, list[dict[str, Any]]] = {}
    turns_told(sink)
    for event in sink.events:
        told.setdefault(event["properties"]["$prompt_id"], []).append(event)
    found: list[tuple[Any, ...]] = []
    for turn in told.values():
        [who] = {(one["user_id"], one["properties"]["$thread_id"]) for one in turn}
        found.append((*who, [one["event"] for one in turn]))
    return found


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", RUNNABLES)
@pytest.mark.parametrize("mode", ["batch", "abatch"])
async def test_same_question(mode: str, name: str, who: str, sink: Sink) -> None:
    """Asked several times at once, it is as many pairs; whom nobody names is as many users."""
    build, given = RUNNABLES[name]
    await batched(mode, build(), given, {"callbacks": [TrubricsCallbackHandler(**WHO[who])]})
    told = ends(sink)
    assert [events for _, _, events in told] == [["Prompt", "Generation"]] * AT_ONCE
    assert len({thread for _, thread, _ in told}) == (1 if who == "a thread" else AT_ONCE)
    assert len({user for user, _, _ in told}) == (AT_ONCE if who == "nobody" else 1)
    assert_nothing_left()


@pytest.mark.parametrize("name", RUNNABLES)
@pytest.mark.parametrize("mode", ["batch", "abatch"])
async def test_same_question_of_several_users(mode: str, name: str, sink: Sink) -> None:
    """A batch with a config for each has the user and the thread of each."""
    build, given = RUNNABLES[name]
    handler = TrubricsCallbackHandler()
    numbers = range(AT_ONCE)
    about = [
        {"callbacks": [handler], "metadata": {"user_id": f"u-{one}", "thread_id": f"t-{one}"}}
        for one in numbers
    ]
    await batched(mode, build(), given, about)
    pair = ["Prompt", "Generation"]
    assert sorted(ends(sink)) == [(f"u-{one}", f"t-{one}", pair) for one in numbers]
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["batch", "abatch"])
async def test_same_place_of_a_conversation(mode: str, sink: Sink) -> None:
    """Several answers to one message of a conversation are just that: it was said once."""
    about = config()
    talker = model("Hi there.")
    talker.invoke(HISTORY[:1], about)
    await batched(mode, model(), HISTORY, about)
    assert [events for _, _, events in ends(sink)] == [
        ["Prompt", "Generation"],
        ["Prompt", *["Generation"] * AT_ONCE],
    ]
    assert_nothing_left()
