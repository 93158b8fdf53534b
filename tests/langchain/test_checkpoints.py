"""Which turn an answer is of, where a graph goes on from a checkpoint with nothing asked."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from tests.langchain.driving import assert_nothing_left
from tests.langchain.lines import line_of
from tests.langchain.models import Refused, Scripted, says
from trubrics_instrument import TrubricsCallbackHandler, _runtime, context
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument.testing import Events

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
kinds: Any = pytest.importorskip("langgraph.types")

needs_interrupts = pytest.mark.skipif(
    not hasattr(kinds, "interrupt"), reason="this LangGraph has no interrupt()"
)
UNSEEN: Any = {"configurable": {"thread_id": "t-1"}}
HERE: Any = {**UNSEEN, "callbacks": [TrubricsCallbackHandler("ada")]}
ASKED = ("One?", "Two?", "Three?")
WRITE = "Write the final answer."
FINAL = [(text, f"Final: {text}") for text in ASKED]


class State(TypedDict, total=False):
    """A state without messages."""

    question: str
    answer: str


@pytest.fixture(autouse=True)
def events() -> Iterator[Events]:
    """Collect what is told; nothing is left open."""
    with capture() as taken:
        yield taken
    assert_nothing_left()


def drafts(state: Any) -> Any:
    """Ask a model for a draft."""
    Scripted(rule=says("A draft.")).invoke(f"Draft: {state['question']}")
    return {"answer": "Not yet."}


def approves(_: Any) -> Any:
    """Stop until a human has decided."""
    kinds.interrupt({"action": "Send it?", "count": 1})
    return {}


def writes(state: Any) -> Any:
    """Ask a model for the answer, with the same words in each turn."""
    rule = says(f"Final: {state['question']}")
    about = [SystemMessage(state["question"]), HumanMessage(WRITE)]
    return {"answer": str(Scripted(rule=rule).invoke(about).content)}


def talks(state: Any) -> Any:
    """Ask a model what the state's last message asks."""
    messages = state["messages"]
    said = Scripted(rule=says(f"To {messages[-1].content}")).invoke(messages)
    return {"messages": [said]}


def kept(*nodes: Any, state: Any = State, **compiled: Any) -> Any:
    """Return a graph of these nodes that keeps its state."""
    return line_of(*nodes, state=state, compiled={"checkpointer": memory.MemorySaver(), **compiled})


def chat(*nodes: Any, **compiled: Any) -> Any:
    """Return a graph that keeps messages."""
    return kept(*(nodes or (talks,)), state=None, **compiled)


def asks(graph: Any, *texts: str, about: Any = HERE) -> None:
    """Ask a graph of messages."""
    for text in texts:
        graph.invoke({"messages": [("user", text)]}, about)


def puts(graph: Any, text: str, about: Any = UNSEEN, **message: Any) -> Any:
    """Put a question into the state; return where that is."""
    asked = {"messages": [HumanMessage(text, **message)]}
    return {**HERE, **graph.update_state(about, asked, as_node="__start__")}


def before(graph: Any, *, node: str = "node-0", **values: Any) -> Any:
    """Return the last checkpoint before a node at which the state holds these values."""
    for one in graph.get_state_history(UNSEEN):
        held = {"last": str((one.values.get("messages") or [AIMessage("")])[-1].content)}
        if one.next == (node,) and values.items() <= {**held, **one.values}.items():
            return {**HERE, **one.config}
    raise AssertionError


def finals(events: Events) -> list[tuple[str | None, str | None]]:
    """Return which question each final answer was told to."""
    return [one for one in events.turns() if str(one[1]).startswith("Final")]


@needs_interrupts
@pytest.mark.parametrize("named", [False, True])
def test_a_decision(named: bool, events: Events) -> None:
    """What follows a decision is of the turn that stood still, whatever its model is asked."""
    graph = kept(drafts, approves, writes)
    for text in ASKED:
        graph.invoke({"question": text}, HERE)
        where = graph.get_state(UNSEEN).config if named else {}
        graph.invoke(kinds.Command(resume=True), {**HERE, **where})
    assert finals(events) == FINAL


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("breakpoint", ["interrupt_before", "interrupt_after"])
def test_a_breakpoint(breakpoint: str, named: bool, events: Events) -> None:  # noqa: A002 - it is one
    """So it is at a breakpoint, also where the app names the checkpoint."""
    stops = {breakpoint: ["node-1" if breakpoint == "interrupt_before" else "node-0"]}
    graph = kept(drafts, writes, **stops)
    for text in ASKED:
        graph.invoke({"question": text}, HERE)
        where = graph.get_state(UNSEEN).config if named else {}
        graph.invoke(None, {**HERE, **where})
    assert finals(events) == FINAL


@pytest.mark.parametrize("named", [False, True])
def test_a_crash(named: bool, events: Events) -> None:
    """So it is after a crash."""
    failures = iter([True, False] * len(ASKED))

    def writes_at_last(state: Any) -> Any:
        if next(failures):
            raise ConnectionError
        return writes(state)

    graph = kept(drafts, writes_at_last)
    for text in ASKED:
        with pytest.raises(ConnectionError):
            graph.invoke({"question": text}, HERE)
        where = graph.get_state(UNSEEN).config if named else {}
        graph.invoke(None, {**HERE, **where})
    assert finals(events) == FINAL


@needs_interrupts
def test_a_workflow(events: Events) -> None:
    """So it is in a workflow of the functional API."""
    functional: Any = pytest.importorskip("langgraph.func")

    def works(question: str) -> str:
        drafted = functional.task(drafts)({"question": question}).result()
        approves(drafted)
        return str(functional.task(writes)({"question": question}).result()["answer"])

    workflow = functional.entrypoint(checkpointer=memory.MemorySaver())(works)
    for text in ASKED:
        workflow.invoke(text, HERE)
        workflow.invoke(kinds.Command(resume=True), HERE)
    assert finals(events) == FINAL


@needs_interrupts
@pytest.mark.parametrize("named", [False, True])
def test_a_graph_inside(named: bool, events: Events) -> None:
    """So it is where a graph inside goes on, with the same task in the messages of each turn."""

    def approves_inside(_: Any) -> Any:
        approves(None)
        return {}

    inside = line_of(approves_inside, talks)

    def delegates(_: Any) -> Any:
        return {"messages": inside.invoke({"messages": [("user", WRITE)]})["messages"][-1:]}

    graph = chat(talks, delegates)
    for text in ASKED:
        asks(graph, text)
        where = graph.get_state(UNSEEN).config if named else {}
        graph.invoke(kinds.Command(resume=True), {**HERE, **where})
    last = [one for one in events.turns() if one[1] == f"To {WRITE}"]
    assert last == [(text, f"To {WRITE}") for text in ASKED]


@needs_interrupts
def test_after_a_turn_without_a_stop(events: Events) -> None:
    """So it is where an earlier turn began with what this one goes on with."""

    def unless_first(node: Any) -> Any:
        return lambda state: {} if state["question"] == "One?" else node(state)

    graph = kept(unless_first(drafts), unless_first(approves), writes)
    graph.invoke({"question": "One?"}, HERE)
    graph.invoke({"question": "Two?"}, HERE)
    graph.invoke(kinds.Command(resume=True), HERE)
    assert finals(events) == FINAL[:2]


@needs_interrupts
def test_asked_by_other_code(events: Events) -> None:
    """The turn that stands still is the thread's last, whichever turn this code was in."""
    graph = kept(drafts, approves, writes)
    graph.invoke({"question": "One?"}, HERE)
    graph.invoke(kinds.Command(resume=True), HERE)
    contextvars.Context().run(graph.invoke, {"question": "Two?"}, HERE)
    graph.invoke(kinds.Command(resume=True), HERE)
    assert finals(events) == FINAL[:2]


@needs_interrupts
def test_an_earlier_answer_while_a_turn_stands_still(events: Events) -> None:
    """An earlier answer that is asked for anew is of its own question."""
    graph = kept(drafts, approves, writes)
    graph.invoke({"question": "One?"}, HERE)
    graph.invoke(kinds.Command(resume=True), HERE)
    first = before(graph, question="One?")
    graph.invoke({"question": "Two?"}, HERE)
    graph.invoke(None, first)
    assert [one.prompt_id for one in events.named("Generation")] == [
        events.named("Prompt")[turn].prompt_id for turn in (0, 0, 1, 0)
    ]


@needs_interrupts
def test_an_earlier_answer_after_its_stop(events: Events) -> None:
    """So it is behind a stop of that turn, where each turn's model is asked the same."""
    graph = kept(drafts, approves, writes)
    for text in ASKED:
        graph.invoke({"question": text}, HERE)
        graph.invoke(kinds.Command(resume=True), HERE)
    for text in ASKED:
        graph.invoke(None, before(graph, node="node-2", question=text))
    assert finals(events) == [*FINAL, *FINAL]


def test_turns_with_the_same_words(events: Events) -> None:
    """Of several turns with the same words, the one whose answer is asked for anew gets it."""
    graph = chat()
    asks(graph, "A story!", "Go on", "Go on", "Go on")
    again = [one.config for one in graph.get_state_history(UNSEEN) if one.next == ("node-0",)]
    for where in reversed(again):
        graph.invoke(None, {**HERE, **where})
    prompts = [one.prompt_id for one in events.named("Prompt")]
    assert [one.prompt_id for one in events.named("Generation")] == [*prompts, *prompts]


@pytest.mark.parametrize("named", [False, True])
def test_put_into_the_state(named: bool, events: Events) -> None:
    """A question that the app puts into the state is told once the graph answers it."""
    graph = chat()
    for text in ASKED:
        where = puts(graph, text)
        graph.invoke(None, where if named else HERE)
    assert events.turns() == [(text, f"To {text}") for text in ASKED]


def test_put_after_another_answer(events: Events) -> None:
    """So it is after questions that were asked as ever, and a removed answer is one more."""
    graph = chat()
    asks(graph, "One?")
    puts(graph, "Two?", id="q-2")
    graph.invoke(None, HERE)
    graph.invoke(None, puts(graph, "Two?", before(graph, last="Two?"), id="q-2"))
    assert events.turns() == [("One?", "To One?"), ("Two?", "To Two?"), ("Two?", "To Two?")]
    assert len(events.named("Prompt")) == len(ASKED[:2])


def test_edited_at_an_earlier_checkpoint(events: Events) -> None:
    """A question that is edited there is told, whichever answer was asked for last."""
    graph = chat()
    asks(graph, *ASKED)
    first, third = (before(graph, last=text) for text in ("One?", "Three?"))
    graph.invoke(None, first)
    graph.invoke(None, puts(graph, "Four?", third))
    assert events.turns() == [
        *[(text, f"To {text}") for text in ASKED],
        ("One?", "To One?"),
        ("Four?", "To Four?"),
    ]


def test_edited_where_messages_have_no_ids(events: Events) -> None:
    """What may be a node's own instruction is no prompt, but one more answer to the last one."""
    graph = kept(drafts, writes)
    for text in ASKED:
        graph.invoke({"question": text}, HERE)
    third = before(graph, question="Three?")
    graph.invoke(None, before(graph, question="One?"))
    where = graph.update_state(third, {"question": "Four?"}, as_node="__start__")
    graph.invoke(None, {**HERE, **where})
    told = {one.prompt_id for one in events.named("Prompt")}
    assert [one.text for one in events.named("Prompt")] == list(ASKED)
    assert {one.prompt_id for one in events} == told


def instructs(_: Any) -> Any:
    """Put an instruction into the state, as a message of the user's."""
    return {"messages": [HumanMessage(WRITE)]}


def test_an_instruction_at_a_breakpoint(events: Events) -> None:
    """What a node puts into the state before a breakpoint is nobody's question."""
    graph = chat(talks, instructs, talks, interrupt_before=["node-2"])
    for text in ASKED:
        asks(graph, text)
        graph.invoke(None, HERE)
    assert [one.text for one in events.named("Prompt")] == list(ASKED)
    assert [text for text, _ in events.turns()] == ["One?"] * 2 + ["Two?"] * 2 + ["Three?"] * 2


def test_an_instruction_at_a_crash(events: Events) -> None:
    """Nor is it before a crash."""
    failures = iter([True, False])

    def talks_at_last(state: Any) -> Any:
        if next(failures):
            raise Refused
        return talks(state)

    graph = chat(talks, instructs, talks_at_last)
    with pytest.raises(Refused):
        asks(graph, "One?")
    graph.invoke(None, HERE)
    assert [(one.event, one.text) for one in events] == [
        ("Prompt", "One?"),
        ("Generation failed", "To One?"),
        ("Generation", f"To {WRITE}"),
    ]


def test_an_instruction_at_an_earlier_checkpoint(events: Events) -> None:
    """Nor is it where the app goes back to it: what comes before it was no answer."""
    graph = chat(talks, instructs, talks)
    asks(graph, "One?")
    graph.invoke(None, before(graph, node="node-2"))
    assert events.turns() == [("One?", f"To {WRITE}")] * 2
    assert len(events.named("Prompt")) == 1


def test_a_task_at_an_earlier_checkpoint(events: Events) -> None:
    """Nor is what a graph inside is to do."""
    inside = line_of(talks, compiled={"checkpointer": False})

    def delegates(_: Any) -> Any:
        return {"messages": inside.invoke({"messages": [("user", WRITE)]})["messages"][-1:]}

    graph = chat(talks, delegates)
    asks(graph, "One?")
    graph.invoke(None, before(graph, node="node-1"))
    assert events.turns() == [("One?", f"To {WRITE}")] * 2
    assert len(events.named("Prompt")) == 1


def test_put_after_what_another_process_answered(events: Events) -> None:
    """Of what comes before a question, nothing may be known here."""
    graph = chat()
    asks(graph, "One?", about=UNSEEN)
    puts(graph, "Two?")
    graph.invoke(None, HERE)
    assert events.turns() == [("Two?", "To Two?")]


@needs_interrupts
def test_decided_here_and_asked_in_another_process(events: Events) -> None:
    """What was asked there is told there: here, all its answers are of one turn."""
    graph = chat(talks, approves, talks)
    asks(graph, "One?", about=UNSEEN)
    graph.invoke(kinds.Command(resume=True), HERE)
    graph.invoke(None, before(graph))
    assert [(one.event, one.text) for one in events] == [
        ("Generation", "To To One?"),
        ("Generation", "Send it?"),
    ]
    assert len({one.prompt_id for one in events}) == 1


def test_gone_on_with_a_tool_of_another_process(events: Events) -> None:
    """Where the result of a tool comes, the question was asked before."""

    def uses(_: Any) -> Any:
        call = {"name": "weather", "args": {}, "id": "call-1"}
        return {
            "messages": [
                AIMessage("", tool_calls=[call]),
                ToolMessage("It rains.", tool_call_id="call-1"),
            ]
        }

    graph = chat(uses, talks, interrupt_before=["node-1"])
    asks(graph, "One?", about=UNSEEN)
    with context(prompt="One?"):
        graph.invoke(None, HERE)
    assert [(one.event, one.text) for one in events] == [("Generation", "To It rains.")]


def test_put_in_another_process(events: Events) -> None:
    """What another process has asked is no new question; what nobody has asked is."""
    board = Board(bytearray(BOARD_BYTES))
    failures = iter([True, False, False])

    def talks_at_last(state: Any) -> Any:
        talked = talks(state)
        if next(failures):
            raise Refused
        return talked

    graph = chat(talks_at_last)
    _runtime.state().threads.board = board
    with pytest.raises(Refused):
        asks(graph, "One?")
    with capture() as elsewhere:
        _runtime.state().threads.board = board
        graph.invoke(None, HERE)
        puts(graph, "Two?")
        graph.invoke(None, HERE)
    [first] = {one.prompt_id for one in events}
    assert [(one.event, one.text, one.prompt_id == first) for one in (*events, *elsewhere)] == [
        ("Prompt", "One?", True),
        ("Generation failed", "To One?", True),
        ("Generation", "To One?", True),
        ("Prompt", "Two?", False),
        ("Generation", "To Two?", False),
    ]
