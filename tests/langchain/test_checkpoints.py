"""Which turn an answer is of, where a graph goes on from a checkpoint with nothing asked."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextvars
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Refused, Scripted, says
from trubrics_instrument import TrubricsCallbackHandler, _runtime, context
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from trubrics_instrument.testing import Events

pytestmark = pytest.mark.usefixtures("events")

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
kinds: Any = pytest.importorskip("langgraph.types")
FORKS = pytest.mark.skipif(
    version("langgraph").startswith("0.6."), reason="this LangGraph does not go back there"
)

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


def kept(*nodes: Any, **compiled: Any) -> Any:
    """Return a graph of these nodes that keeps its state."""
    return kept_line(*nodes, state=State, **compiled)


def chat(*nodes: Any, **compiled: Any) -> Any:
    """Return a graph that keeps messages."""
    return kept_line(*(nodes or (talks,)), **compiled)


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


def told(events: Events) -> list[tuple[str, str | None]]:
    """Return what was told."""
    return [(one.event, one.text) for one in events]


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
    """A question that the app puts behind an answer is told once the graph answers it."""
    graph = chat()
    asks(graph, ASKED[0])
    for text in ASKED[1:]:
        where = puts(graph, text)
        graph.invoke(None, where if named else HERE)
    assert events.turns() == [(text, f"To {text}") for text in ASKED]


@FORKS
def test_put_after_another_answer(events: Events) -> None:
    """So it is after questions that were asked as ever, and a removed answer is one more."""
    graph = chat()
    asks(graph, "One?")
    puts(graph, "Two?", id="q-2")
    graph.invoke(None, HERE)
    graph.invoke(None, puts(graph, "Two?", before(graph, last="Two?"), id="q-2"))
    assert events.turns() == [("One?", "To One?"), ("Two?", "To Two?"), ("Two?", "To Two?")]
    assert len(events.named("Prompt")) == len(ASKED[:2])


@FORKS
def test_edited_at_an_earlier_checkpoint(events: Events) -> None:
    """A question that is edited there is told, whichever answer was asked for last."""
    graph = chat()
    asks(graph, *ASKED)
    first, third = (before(graph, last=text) for text in ("One?", "Three?"))
    edited = graph.get_state(third).values["messages"][-1].id
    graph.invoke(None, first)
    graph.invoke(None, puts(graph, "Four?", third, id=edited))
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


@pytest.mark.parametrize("again", ["One?", "Three?"], ids=["of an earlier turn", "of the last one"])
def test_another_answer_behind_a_guard(again: str, events: Events) -> None:
    """The first model of a turn is asked in other words; the app goes back to behind it."""

    def guards(state: Any) -> Any:
        Scripted(rule=says("Yes.")).invoke(f"Allowed? {state['messages'][-1].content}")
        return {"messages": []}

    graph = chat(guards, talks)
    asks(graph, *ASKED)
    graph.invoke(None, before(graph, node="node-1", last=again))
    assert told(events)[-1] == ("Generation", f"To {again}")
    prompts = [event.prompt_id for event in events.named("Prompt")]
    assert [event.text for event in events.named("Prompt")] == list(ASKED)
    assert events[-1].prompt_id == prompts[ASKED.index(again)]


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


@pytest.mark.parametrize("answered", [False, True])
def test_put_where_nothing_is_known(answered: bool, events: Events) -> None:
    """Where the conversation is not known here, what is asked may have been told elsewhere."""
    graph = chat()
    if answered:
        asks(graph, "One?", about=UNSEEN)
    graph.invoke(None, puts(graph, "Two?"))
    assert told(events) == [("Generation", "To Two?")]


def branching(**compiled: Any) -> Any:
    """Return a graph of messages that shows to a handler what is put into its state."""
    graphs: Any = pytest.importorskip("langgraph.graph")
    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("human", passes)
    builder.add_node("talks", talks)
    builder.add_edge("__start__", "human")
    builder.add_conditional_edges("human", lambda _: "talks", ["talks", "__end__"])
    builder.add_edge("talks", "human" if compiled else "__end__")
    return builder.compile(checkpointer=memory.MemorySaver(), **compiled)


def test_seen_to_be_put(events: Events) -> None:
    """What the app is seen to put into the state is told, also where nothing else is known."""
    graph = branching()
    for text in ASKED:
        graph.update_state(HERE, {"messages": [HumanMessage(text)]}, as_node="human")
        graph.invoke(None, HERE)
    assert events.turns() == [(text, f"To {text}") for text in ASKED]
    assert len(events.named("Prompt")) == len(ASKED)


def test_seen_to_be_put_while_a_turn_stands_still(events: Events) -> None:
    """So it is at a breakpoint, where each question of a conversation is put."""
    graph = branching(interrupt_before=["human"])
    asks(graph, "One?")
    graph.invoke(None, HERE)
    for text in ASKED[1:]:
        graph.update_state(HERE, {"messages": [HumanMessage(text)]}, as_node="human")
        graph.invoke(None, HERE)
    assert events.turns() == [(text, f"To {text}") for text in ASKED]


def test_seen_to_note(events: Events) -> None:
    """A text that the app puts into the state is no message, whatever a node makes of it."""
    graphs: Any = pytest.importorskip("langgraph.graph")

    class WithNote(graphs.MessagesState):  # type: ignore[misc]
        note: str

    builder = graphs.StateGraph(WithNote)
    builder.add_node("notes", passes)
    builder.add_node("adds", lambda state: {"messages": [HumanMessage(state["note"])]})
    builder.add_node("talks", talks)
    builder.add_edge("__start__", "notes")
    builder.add_conditional_edges("notes", lambda _: "adds", ["adds", "__end__"])
    builder.add_edge("adds", "talks")
    graph = builder.compile(checkpointer=memory.MemorySaver())
    graph.update_state(HERE, {"note": "Be brief."}, as_node="notes")
    graph.invoke(None, HERE)
    assert told(events) == [("Generation", "To Be brief.")]


@pytest.mark.parametrize("role", ["ai", "system"])
def test_seen_to_change_the_state(role: str, events: Events) -> None:
    """What else the app puts there is nobody's question."""
    graph = branching(interrupt_before=["human"])
    asks(graph, "One?")
    graph.update_state(HERE, {"messages": [(role, "A note.")]}, as_node="human")
    graph.invoke(None, HERE)
    assert told(events) == [("Prompt", "One?"), ("Generation", "To A note.")]


def test_seen_to_be_put_before_another_question(events: Events) -> None:
    """What is answered along with a question is no prompt, nor are the same words later."""
    graph = branching()
    graph.update_state(HERE, {"messages": [HumanMessage("Yes")]}, as_node="human")
    asks(graph, "One?")
    again = {"messages": [("user", "Once more."), ("user", "Yes")]}
    graph.invoke(again, UNSEEN, interrupt_before=["talks"])
    graph.invoke(None, HERE)
    assert told(events) == [("Prompt", "One?"), ("Generation", "To One?"), ("Generation", "To Yes")]


def plans(state: Any) -> Any:
    """Ask a model for a plan."""
    return {"messages": [Scripted(rule=says("A plan.")).invoke(state["messages"])]}


@pytest.mark.parametrize("stop", ["interrupt_before", "interrupt_after", "crash", "checkpoint"])
@pytest.mark.parametrize("first", [plans, instructs])
def test_gone_on_in_another_process(first: Any, stop: str, events: Events) -> None:
    """What another process was asked, and what its nodes have put, is nobody's question here."""
    failures = iter([stop == "crash", False])

    def talks_at_last(state: Any) -> Any:
        if next(failures):
            raise Refused
        return talks(state)

    stops = {stop: ["node-2" if stop == "interrupt_before" else "node-1"]}
    graph = chat(plans, first, talks_at_last, **(stops if stop.startswith("interrupt") else {}))
    with suppress(Refused):
        asks(graph, "One?")
    assert [one.text for one in events.named("Prompt")] == ["One?"]
    with capture() as elsewhere:
        graph.invoke(None, before(graph, node="node-2") if stop == "checkpoint" else HERE)
    last = "A plan." if first is plans else WRITE
    assert told(elsewhere) == [("Generation", f"To {last}")]


def test_asked_anew_in_another_process(events: Events) -> None:
    """Nor is what another process has answered, if its answer is asked for anew here."""
    graph = chat()
    asks(graph, "One?")
    assert [one.text for one in events.named("Prompt")] == ["One?"]
    with capture() as elsewhere:
        graph.invoke(None, before(graph, last="One?"))
    assert told(elsewhere) == [("Generation", "To One?")]


def test_planned_in_another_process(events: Events) -> None:
    """So it is behind an answer that is known, where another one stands behind the question."""
    graph = chat(plans, talks, interrupt_before=["node-1"])
    asks(graph, "One?")
    graph.invoke(None, HERE)
    asks(graph, "Two?", about=UNSEEN)
    graph.invoke(None, HERE)
    assert told(events)[2:] == [("Generation", "To A plan."), ("Generation", "To A plan.")]


def test_instructed_in_another_process(events: Events) -> None:
    """So it is where a node has put an instruction behind the question."""
    failures = iter([False, True, False])

    def instructs_how(state: Any) -> Any:
        return {"messages": [HumanMessage(f"Answer this: {state['messages'][-1].content}")]}

    def talks_at_last(state: Any) -> Any:
        if next(failures):
            raise Refused
        return talks(state)

    graph = chat(instructs_how, talks_at_last)
    asks(graph, "One?")
    with suppress(Refused):
        asks(graph, "Two?", about=UNSEEN)
    graph.invoke(None, HERE)
    assert told(events) == [
        ("Prompt", "One?"),
        ("Generation", "To Answer this: One?"),
        ("Generation", "To Answer this: Two?"),
    ]


@pytest.mark.parametrize("inside", [False, True])
def test_reworded_behind_an_answer(inside: bool, events: Events) -> None:
    """What a node asks its model, or a graph inside, in words of its own is nobody's question."""
    within = line_of(talks, compiled={"checkpointer": False})

    def rewords(state: Any) -> Any:
        *behind, last = state["messages"]
        given = {"messages": [*behind, HumanMessage(f"Answer this: {last.content}")]}
        return {"messages": (within.invoke if inside else talks)(given)["messages"][-1:]}

    graph = chat(rewords)
    asks(graph, "One?")
    asks(graph, "Two?", about=UNSEEN)
    graph.invoke(None, before(graph, last="Two?"))
    assert told(events) == [
        ("Prompt", "One?"),
        ("Generation", "To Answer this: One?"),
        ("Generation", "To Answer this: Two?"),
    ]


def test_an_instruction_behind_an_answer_at_a_breakpoint(events: Events) -> None:
    """Behind what was answered at a breakpoint, a node is the next to speak."""
    graph = chat(talks, instructs, talks, interrupt_before=["node-1"])
    asks(graph, "One?")
    graph.invoke(None, UNSEEN)
    graph.invoke(None, before(graph, node="node-2"))
    assert told(events) == [
        ("Prompt", "One?"),
        ("Generation", "To One?"),
        ("Generation", f"To {WRITE}"),
    ]


def test_an_instruction_behind_the_words_of_an_answer(events: Events) -> None:
    """An instruction is nobody's question, though what is before it was an answer once."""
    failures = iter([False, True, False])

    def ends(state: Any) -> Any:
        if next(failures):
            raise Refused
        return plans(state)

    graph = chat(plans, instructs, ends)
    asks(graph, "One?")
    with suppress(Refused):
        asks(graph, "Two?")
    graph.invoke(None, HERE)
    assert told(events)[2:] == [
        ("Prompt", "Two?"),
        ("Generation failed", "A plan."),
        ("Generation", "A plan."),
    ]


def passes(state: Any) -> Any:
    """Do nothing that a model is asked for, and return something: old graphs want that."""
    name = next(iter(state))
    return {name: state[name]}


@pytest.mark.parametrize("stop", ["interrupt_before", "interrupt_after", "crash"])
def test_a_stop_far_from_any_model(stop: str, events: Events) -> None:
    """How many steps there are to the next model does not matter."""
    failures = iter([stop == "crash", False] * len(ASKED))

    def fails(state: Any) -> Any:
        if next(failures):
            raise ConnectionError
        return passes(state)

    stops = {stop: ["node-3"]} if stop != "crash" else {}
    graph = kept(drafts, passes, passes, fails, passes, passes, writes, **stops)
    for text in ASKED:
        with suppress(ConnectionError):
            graph.invoke({"question": text}, HERE)
        graph.invoke(None, HERE)
    assert finals(events) == FINAL


def test_a_chain_around_it(events: Events) -> None:
    """Steps are counted for each thread also where a chain runs the graph."""
    graph = kept(drafts, writes, interrupt_before=["node-1"])
    chain = RunnableLambda(graph.invoke)
    for text in ASKED:
        chain.invoke({"question": text}, HERE)
        there: Any = {**HERE, "configurable": {"thread_id": f"another of {text}"}}
        chain.invoke({"question": "Four?"}, there)
        chain.invoke(None, HERE)
    assert finals(events) == FINAL


@needs_interrupts
def test_two_users_in_threads_of_the_same_name(events: Events) -> None:
    """One user's turn stands still, whatever another one's has come to."""
    bobs = {**UNSEEN, "callbacks": [TrubricsCallbackHandler("bob")]}
    one, other = (kept(drafts, approves, writes) for _ in range(2))
    one.invoke({"question": "One?"}, HERE)
    one.invoke(kinds.Command(resume=True), HERE)
    one.invoke({"question": "Two?"}, HERE)
    other.invoke({"question": "Three?"}, bobs)
    other.invoke(kinds.Command(resume=True), bobs)
    one.invoke(kinds.Command(resume=True), HERE)
    assert finals(events) == [FINAL[0], FINAL[2], FINAL[1]]


def test_seen_to_be_edited_in_a_thread_of_the_context(events: Events) -> None:
    """Steps are counted in the conversation that the turn is told in."""
    graphs: Any = pytest.importorskip("langgraph.graph")
    builder = graphs.StateGraph(State)
    builder.add_node("drafts", drafts)
    builder.add_node("writes", writes)
    builder.add_edge("__start__", "drafts")
    builder.add_conditional_edges("drafts", lambda _: "writes", ["writes", "__end__"])
    graph = builder.compile(checkpointer=memory.MemorySaver(), interrupt_before=["writes"])
    for text in ASKED:
        with context(user_id="ada", thread_id="conversation"):
            graph.invoke({"question": text}, HERE)
            for _ in range(4):
                graph.update_state(HERE, {"question": text}, as_node="drafts")
            graph.invoke(None, HERE)
    assert finals(events) == FINAL


@needs_interrupts
def test_decided_in_a_turn_of_another_process(events: Events) -> None:
    """What waits here no more is not what a turn of another process goes on with."""
    graph = chat(talks, approves, talks)
    asks(graph, "One?")
    graph.invoke(kinds.Command(resume=True), UNSEEN)
    asks(graph, "Two?", about=UNSEEN)
    graph.invoke(kinds.Command(resume=True), HERE)
    first = events[0].prompt_id
    assert [(one.event, one.text, one.prompt_id == first) for one in events] == [
        ("Prompt", "One?", True),
        ("Generation", "Send it?", True),
        ("Generation", "To To Two?", False),
    ]


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
