"""One question that several assistants of an app are asked, each in a run of its own."""

# LangChain's own types are unknown in part.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.prompts import ChatPromptTemplate

from tests.langchain.chains import WORDS
from tests.langchain.lines import kept_line
from tests.langchain.models import Scripted, says
from trubrics_instrument import context, patch_langchain

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from trubrics_instrument.testing import Events

ADA: dict[str, Any] = {"user_id": "ada", "thread_id": "t-1"}
ONCE = [("Prompt", 0), ("Generation", 0), ("Generation", 0)]
TWICE = [("Prompt", 0), ("Generation", 0), ("Prompt", 1), ("Generation", 1)]


@pytest.fixture(autouse=True)
def patched(events: Events) -> None:
    """Put the patch on, while what is told is collected."""
    patch_langchain()


def brief(events: Events) -> list[tuple[str, int]]:
    """Return each event with the number of its prompt."""
    prompts = list(dict.fromkeys(event.prompt_id for event in events))
    return [(event.event, prompts.index(event.prompt_id)) for event in events]


def assistant(instructions: str, kind: str) -> Runnable[Any, Any]:
    """Return an assistant of an app: a model, or a chain around it."""
    model = Scripted(rule=says("Yes, it is."))
    template = ChatPromptTemplate.from_messages([("system", instructions), ("human", "{input}")])
    return template | model | WORDS if kind == "chain" else template | model


def ask(instructions: str, kind: str, question: str = "Is it on time?") -> None:
    """Ask an assistant."""
    if kind == "model":
        messages = [("system", instructions), ("human", question)]
        Scripted(rule=says("Yes, it is.")).invoke(messages)
    else:
        assistant(instructions, kind).invoke({"input": question})


@pytest.mark.parametrize("kind", ["model", "chain"])
def test_classified_first(kind: str, events: Events) -> None:
    """It is asked once."""
    with context(**ADA):
        ask("Classify.", kind)
        ask("You are the desk.", kind)
    assert brief(events) == ONCE


@pytest.mark.parametrize("kind", ["model", "chain"])
def test_the_same_assistant(kind: str, events: Events) -> None:
    """The user says the same again."""
    with context(**ADA):
        ask("You are the desk.", kind)
        ask("You are the desk.", kind)
    assert brief(events) == TWICE


@pytest.mark.parametrize("kind", ["model", "chain"])
def test_call_by_call(kind: str, events: Events) -> None:
    """Each call of a model has a Prompt then."""
    patch_langchain(granularity="call")
    with context(**ADA):
        ask("Classify.", kind)
        ask("You are the desk.", kind)
    assert brief(events) == TWICE


def test_a_graph_that_keeps_its_messages(events: Events) -> None:
    """The user says the same again, and the time in the instructions is another one."""
    pytest.importorskip("langgraph.graph")
    from typing_extensions import TypedDict

    class State(TypedDict):
        input: str
        output: str

    clock = count(9)

    def answer(state: Any) -> dict[str, Any]:
        messages = [("system", f"It is {next(clock)} o'clock."), ("human", state["input"])]
        return {"output": Scripted(rule=says("Yes, it is.")).invoke(messages).content}

    graph = kept_line(answer, state=State)
    with context(**ADA):
        for _ in range(2):
            graph.invoke({"input": "Yes"}, {"configurable": {"thread_id": "t-1"}})
    assert brief(events) == TWICE
