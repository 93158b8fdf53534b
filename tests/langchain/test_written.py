"""What a graph's nodes write in a run is its answer, and what an earlier run left is none."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda

from tests.langchain.driving import Mode, assert_nothing_left, drive
from tests.langchain.lines import line_of
from tests.langchain.models import Scripted, says
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument._base import shield
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument.testing import Events

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
types: Any = pytest.importorskip("langgraph.types")

pytestmark = pytest.mark.anyio

KNOWS_COMMANDS = pytest.mark.skipif(
    not hasattr(types, "Command"), reason="langgraph knows no commands yet"
)
CANNED = "Log in first."
PLACE: Any = {"configurable": {"thread_id": "t-1"}}
HANDLED: Any = {**PLACE, "callbacks": [TrubricsCallbackHandler("ada")]}


class Desk(TypedDict, total=False):
    """A state with an answer, and with a model's words under a name that we do not know."""

    question: str
    said: str
    answer: str
    text: str


class Listed(TypedDict, total=False):
    """A state with a list of messages that nodes change by themselves."""

    question: str
    said: str
    messages: list[Any]


@dataclass
class Form:
    """The same as a dataclass."""

    question: str
    said: str = ""
    answer: str | None = None


@pytest.fixture(autouse=True)
def events() -> Iterator[Events]:
    """Collect what is told; nothing is left open, and no fault is ours."""
    with capture() as taken:
        yield taken
    assert_nothing_left()
    assert not shield.faults()


def answers(events: Events) -> list[str | None]:
    """Return the texts of the Generations."""
    return [one.text for one in events.named("Generation")]


def say(state: Any, config: Any) -> dict[str, str]:
    """Have a model say what was asked."""
    question = state["question"] if isinstance(state, dict) else state.question
    message = Scripted(rule=says(f"Why {question}?")).invoke("?", config)
    return {"said": str(message.content)}


def desk(*nodes: Any, state: Any = Desk, **compiled: Any) -> Any:
    """Return a graph that has a model say what was asked, before these nodes."""
    compiled = {"checkpointer": memory.MemorySaver(), **compiled}
    return line_of(RunnableLambda(say), *nodes, state=state, compiled=compiled)


def canned(state: Any) -> dict[str, str]:
    """Return what is said again and again, and only to those who are not logged in."""
    question = state["question"] if isinstance(state, dict) else state.question
    return {"answer": CANNED} if question == "hello" else {"question": question}


def to_parent(state: Any) -> Any:
    """Return the same as a command to the graph around."""
    return types.Command(graph=types.Command.PARENT, update=canned(state))


WAYS: dict[str, Any] = {
    "a dict": canned,
    "the whole state": lambda state: {**state, **canned(state)},
    "a graph": line_of(canned, state=Desk),
    "a graph in a graph": line_of(line_of(canned, state=Desk), state=Desk),
    "what a graph returns": lambda state: line_of(canned, state=Desk).invoke(state),
    "a chain": RunnableLambda(lambda state: state) | canned,
}
COMMANDS: dict[str, Any] = {
    "a command": lambda state: types.Command(update=canned(state)),
    "a command of pairs": lambda state: types.Command(update=list(canned(state).items())),
    "a list": lambda state: [types.Command(update={}), canned(state)],
    "a list of commands": lambda state: [types.Command(update=canned(state))],
    "a graph's command": line_of(to_parent, state=Desk),
}


@pytest.mark.parametrize(
    "way", [*WAYS, *(pytest.param(way, marks=KNOWS_COMMANDS) for way in COMMANDS)]
)
def test_ways_to_write(way: str, events: Events) -> None:
    """What a node writes is the answer, in whichever way, and what none has written is not."""
    graph = desk({**WAYS, **COMMANDS}[way])
    for one in ("hello", "hello", "so", "hello"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == [CANNED, CANNED, "Why so?", CANNED]


@pytest.mark.parametrize("mode", ["ainvoke", "stream", "astream", "events"])
async def test_ways_to_run(mode: Mode, events: Events) -> None:
    """The same in each mode, and for somebody whose first answers another process has told."""
    graph = desk(canned)
    graph.invoke({"question": "hello"}, PLACE)
    for one in ("so", "hello", "why"):
        await drive(mode, graph, {"question": one}, HANDLED)
    assert answers(events) == ["Why so?", CANNED, "Why why?"]


def test_a_state_of_a_class(events: Events) -> None:
    """A node may return a whole state of the app's own class."""

    def reply(state: Form) -> Form:
        return Form(state.question, state.said, canned(state).get("answer", state.answer))

    graph = desk(reply, state=Form)
    for one in ("hello", "hello", "so"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == [CANNED, CANNED, "Why so?"]


def test_what_a_node_is_sent(events: Events) -> None:
    """A node may say what another one, or the way between them, has sent to it."""
    graphs: Any = pytest.importorskip("langgraph.graph")
    builder = graphs.StateGraph(Desk)
    builder.add_node("say", RunnableLambda(say))
    builder.add_node("reply", lambda given: {"answer": given["answer"]})
    builder.add_edge(graphs.START, "say")
    builder.add_conditional_edges("say", lambda _: [types.Send("reply", {"answer": CANNED})])
    graph = builder.compile(checkpointer=memory.MemorySaver())
    for one in ("hello", "so"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == [CANNED, CANNED]


def test_what_a_graph_inside_keeps(events: Events) -> None:
    """What a graph inside has written into its own state alone is no answer of the one around."""

    def ask(state: Any) -> Any:
        line_of(lambda _: {"answer": CANNED}, state=Desk).invoke(state)
        return canned(state)

    graph = desk(ask)
    for one in ("hello", "so"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == [CANNED, "Why so?"]


def test_messages_that_are_added_in_place(events: Events) -> None:
    """A node may add its answer to the very list that it got."""

    def reply(state: Any) -> Any:
        state["messages"].append(AIMessage(CANNED))
        return state

    graph = desk(reply, state=Listed)
    graph.invoke({"question": "hello", "messages": []}, PLACE)
    graph.invoke({"question": "so"}, HANDLED)
    assert answers(events) == [CANNED]


def test_a_state_without_names(events: Events) -> None:
    """A state may be one list, of whatever the app's nodes put into it."""

    def note(state: Any, config: Any) -> Any:
        return [(*state, say({"question": "so"}, config)["said"], "noted")]

    state: Any = Annotated[list[Any], operator.add]
    line_of(RunnableLambda(note), state=state).invoke(["hello"], HANDLED)
    assert answers(events) == ["Why so?"]


def test_a_state_that_the_app_keeps(events: Events) -> None:
    """What the app brings is no answer, but what a node says may be the very same object."""
    graph = desk(lambda state: {**state, "answer": CANNED}, checkpointer=None)
    kept: dict[str, Any] = {}
    for one in ("hello", "so"):
        kept = graph.invoke({**kept, "question": one}, HANDLED)
    desk(checkpointer=None).invoke({**kept, "question": "how"}, HANDLED)
    assert answers(events) == [CANNED, CANNED, "Why how?"]


def test_breakpoints(events: Events) -> None:
    """While a turn stands still, once or twice, the answer of the one before is not its own."""

    def write(state: Any, config: Any) -> Any:
        text = f"Because of {state['question']}."
        return {"answer": str(Scripted(rule=says(text)).invoke("?", config).content)}

    def review(state: Any, config: Any) -> Any:
        text = f"Is {state['question']} fine?"
        return {"said": str(Scripted(rule=says(text)).invoke("?", config).content)}

    nodes = (RunnableLambda(review), RunnableLambda(write))
    graph = desk(*nodes, interrupt_before=["node-1", "node-2"])
    for one in ("this", "that"):
        graph.invoke({"question": one}, HANDLED)
        graph.invoke(None, HANDLED)
        graph.invoke(None, HANDLED)
    assert answers(events) == [
        *("Why this?", "Is this fine?", "Because of this."),
        *("Why that?", "Is that fine?", "Because of that."),
    ]


@KNOWS_COMMANDS
def test_an_answer_that_waited(events: Events) -> None:
    """What a turn has written before it stopped is its answer when it goes on."""

    def check(state: Any, config: Any) -> Any:
        types.interrupt("May I say that?")
        return say(state, config)

    graph = line_of(
        RunnableLambda(lambda state, config: say(state, config) | {"answer": CANNED}),
        RunnableLambda(check),
        state=Desk,
        compiled={"checkpointer": memory.MemorySaver()},
    )
    graph.invoke({"question": "hello"}, HANDLED)
    graph.invoke(types.Command(resume=True), HANDLED)
    assert answers(events) == ["May I say that?", CANNED]


def test_a_node_out_of_a_cache(events: Events) -> None:
    """A node that LangGraph's cache stands for has written, though it has not run."""
    caches: Any = pytest.importorskip("langgraph.cache.memory")
    graphs: Any = pytest.importorskip("langgraph.graph")
    builder = graphs.StateGraph(Desk)
    if "cache_policy" not in inspect.signature(builder.add_node).parameters:
        pytest.skip("langgraph has no cache yet")
    once = types.CachePolicy(key_func=lambda _: "always")
    builder.add_node("reply", lambda _: {"answer": CANNED}, cache_policy=once)
    builder.add_node("say", RunnableLambda(say))
    builder.add_edge(graphs.START, "reply")
    builder.add_edge("reply", "say")
    graph = builder.compile(checkpointer=memory.MemorySaver(), cache=caches.InMemoryCache())
    for one in ("hello", "so", "so"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == [CANNED, CANNED, CANNED]


def test_a_workflow(events: Events) -> None:
    """A workflow of functions has no state: what it returns is its answer."""
    functions: Any = pytest.importorskip("langgraph.func")
    if not hasattr(functions.entrypoint, "final"):
        pytest.skip("a workflow cannot return one thing and save another yet")

    def workflow(question: str, config: RunnableConfig) -> Any:
        said = say({"question": question}, config)
        return functions.entrypoint.final(value={**said, "answer": CANNED}, save=None)

    flow = functions.entrypoint(checkpointer=memory.MemorySaver())(workflow)
    for one in ("hello", "so"):
        flow.invoke(one, HANDLED)
    assert answers(events) == [CANNED, CANNED]
