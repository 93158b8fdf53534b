"""Graphs that stood still and go on: whose turn the answer is that comes then."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Scripted, says
from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from trubrics_instrument.testing import Events

pytestmark = pytest.mark.usefixtures("events")

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
graphs: Any = pytest.importorskip("langgraph.graph")
kinds: Any = pytest.importorskip("langgraph.types")

INTERRUPTS = pytest.mark.skipif(
    not hasattr(kinds, "interrupt"), reason="this LangGraph has no interrupt()"
)
ELSEWHERE: Any = {"configurable": {"thread_id": "t-1"}}
HERE: Any = {**ELSEWHERE, "callbacks": [TrubricsCallbackHandler("ada")]}
DECISION = {"decision": "yes"}


class State(TypedDict, total=False):
    """A state in which nothing shows that the graph stands still."""

    question: str
    note: str
    answer: str


def told(events: Events) -> list[tuple[str, str | None]]:
    """Return each event that was told, and its text."""
    return [(one.event, one.text) for one in events]


def turns(events: Events) -> int:
    """Return how many turns were told."""
    return len({one.prompt_id for one in events})


def asks(text: str) -> Any:
    """Return a node that asks a model what nothing else asks, and keeps the answer."""
    return lambda _: {"answer": str(Scripted(rule=says(text)).invoke(f"For {text}").content)}


def notes(_: Any) -> Any:
    """Run without a model."""
    return {"note": "A note."}


def decides(_: Any) -> Any:
    """Stop until a human has decided."""
    return {"note": str(kinds.interrupt({"action": "Go on?", "count": 1}))}


def kept(*nodes: Any, **compiled: Any) -> Any:
    """Return a graph of these nodes that keeps its state."""
    return kept_line(*nodes, state=State, **compiled)


@INTERRUPTS
def test_a_decision_in_another_process(events: Events) -> None:
    """A graph that stopped in another process is told from where it goes on."""
    graph = kept(asks("A plan."), decides, asks("Done."))
    graph.invoke({"question": "Q?"}, ELSEWHERE)
    graph.invoke(kinds.Command(resume=DECISION), HERE)
    assert told(events) == [("Generation", "Done.")]


@INTERRUPTS
def test_a_decision_many_steps_before_a_model(events: Events) -> None:
    """What a human was asked to decide is of the turn, however far the next model is."""
    graph = kept(asks("A plan."), decides, notes, notes, notes, notes, asks("Done."))
    graph.invoke({"question": "Q?"}, HERE)
    graph.invoke(kinds.Command(resume=DECISION), HERE)
    assert told(events) == [
        ("Prompt", "Q?"),
        ("Generation", "Go on?"),
        ("Generation", "Done."),
    ]
    assert turns(events) == 1


def test_edited_before_another_question_to_a_model(events: Events) -> None:
    """Edits of a graph that stands still are no steps of its own, whatever it asks next."""
    builder: Any = graphs.StateGraph(State)
    builder.add_node("agent", lambda state: asks(f"After {state.get('answer')}.")(state))
    builder.add_node("tools", notes)
    builder.add_edge(graphs.START, "agent")
    # LangGraph shows us an edit of a node that has a choice.
    builder.add_conditional_edges(
        "agent", lambda state: graphs.END if state.get("note") else "tools", ["tools", graphs.END]
    )
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=memory.MemorySaver(), interrupt_after=["agent"])
    graph.invoke({"question": "Q?"}, HERE)
    for number in range(3):
        graph.update_state(HERE, {"answer": f"edit {number}"})
    graph.invoke(None, HERE)
    assert told(events) == [
        ("Prompt", "Q?"),
        ("Generation", "After None."),
        ("Generation", "After edit 2."),
    ]
    assert turns(events) == 1


def test_steps_of_a_graph_inside(events: Events) -> None:
    """The steps of a graph inside do not count: a turn of another process shows all the same."""
    inside = line_of(*[notes] * 5, asks("A plan."), state=State)
    graph = kept(inside, asks("Done."), interrupt_before=["node-1"])
    graph.invoke({"question": "One?"}, HERE)
    graph.invoke({"question": "Two?"}, ELSEWHERE)
    graph.invoke(None, HERE)
    assert told(events) == [("Prompt", "One?"), ("Generation", "A plan."), ("Generation", "Done.")]
    assert turns(events) == 2


@INTERRUPTS
def test_a_graph_inside_that_the_app_resumes(events: Events) -> None:
    """What a graph inside stopped for is no answer, once the app itself has decided."""
    inside = kept(lambda _: {"answer": f"Approved by {kinds.interrupt('May I?')}."})

    def node(_: Any) -> Any:
        asks("A plan.")(None)
        about = {"configurable": {"thread_id": "inside"}}
        inside.invoke({"question": "?"}, about)
        return {"answer": inside.invoke(kinds.Command(resume="the app"), about)["answer"]}

    line_of(node, state=State).invoke({"question": "Q?"}, HERE)
    answer = events.one("Generation")
    assert (answer.text, answer.get("status")) == ("Approved by the app.", "ok")
