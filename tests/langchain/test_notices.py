"""Messages that look like a human's, and that an agent's harness has added: nobody typed them."""

# LangGraph's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from tests.langchain.chains import QUESTION
from tests.langchain.lines import graph_around, kept_line
from tests.langchain.models import Scripted, says
from trubrics_instrument import patch_langchain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from trubrics_instrument.testing import Events

DONE = "Task 7 is done."
ADA: RunnableConfig = {"configurable": {"user_id": "ada"}}
PLACE: RunnableConfig = {"configurable": {"user_id": "ada", "thread_id": "t-1"}}


def notice(text: str = DONE) -> HumanMessage:
    """Return a message as `add_notification_metadata` marks it. Source: langchain-core 1.8."""
    return HumanMessage(text, additional_kwargs={"lc_source": "task"})


def numbered() -> Scripted:
    """Return a model that says how many messages it was given."""
    return Scripted(rule=lambda given: AIMessage(str(len(given))))


def bare(messages: Sequence[BaseMessage]) -> str:
    """Ask a model."""
    return str(numbered().invoke(list(messages), ADA).content)


def graph(messages: Sequence[BaseMessage]) -> str:
    """Ask a graph that keeps nothing."""
    told = graph_around(numbered()).invoke({"messages": list(messages)}, ADA)
    return str(told["messages"][-1].content)


@pytest.fixture(autouse=True)
def patched(events: Events) -> None:
    """Put the patch on, while what is told is collected."""
    patch_langchain()


@pytest.mark.parametrize("ask", [bare, graph])
def test_after_an_answer(ask: Callable[[Sequence[BaseMessage]], str], events: Events) -> None:
    """What the assistant says to it is told in the same conversation, and no question is."""
    talk: list[BaseMessage] = [HumanMessage(QUESTION)]
    for given in (notice(), HumanMessage("And now?")):
        talk += [AIMessage(ask(talk)), given]
    ask(talk)
    assert events.turns() == [(QUESTION, "1"), (None, "3"), ("And now?", "5")]
    assert [event.event for event in events].count("Prompt") == 2
    assert len({event.thread_id for event in events}) == 1


def test_in_a_graph_that_keeps_its_messages(events: Events) -> None:
    """So it is where the notice is all that the graph is given."""

    def talk(state: Any) -> dict[str, Any]:
        return {"messages": [numbered().invoke(state["messages"])]}

    kept = kept_line(talk)
    for given in (HumanMessage(QUESTION), notice(), HumanMessage("And now?")):
        kept.invoke({"messages": [given]}, PLACE)
    texts = [(event.event, event.text) for event in events]
    first, second = [("Prompt", QUESTION), ("Generation", "1")], [("Prompt", "And now?")]
    assert texts == [*first, ("Generation", "3"), *second, ("Generation", "5")]
    assert {(event.user_id, event.thread_id) for event in events} == {("ada", "t-1")}


@pytest.mark.parametrize("ask", [bare, graph])
def test_beside_a_question(ask: Callable[[Sequence[BaseMessage]], str], events: Events) -> None:
    """What is put before or behind a question that has no answer yet leaves it a question."""
    ask([notice("So far: nothing."), HumanMessage(QUESTION), notice()])
    assert events.turns() == [(QUESTION, "3")]


def test_instead_of_the_question(events: Events) -> None:
    """A summary may stand for it in the middle of a turn."""
    called = AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "call-1"}])
    first = Scripted(rule=lambda _: called)
    first.invoke([HumanMessage(QUESTION)], PLACE)
    given = [notice("So far: a question."), called, ToolMessage("Found.", tool_call_id="call-1")]
    Scripted(rule=says("Here it is.")).invoke(given, PLACE)
    assert events.turns() == [(QUESTION, "Here it is.")]


def test_what_a_notice_is_no_answer_to(events: Events) -> None:
    """A graph that says nothing to it does not repeat what it said before."""

    def think(state: Any) -> dict[str, Any]:
        answer = numbered().invoke(state["messages"])
        return {"messages": [] if len(state["messages"]) > 1 else [answer]}

    silent = kept_line(think)
    for given in (HumanMessage(QUESTION), notice()):
        silent.invoke({"messages": [given]}, PLACE)
    assert [event.text for event in events] == [QUESTION, "1", "3"]
