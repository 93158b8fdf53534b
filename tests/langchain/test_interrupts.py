"""A graph that stops to ask a human, and goes on with what the human says."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import pytest

pytest.importorskip("langchain.agents", reason="needs langchain 1.x")

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tests.langchain.chains import ANSWER, QUESTION, model, weather
from tests.langchain.driving import IN_NODES, Mode, assert_nothing_left, drive, turns_told
from tests.langchain.graphs import Trip
from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Refused, Scripted, calls, refuses, says
from trubrics_instrument import TrubricsCallbackHandler, _runtime
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument.langchain.question import question_of

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

SINGLE = [
    pytest.param(mode, marks=IN_NODES.get(mode, ()))
    for mode in ("invoke", "ainvoke", "stream", "astream")
]


@tool
def refund(x: str) -> str:
    """Ask a human first."""
    return str(interrupt({"question": f"Refund {x}?"}))


def config() -> Any:
    """Return a config with a handler and a conversation."""
    return {
        "callbacks": [TrubricsCallbackHandler("ada")],
        "configurable": {"thread_id": "t-1"},
    }


def brief(sink: Sink) -> list[list[tuple[Any, ...]]]:
    """Return what was told of each turn: event, text, tool and status."""
    keys = ("event", "$text", "tool_name", "status", "finish_reason")
    return [[tuple(event.get(key) for key in keys) for event in turn] for turn in turns_told(sink)]


@pytest.mark.parametrize("mode", SINGLE)
async def test_question_and_answer(mode: Mode, sink: Sink) -> None:
    """What the graph asks is an answer to the user, and what the user says to it is a prompt."""
    agent = create_agent(Scripted(rule=calls("refund")), [refund], checkpointer=MemorySaver())
    await drive(mode, agent, {"messages": [("user", QUESTION)]}, config())
    await drive(mode, agent, Command(resume="Yes, do."), config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Generation", "Refund 1?", None, "incomplete", "interrupt"),
        ],
        [
            ("Prompt", "Yes, do.", None, None, None),
            ("Tool call", None, "refund", None, None),
            ("Generation", "Done.", None, "ok", None),
        ],
    ]
    assert {event["properties"]["$thread_id"] for event in sink.events} == {"t-1"}
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_approval(mode: Mode, sink: Sink) -> None:
    """An approval without words goes on with the same turn."""
    agent = create_agent(
        Scripted(rule=calls("weather")),
        [weather],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"weather": True})],
        checkpointer=MemorySaver(),
    )
    await drive(mode, agent, {"messages": [("user", QUESTION)]}, config())
    approved: Any = Command(resume={"decisions": [{"type": "approve"}]})
    await drive(mode, agent, approved, config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Generation", None, None, "incomplete", "interrupt"),
            ("Tool call", None, "weather", None, None),
            ("Generation", "Done.", None, "ok", None),
        ]
    ]
    assert_nothing_left()


@pytest.mark.parametrize("approved", ["by a click", "in words", None])
def test_whose_tool_it_was(approved: str | None, sink: Sink) -> None:
    """A tool that a human let run is told as an act of the model that called it.

    Whatever other model the tool asks, or another one before it.
    """

    @tool
    def research(x: str) -> str:
        """Ask a sub-agent."""
        if approved == "in words":
            interrupt("Shall I?")
        return str(Scripted(rule=says(f"Found {x}."), model="sub-model").invoke(x).content)

    middleware = [HumanInTheLoopMiddleware(interrupt_on={"research": True})]
    agent = create_agent(
        Scripted(rule=calls("research"), model="main-model"),
        [research],
        middleware=middleware if approved == "by a click" else [],
        checkpointer=MemorySaver(),
    )
    agent.invoke({"messages": [("user", QUESTION)]}, config())
    yes = {"decisions": [{"type": "approve"}]} if approved == "by a click" else "Yes."
    if approved:
        agent.invoke(Command(resume=yes), config())
    [told] = [event for turn in turns_told(sink) for event in turn if event.get("tool_name")]
    assert (told["$assistant_id"], told["model"]) == ("main-model", "main-model")


def test_whose_tool_it_was_of_two_users(sink: Sink) -> None:
    """Two who wait under the same names, with the same ids, have each their own model."""

    def of(user_id: str) -> Any:
        return {**config(), "callbacks": [TrubricsCallbackHandler(user_id)]}

    agents = {
        user_id: create_agent(
            Scripted(rule=calls("weather"), model=f"model of {user_id}"),
            [weather],
            middleware=[HumanInTheLoopMiddleware(interrupt_on={"weather": True})],
            checkpointer=MemorySaver(),
        )
        for user_id in ("ada", "bob")
    }
    for user_id, agent in agents.items():
        agent.invoke({"messages": [("user", QUESTION)]}, of(user_id))
    for user_id, agent in agents.items():
        agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), of(user_id))
    told = [event for turn in turns_told(sink) for event in turn if event.get("tool_name")]
    assert [event["$assistant_id"] for event in told] == ["model of ada", "model of bob"]


def noting(**compiled: Any) -> Any:
    """Return a graph of two steps, in whose state nothing shows that it stands still."""
    return kept_line(
        lambda state: {"notes": [str(model("A note.").invoke("?").content)]},
        lambda state: {"answer": str(model().invoke("??").content)},
        state=Trip,
        **compiled,
    )


@pytest.mark.parametrize("mode", SINGLE)
async def test_breakpoint_that_does_not_show(mode: Mode, sink: Sink) -> None:
    """A graph with a state of its own goes on with the same turn as well."""
    graph = noting(interrupt_after=["node-0"])
    await drive(mode, graph, {"question": QUESTION}, config())
    await drive(mode, graph, None, config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Generation", "A note.", None, "ok", None),
            ("Generation", ANSWER, None, "ok", None),
        ]
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_stopped_before_any_model(mode: Mode, sink: Sink) -> None:
    """A question that the graph stops at, before it asks a model, is told when it goes on."""
    graph = noting(interrupt_before=["node-0"])
    texts = (QUESTION, "And the train?")
    for text in texts:
        await drive(mode, graph, {"question": text}, config())
        await drive(mode, graph, None, config())
    assert brief(sink) == [
        [("Prompt", text, None, None, None), ("Generation", ANSWER, None, "ok", None)]
        for text in texts
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_approved_before_any_model(mode: Mode, sink: Sink) -> None:
    """The same where a human approves it; what the human says in words is a prompt of its own."""

    def ask_human(_: Any) -> Any:
        interrupt({"plan": "Ask a model?"})
        return {"notes": ["Approved."]}

    answer = lambda state: {"answer": str(model().invoke("?").content)}  # noqa: E731 - a node
    graph = kept_line(ask_human, answer, state=Trip)
    resumptions: list[Any] = [{"approved": True}, "Yes, do."]
    for resume in resumptions:
        await drive(mode, graph, {"question": QUESTION}, config())
        await drive(mode, graph, Command(resume=resume), config())
    assert brief(sink) == [
        [("Prompt", text, None, None, None), ("Generation", ANSWER, None, "ok", None)]
        for text in (QUESTION, "Yes, do.")
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_turn_of_another_process(mode: Mode, sink: Sink) -> None:
    """What another process has asked, and this one goes on with, is no part of an older turn."""
    rule: Any = lambda messages: (  # noqa: E731 - a rule
        calls("weather") if "weather" in str(messages) else says("Hello.")
    )(messages)
    agent = create_agent(
        Scripted(rule=rule),
        [weather],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"weather": True})],
        checkpointer=MemorySaver(),
    )
    await drive(mode, agent, {"messages": [("user", "Hi")]}, config())
    elsewhere = {"configurable": {"thread_id": "t-1"}}
    await drive(mode, agent, {"messages": [("user", "The weather?")]}, elsewhere)
    approved: Any = Command(resume={"decisions": [{"type": "approve"}]})
    await drive(mode, agent, approved, config())
    assert brief(sink) == [
        [("Prompt", "Hi", None, None, None), ("Generation", "Hello.", None, "ok", None)],
        [
            ("Tool call", None, "weather", None, None),
            ("Generation", "Done.", None, "ok", None),
        ],
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_edited_by_the_app(mode: Mode, sink: Sink) -> None:
    """What the app writes into the state of a graph that stands still is nobody's question."""
    agent = create_agent(
        Scripted(rule=calls("weather")),
        [weather],
        interrupt_before=["tools"],
        checkpointer=MemorySaver(),
    )
    await drive(mode, agent, {"messages": [("user", QUESTION)]}, config())
    result = ToolMessage("It rains.", tool_call_id="call-weather")
    agent.update_state(config(), {"messages": [result]}, as_node="tools")
    await drive(mode, agent, None, config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Tool call", None, "weather", None, None),
            ("Generation", "Done.", None, "ok", None),
        ]
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
@pytest.mark.parametrize("edits", [1, 3])
async def test_edited_before_a_tool(mode: Mode, edits: int, sink: Sink) -> None:
    """However often the app writes into the state, a graph that stood still goes on in its turn."""
    builder: Any = StateGraph(Trip)
    builder.add_node("agent", lambda _: {"answer": str(model().invoke("?").content)})
    builder.add_node("tools", lambda _: {"notes": ["By a tool."]})
    builder.add_edge(START, "agent")
    # LangGraph shows us an edit of a node that has a choice.
    builder.add_conditional_edges("agent", lambda state: "tools" if not state["notes"] else END)
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=MemorySaver(), interrupt_after=["agent"])
    await drive(mode, graph, {"question": QUESTION, "notes": []}, config())
    for _ in range(edits):
        graph.update_state(config(), {"answer": "By hand."})
    await drive(mode, graph, None, config())
    answered = ("Generation", ANSWER, None, "ok", None)
    assert brief(sink) == [[("Prompt", QUESTION, None, None, None), answered, answered]]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_time_travel(mode: Mode, sink: Sink) -> None:
    """A graph that is run again from an earlier point answers the same question once more."""
    graph = noting()
    await drive(mode, graph, {"question": QUESTION}, config())
    earlier = next(one for one in graph.get_state_history(config()) if one.next == ("node-1",))
    await drive(mode, graph, None, {**config(), **earlier.config})
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Generation", ANSWER, None, "ok", None),
            ("Generation", ANSWER, None, "ok", None),
        ]
    ]
    assert_nothing_left()


@pytest.mark.parametrize("inside", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("mode", SINGLE)
async def test_breakpoint_at_a_graph_inside(
    mode: Mode, inside: tuple[bool, bool], sink: Sink
) -> None:
    """A turn goes on whichever of its models is in a graph inside, which counts its own steps."""

    def asks(words: str, *, within: bool) -> Any:
        def node(_: Any) -> Any:
            return {"answer": str(model(words).invoke(f"{words}?").content)}

        return line_of(node, state=Trip) if within else node

    first, second = inside
    nodes = [asks("A plan.", within=first), asks(ANSWER, within=second)]
    graph = kept_line(*nodes, state=Trip, interrupt_before=["node-1"])
    await drive(mode, graph, {"question": QUESTION}, config())
    await drive(mode, graph, None, config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Generation", "A plan.", None, "ok", None),
            ("Generation", ANSWER, None, "ok", None),
        ]
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_breakpoint(mode: Mode, sink: Sink) -> None:
    """A graph that was stopped before its tools goes on with the same turn, each tool told once."""
    agent = create_agent(
        Scripted(rule=calls("weather")),
        [weather],
        interrupt_before=["tools"],
        checkpointer=MemorySaver(),
    )
    await drive(mode, agent, {"messages": [("user", QUESTION)]}, config())
    await drive(mode, agent, None, config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Tool call", None, "weather", None, None),
            ("Generation", "Done.", None, "ok", None),
        ]
    ]
    assert_nothing_left()


class Draft(TypedDict, total=False):
    """A state that keeps the answer to an earlier question."""

    question: str
    draft: str
    answer: str


@pytest.mark.parametrize("mode", SINGLE)
async def test_the_answer_before(mode: Mode, sink: Sink) -> None:
    """A graph that stops without words tells what it has drafted, and no earlier answer."""

    def approve(_: Any) -> Any:
        interrupt({"approve": True})
        return {}

    graph = kept_line(
        lambda state: {"draft": str(model(f"A draft of {state['question']}").invoke("?").content)},
        approve,
        lambda state: {"answer": str(model(f"To {state['question']}").invoke("?").content)},
        state=Draft,
    )
    for question in ("one", "two"):
        await drive(mode, graph, {"question": question}, config())
        await drive(mode, graph, Command(resume=True), config())
    assert brief(sink) == [
        [
            ("Prompt", question, None, None, None),
            ("Generation", f"A draft of {question}", None, "incomplete", "interrupt"),
            ("Generation", f"To {question}", None, "ok", None),
        ]
        for question in ("one", "two")
    ]
    assert_nothing_left()


def stopping(text: Any) -> Any:
    """Return a graph that asks a human after its first model."""

    def ask_human(_: Any) -> Any:
        interrupt(text)
        return {}

    answer = lambda _: {"answer": str(model().invoke("?").content)}  # noqa: E731 - a node
    return kept_line(answer, ask_human, answer, state=Draft)


DECISIONS: list[Any] = [
    True,
    [{"type": "accept"}],
    {"type": "accept"},
    {"action": "approve"},
    {"approved": True, "reviewer_id": "u-7f3"},
    {"type": "reject", "message": "Too expensive."},
]


@pytest.mark.parametrize("decision", DECISIONS, ids=str)
async def test_a_decision(decision: Any, sink: Sink) -> None:
    """A decision is no words of the user's: the graph goes on with its turn."""
    graph = stopping("Approve?")
    await drive("invoke", graph, {"question": QUESTION}, config())
    await drive("invoke", graph, Command(resume=decision), config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Generation", "Approve?", None, "incomplete", "interrupt"),
            ("Generation", ANSWER, None, "ok", None),
        ]
    ]
    assert question_of(Command(resume={"0" * 32: decision})) is None  # as one of several


@pytest.mark.parametrize(
    "words",
    [
        "Yes, do.",
        {"answer": "Yes, do."},
        {"feedback": "Yes, do."},
        {"type": "edit", "text": "Yes, do."},
        {"type": "respond", "text": "Yes, do.", "id": 1},
        {"type": "respond", "message": "Yes, do."},
        {"0" * 32: "Yes, do."},
    ],
    ids=str,
)
def test_words(words: Any) -> None:
    """Words are a question, in whichever form they go on."""
    question = question_of(Command(resume=words))
    assert question is not None
    assert question.text == "Yes, do."


@pytest.mark.parametrize("mode", SINGLE)
async def test_two_ask_at_once(mode: Mode, sink: Sink) -> None:
    """What two ask at once is one answer; what answers both, by their ids, is one prompt."""
    builder: Any = StateGraph(Trip)
    builder.add_node("agent", lambda _: {"notes": [str(model("Well?").invoke("?").content)]})
    builder.add_edge(START, "agent")
    for name in ("left", "right", "left again"):
        shown = f"{name.split()[0].title()}?"
        builder.add_node(name, lambda _, shown=shown: {"notes": [interrupt(shown)]})
        builder.add_edge("agent", name)
    builder.add_node("end", lambda _: {"answer": str(model().invoke("?").content)})
    builder.add_edge(["left", "right", "left again"], "end")
    graph = builder.compile(checkpointer=MemorySaver())
    await drive(mode, graph, {"question": QUESTION}, config())
    waits = graph.get_state(config()).interrupts
    ids = [getattr(one, "id", None) or one.interrupt_id for one in waits]
    resume = dict(zip(ids, ("this", "that", "both"), strict=True))
    await drive(mode, graph, Command(resume=resume), config())
    [[asked, shown], [answered, told]] = [(turn[0][1], turn[-1][1]) for turn in brief(sink)]
    assert (asked, sorted(shown.splitlines())) == (QUESTION, ["Left?", "Right?"])
    assert (answered, told) == ("this\nthat\nboth", ANSWER)
    assert_nothing_left()


async def test_a_stop_that_shows_nothing(sink: Sink) -> None:
    """Where a stop has no words, the answer is what the model said last, under its message's id."""

    def ask(state: Any) -> Any:
        said = model("Shall I?").invoke(state["messages"])
        return {"messages": [said.model_copy(update={"id": "msg-1"})]}

    graph = kept_line(ask, lambda _: interrupt({"image": 1, "n": 2}))
    await drive("invoke", graph, {"messages": [("user", QUESTION)]}, config())
    [[_, told]] = turns_told(sink)
    assert (told["$text"], told["$generation_id"], told["finish_reason"]) == (
        "Shall I?",
        "msg-1",
        "interrupt",
    )


async def test_breakpoint_long_before_the_next_model(sink: Sink) -> None:
    """A graph that stood before a tool goes on in its turn, however many steps lie between."""

    def act(_: Any) -> Any:
        return {"messages": [ToolMessage("It rains.", tool_call_id="call-weather")]}

    nodes = (
        lambda state: {"messages": [Scripted(rule=calls("weather")).invoke(state["messages"])]},
        act,
        *[lambda _: {"messages": []}] * 3,
        lambda _: {"messages": [model().invoke("Write it up")]},
    )
    graph = kept_line(*nodes, interrupt_before=["node-1"])
    await drive("invoke", graph, {"messages": [("user", QUESTION)]}, config())
    await drive("invoke", graph, None, config())
    assert brief(sink) == [
        [
            ("Prompt", QUESTION, None, None, None),
            ("Tool call", None, "weather", None, None),
            ("Generation", ANSWER, None, "ok", None),
        ]
    ]


def test_yes_to_something_else_after_a_failure(sink: Sink) -> None:
    """What failed here is known better than by the name that the other processes know."""
    _runtime.state().threads.board = Board(bytearray(BOARD_BYTES))
    rules = iter([says("The red room?"), refuses, says("The blue room?"), says("Booked.")])

    def ask(state: Any) -> Any:
        return {"messages": [Scripted(rule=next(rules)).invoke(state["messages"][-1:])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_node(
        "confirm", lambda state: {"messages": [("user", interrupt(state["messages"][-1].content))]}
    )
    builder.add_node("book", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "confirm")
    builder.add_edge("confirm", "book")
    builder.add_edge("book", END)
    graph = builder.compile(checkpointer=MemorySaver())
    graph.invoke({"messages": [("user", "A red room!")]}, config())
    with pytest.raises(Refused):
        graph.invoke(Command(resume="Yes"), config())
    graph.invoke({"messages": [("user", "Then a blue one!")]}, config())
    graph.invoke(Command(resume="Yes"), config())
    prompts = [
        one["$text"] for turn in turns_told(sink) for one in turn if one["event"] == "Prompt"
    ]
    assert prompts == ["A red room!", "Yes", "Then a blue one!", "Yes"]
