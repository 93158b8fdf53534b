"""What a graph's nodes write in a run is its answer, and what an earlier run left is none."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import inspect
import operator
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda

from tests.langchain.driving import Mode, drive
from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Scripted, says
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument.langchain import written
from trubrics_instrument.langchain.messages import fields_in

if TYPE_CHECKING:
    from types import FrameType

    from trubrics_instrument.testing import Events

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
types: Any = pytest.importorskip("langgraph.types")

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("events")]

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


@dataclass
class Lively:
    """One that computes more, and not always can."""

    question: str
    said: str = ""
    read: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str:
        """Fail, and tell that somebody asked."""
        self.read.append("answer")
        raise LookupError


class Guessing:
    """An object that answers to any name, and not always can."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


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
    return kept_line(RunnableLambda(say), *nodes, state=state, **compiled)


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

    graph = kept_line(
        RunnableLambda(lambda state, config: say(state, config) | {"answer": CANNED}),
        RunnableLambda(check),
        state=Desk,
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


def wait(_: Any) -> Any:
    """Wait until a human agrees."""
    types.interrupt("May I?")


def listen(_: Any) -> Any:
    """Wait for another question."""
    return {"question": types.interrupt("And now?")}


def say_both(state: Any, config: Any) -> Any:
    """Have a model say something, and answer the same each time."""
    return say(state, config) | {"answer": CANNED}


def waiting(*nodes: Any) -> Any:
    """Return a graph that keeps its state, of these nodes."""
    return kept_line(*map(RunnableLambda, nodes), state=Desk)


STOPS = {
    "before both stops": (say_both, wait, say, wait, say),
    "before any model": (lambda _: {"answer": CANNED}, wait, say, wait, say),
    "between them": (say, wait, say_both, wait, say),
}


@KNOWS_COMMANDS
@pytest.mark.parametrize("when", STOPS)
def test_a_fixed_answer_that_waited(when: str, events: Events) -> None:
    """What was written before a graph stood still is the answer each time."""
    graph = waiting(*STOPS[when])
    for one in ("one", "two", "three"):
        graph.invoke({"question": one}, HANDLED)
        graph.invoke(types.Command(resume=True), HANDLED)
        graph.invoke(types.Command(resume=True), HANDLED)
    told = [one for one in answers(events) if one != "May I?"]
    assert told == [CANNED, CANNED, CANNED]


@KNOWS_COMMANDS
def test_a_question_that_resumes(events: Events) -> None:
    """Words for a graph that stood still are a new question: what was told is left over."""
    graph = waiting(say, canned, listen, say, wait, say)
    for question, words in (("hello", "hello"), ("so", "then")):
        graph.invoke({"question": question}, HANDLED)
        graph.invoke(types.Command(resume=words), HANDLED)
        graph.invoke(types.Command(resume=True), HANDLED)
    stops = ["And now?", "May I?"]
    assert answers(events) == [*stops, "Why hello?", *stops, "Why then?"]


@KNOWS_COMMANDS
def test_words_beside_an_old_answer(events: Events) -> None:
    """What was told before such words is left over, and what nobody was told may be the answer."""
    graph = waiting(say, canned, listen, say)
    for question, words in (("hello", "then"), ("so", "when")):
        graph.invoke({"question": question}, HANDLED)
        graph.invoke(types.Command(resume=words), HANDLED)
    assert answers(events) == ["And now?", CANNED, "And now?", "Why when?"]


def test_a_fixed_answer_before_a_failure(events: Events) -> None:
    """What a turn has written before it failed is its answer when it goes on."""
    failures = iter([True, False, True, False])

    def check(state: Any, config: Any) -> Any:
        if next(failures):
            raise ConnectionError
        return say(state, config)

    graph = waiting(say_both, check)
    for one in ("one", "two"):
        with pytest.raises(ConnectionError):
            graph.invoke({"question": one}, HANDLED)
        graph.invoke(None, HANDLED)
    assert answers(events) == [CANNED, CANNED]


def talk(state: Any, config: Any) -> Any:
    """Have a model say what was asked, into the messages."""
    return {"messages": [*(state.get("messages") or ()), AIMessage(say(state, config)["said"])]}


class Guarded(Listed, total=False):
    """Messages, and an answer beside them."""

    answer: Any


@pytest.mark.parametrize(
    "way", ["a dict", "the whole state", pytest.param("a list", marks=KNOWS_COMMANDS)]
)
def test_an_answer_in_old_words(way: str, events: Events) -> None:
    """What a node writes is the answer, also if it was told before, and a model said something."""
    graph = desk(RunnableLambda(talk), {**WAYS, **COMMANDS}[way], state=Guarded)
    for one in ("hello", "hello", "so", "hello"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == [CANNED, CANNED, "Why so?", CANNED]


def test_an_old_answer_that_the_app_brings(events: Events) -> None:
    """What the app brings, and a node hands on, is none that was written."""
    nodes = (RunnableLambda(talk), lambda state: {**state, **canned(state)})
    graph = desk(*nodes, state=Guarded, checkpointer=None)
    kept = graph.invoke({"question": "hello"}, HANDLED)
    graph.invoke({"question": "so", "answer": kept["answer"]}, HANDLED)
    assert answers(events) == [CANNED, "Why so?"]


def test_messages_that_are_added_in_silence(events: Events) -> None:
    """A node may add its answer to the list that the app has brought, and return something else."""

    def polish(state: Any) -> Any:
        state["messages"].append(AIMessage("Polished."))
        return {"said": "polished"}

    graph = desk(polish, lambda _: {"said": "well"}, state=Listed, checkpointer=None)
    for one in ("hello", "hello"):
        graph.invoke({"question": one, "messages": [HumanMessage(one)]}, HANDLED)
    assert answers(events) == ["Polished.", "Polished."]


def hand_on(state: Any) -> Any:
    """Return the whole state, with an answer that is an object to those who say hello."""
    return {**state, "answer": {"text": CANNED}} if state["question"] == "hello" else {**state}


def change(state: Any) -> Any:
    """Change that object in place."""
    answer = state.get("answer") or {"text": ""}
    answer["text"] = f"About {state['question']}."
    return {**state, "answer": answer}


def change_inside(state: Any) -> Any:
    """Change what is in that object."""
    answer = state.get("answer") or {"output": {}}
    answer["output"]["text"] = f"About {state['question']}."
    return {**state, "answer": answer}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (hand_on, ["Why so?", CANNED, "Why so?"]),
        (change, ["About so.", "About hello.", "About so."]),
        (change_inside, ["About so.", "About hello.", "About so."]),
    ],
)
def test_an_answer_that_is_an_object(node: Any, expected: list[str], events: Events) -> None:
    """It is handed on if nothing in it has changed, also what another process has told."""
    graph = desk(node, state=Guarded)
    graph.invoke({"question": "hello"}, PLACE)
    for one in ("so", "hello", "so"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == expected


class Part(TypedDict):
    """A part of it."""

    question: str


def seeing(builder: Any, state: type) -> dict[str, type]:
    """Return what `add_node` is told for a node that gets only this part of the state."""
    new = "input_schema" in inspect.signature(builder.add_node).parameters
    return {"input_schema" if new else "input": state}


def test_nodes_that_see_a_part(events: Events) -> None:
    """What a node hands on is left over, though the one before did not see it."""
    graphs: Any = pytest.importorskip("langgraph.graph")
    builder = graphs.StateGraph(Desk)
    builder.add_node("say", RunnableLambda(say), **seeing(builder, Part))
    builder.add_node("reply", WAYS["the whole state"])
    builder.add_edge(graphs.START, "say")
    builder.add_edge("say", "reply")
    graph = builder.compile(checkpointer=memory.MemorySaver())
    graph.invoke({"question": "hello"}, PLACE)
    for one in ("so", "hello", "so"):
        graph.invoke({"question": one}, HANDLED)
    assert answers(events) == ["Why so?", CANNED, "Why so?"]


def test_messages_that_no_node_sees(events: Events) -> None:
    """They are left over, though nobody can tell what they were."""
    graphs: Any = pytest.importorskip("langgraph.graph")
    graph = graphs.StateGraph(Listed)
    graph.add_node("say", RunnableLambda(say), **seeing(graph, Part))
    graph.add_edge(graphs.START, "say")
    graph = graph.compile(checkpointer=memory.MemorySaver())
    graph.invoke({"question": "hello", "messages": [AIMessage(CANNED)]}, PLACE)
    graph.invoke({"question": "so"}, HANDLED)
    assert answers(events) == ["Why so?"]


def test_a_failure_that_computes() -> None:
    """No code of the class of a node's failure runs."""

    def args(_: object) -> tuple[()]:
        read.append("args")
        return ()

    odd: type[Exception] = type("Odd", (Exception,), {"args": property(args)})

    def fail(_: Any) -> Any:
        raise odd

    read: list[str] = []
    with pytest.raises(odd):
        desk(fail).invoke({"question": "so"}, HANDLED)
    assert read == []


def test_properties(events: Events) -> None:
    """No code of a state's class runs, in whatever its nodes return."""

    def reply(state: Lively) -> Any:
        state.read.clear()
        return state

    ended = line_of(RunnableLambda(say), reply, state=Lively).invoke({"question": "so"}, HANDLED)
    assert answers(events) == ["Why so?"]
    assert ended["read"] == []
    assert fields_in(Guessing()) == {}


@pytest.mark.parametrize("one", [({"doc": 1}, 0.5), ["a", "b"], "so", 1, None])
def test_a_state_of_anything(one: Any, events: Events) -> None:
    """A state may be one list, of pairs that are no names with their values."""

    def note(_: Any, config: Any) -> Any:
        say({"question": "so"}, config)
        return [one]

    state: Any = Annotated[list[Any], operator.add]
    line_of(RunnableLambda(note), state=state).invoke(["hello"], HANDLED)
    if hasattr(types, "Command"):
        command = lambda _: types.Command(update=[one])  # noqa: E731 - beside its only use
        line_of(RunnableLambda(note), command, state=state).invoke(["hello"], HANDLED)
    assert {*answers(events)} == {"Why so?"}


def calls_in(graph: Any, given: Any) -> int:
    """Return how many calls the graph's own thread makes to see what its nodes write in a run."""
    calls: list[str] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == written.__file__:
            calls.append(frame.f_code.co_name)

    graph.invoke(given, HANDLED)
    sys.setprofile(count)
    try:
        graph.invoke(given, {**HANDLED, "recursion_limit": 100})
    finally:
        sys.setprofile(None)
    return len(calls)


def test_what_a_node_costs() -> None:
    """A node costs a few calls, however long the list is that it returns."""
    short, long = (desk(*[lambda _: {"said": "so"}] * count) for count in (10, 20))
    given = {"question": "so"}
    assert calls_in(long, given) - calls_in(short, given) < 10 * 12

    def note(state: Any, config: Any) -> Any:
        say({"question": "so"}, config)
        return state

    graph = line_of(RunnableLambda(note), state=list)
    assert calls_in(graph, ["a"] * 2_000) - calls_in(graph, ["a"]) < 100
