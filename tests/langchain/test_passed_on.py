"""One question that several assistants of an app are asked, each in a run of its own."""

# LangChain's own types are unknown in part.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from openai_wire import Answer, chat_completion
from typing_extensions import TypedDict

from tests.langchain.chains import WORDS
from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Scripted, says
from tests.openai.asking import client_of
from tests.replies import json_reply
from trubrics_instrument import context, patch_langchain, patch_openai

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from tests.loopback import Loopback
    from trubrics_instrument.testing import Events

ADA: dict[str, Any] = {"user_id": "ada", "thread_id": "t-1"}
ONCE = [("Prompt", 0), ("Generation", 0), ("Generation", 0)]
TWICE = [("Prompt", 0), ("Generation", 0), ("Prompt", 1), ("Generation", 1)]


class Talk(TypedDict):
    """The state of a graph that is told its instructions."""

    told: str
    input: str
    output: str


def answers(state: Any) -> dict[str, Any]:
    """Ask a model, as a node of such a graph does."""
    messages = [("system", state["told"]), ("human", state["input"])]
    return {"output": Scripted(rule=says("Yes, it is.")).invoke(messages).content}


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


@pytest.mark.parametrize("second", ["chain", "kept graph"])
@pytest.mark.parametrize("first", ["model", "chain", "graph", "client"])
def test_classified_in_each_turn(first: str, second: str, server: Loopback, events: Events) -> None:
    """Who answers may keep what was said, and who is asked first may not, or not be a run."""
    graphs = {
        "graph": line_of(answers, state=Talk),
        "kept graph": kept_line(answers, state=Talk),
    }
    patch_openai()
    server.always(json_reply(chat_completion(Answer("A question.", usage=None))))

    def asks(kind: str, instructions: str, text: str) -> None:
        if kind in graphs:
            about = {"configurable": {"thread_id": "t-1"}} if kind == "kept graph" else {}
            graphs[kind].invoke({"input": text, "told": instructions}, about)
        elif kind == "client":
            messages: Any = [{"role": "system", "content": instructions}]
            messages += [{"role": "user", "content": text}]
            with client_of(server, "sync") as client:
                client.chat.completions.create(model="m", messages=messages)
        else:
            ask(instructions, kind, text)

    for text in ("When?", "And on Sundays?"):
        with context(**ADA):
            asks(first, "Classify.", text)
            asks(second, "You are the desk.", text)
    assert brief(events) == [*ONCE, *((event, 1) for event, _ in ONCE)]


def test_a_graph_that_keeps_its_messages(events: Events) -> None:
    """The user says the same again, and the time in the instructions is another one."""
    graph = kept_line(answers, state=Talk)
    with context(**ADA):
        for told in ("It is 9:00.", "It is 9:01."):
            given = {"input": "Yes", "told": told}
            graph.invoke(given, {"configurable": {"thread_id": "t-1"}})
    assert brief(events) == TWICE
