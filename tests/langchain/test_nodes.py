"""What a graph's nodes can be: agents, tools that command, work handed out, retried, or cached."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest

pytest.importorskip("langchain.agents", reason="needs langchain 1.x")

from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import START, MessagesState
from langgraph.types import CachePolicy, Command, RetryPolicy, Send

from tests.langchain.chains import ANSWER, QUESTION, Once, chain, model, refusing, weather
from tests.langchain.driving import (
    GRAPH,
    IN_NODES,
    Mode,
    Shape,
    assert_nothing_left,
    assert_told,
    case_id,
    cases,
    drive_shape,
    expected,
    failed,
    generation,
    tokens,
    turns_told,
)
from tests.langchain.graphs import (
    ALONE,
    ASKED,
    EVENTS,
    TWICE,
    USER,
    Trip,
    agent,
    answered,
    graph_of,
    used,
)
from tests.langchain.lines import line_of
from tests.langchain.models import Refused, Scripted, calls, says

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

RETRY = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=Refused)
DONE = generation(ANSWER, **GRAPH, **EVENTS)


@tool
def note(x: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Write into the state, instead of returning a text."""
    return Command(update={"messages": [ToolMessage(f"Noted {x}", tool_call_id=tool_call_id)]})


@tool
def hand_over(x: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Hand over to the other agent of the graph around."""
    messages = [ToolMessage(f"Over: {x}", tool_call_id=tool_call_id)]
    return Command(goto="other", graph=Command.PARENT, update={"messages": messages})


def asked_inside(state: Any) -> Any:
    """Ask an agent in a function, and keep no more than its answer."""
    return {"messages": agent(weather).invoke(state)["messages"][-1:]}


def two_agents() -> Any:
    """Return a graph in which one agent works on what another has found."""
    return line_of(agent(weather, rule=calls("weather", then="It is sunny.")), agent())


def handing_over() -> Any:
    """Return a graph in which one agent hands over to another."""
    graph = graph_of(MessagesState)
    graph.add_node("first", agent(hand_over), destinations=("other",))
    graph.add_node("other", create_agent(Scripted(rule=says(ANSWER), model="model-2"), []))
    graph.add_edge(START, "first")
    return graph.compile()


def asks_with(talker: Any) -> Any:
    """Return a node that asks this model."""
    return lambda state: {"messages": [talker.invoke(state["messages"])]}


def sent_agents() -> Any:
    """Return a graph that sends the same question to an agent three times, and sums up."""

    def ask(state: Any) -> Any:
        found = agent(rule=says("A note.")).invoke({"messages": [("user", state["question"])]})
        return {"notes": [str(found["messages"][-1].content)]}

    graph = graph_of(Trip)
    graph.add_node("ask", ask)
    graph.add_node("join", lambda state: {"answer": chain().invoke({"question": str(state)})})
    graph.add_conditional_edges(START, lambda state: [Send("ask", state)] * 3, ["ask"])
    graph.add_edge("ask", "join")
    return graph.compile()


def waiting_for_both() -> Any:
    """Return a graph of two branches, one longer than the other, and a node that waits for both."""
    graph = graph_of(Trip)
    for name in ("short", "long", "longer"):
        graph.add_node(name, lambda state: {"notes": [chain("A note.").invoke(_asked(state))]})
    graph.add_node("join", lambda state: {"answer": chain().invoke(_asked(state))})
    graph.add_edge(START, "short")
    graph.add_edge(START, "long")
    graph.add_edge("long", "longer")
    graph.add_edge(["short", "longer"], "join")
    return graph.compile()


def _asked(state: Any) -> dict[str, str]:
    return {"question": state["question"]}


SHAPES = (
    Shape(
        "a tool that commands",
        lambda: agent(note),
        USER,
        [ASKED, used("note"), answered(tool_calls=1, **TWICE)],
    ),
    Shape(
        "an agent",
        lambda: line_of(agent(weather)),
        USER,
        [ASKED, used("weather"), answered(tool_calls=1, **TWICE)],
    ),
    Shape(
        "an agent, in a function",
        lambda: line_of(asked_inside),
        USER,
        [ASKED, used("weather"), answered(tool_calls=1, **TWICE)],
    ),
    Shape(
        "two agents",
        two_agents,
        USER,
        [ASKED, used("weather"), answered(tool_calls=1, model_calls=3, **tokens(3))],
    ),
    Shape(
        "an agent that hands over",
        handing_over,
        USER,
        [
            ASKED,
            used("hand_over"),
            answered(tool_calls=1, **TWICE, model="model-2", **{"$assistant_id": "model-2"}),
        ],
    ),
    Shape(
        "agents, sent",
        sent_agents,
        {"question": QUESTION},
        [ASKED, {**DONE, "model_calls": 4, **tokens(4)}],
    ),
    Shape(
        "branches of two lengths",
        waiting_for_both,
        {"question": QUESTION},
        [ASKED, {**DONE, "model_calls": 4, **tokens(4)}],
    ),
    Shape(
        "retried",
        lambda: line_of(asks_with(Scripted(rule=Once())), retry_policy=RETRY),
        USER,
        [ASKED, answered(model_calls=2)],
        ALONE,
    ),
    Shape(
        "retried, in vain",
        lambda: line_of(asks_with(refusing()), retry_policy=RETRY),
        USER,
        [ASKED, failed(**GRAPH)],
        ALONE,
        raises=Refused,
    ),
    Shape(
        "cached",
        lambda: line_of(
            asks_with(model()), compiled={"cache": InMemoryCache()}, cache_policy=CachePolicy()
        ),
        USER,
        [ASKED, answered()],
        ALONE,
    ),
)


@pytest.mark.parametrize(
    ("shape", "mode"), cases([one._replace(marks=IN_NODES) for one in SHAPES]), ids=case_id
)
async def test_node(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each kind of node is told exactly as written beside it, in each of its modes."""
    await assert_told(shape, mode, sink)


@pytest.mark.parametrize("mode", [pytest.param(one, marks=IN_NODES.get(one, ())) for one in ALONE])
async def test_cached_node(mode: Mode, sink: Sink) -> None:
    """A node whose result comes out of LangGraph's cache asks no model, and so is no question."""
    asks = lambda state: {"answer": chain().invoke(_asked(state))}  # noqa: E731 - a node
    built = line_of(
        asks, state=Trip, compiled={"cache": InMemoryCache()}, cache_policy=CachePolicy()
    )
    shape = Shape("cached", lambda: built, {"question": QUESTION}, [ASKED, DONE])
    await drive_shape(shape, mode)
    await drive_shape(shape, mode)
    assert turns_told(sink) == expected(shape, mode)
    await drive_shape(shape._replace(given={"question": "And now?"}), mode)
    assert [turn[0]["$text"] for turn in turns_told(sink)] == [QUESTION, "And now?"]
    assert_nothing_left()
