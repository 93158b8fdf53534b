"""How a turn's answer is told: which words of all that its end holds, how complete, by which id."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langchain_core.tools import tool

from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Refused, Scripted, calls, refuses, says
from trubrics_instrument import TrubricsCallbackHandler, feedback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument.testing import Events

pytestmark = pytest.mark.usefixtures("events")

HANDLER: Any = TrubricsCallbackHandler("ada")
HANDLED: Any = {"callbacks": [HANDLER], "configurable": {"thread_id": "t-1"}}


def say(text: str) -> str:
    """Return what a model says."""
    return str(Scripted(rule=says(text)).invoke("?").content)


def call() -> Any:
    """Return the calls of a model that only calls a tool."""
    return Scripted(rule=calls("look")).invoke("?").tool_calls


def ended(events: Events) -> tuple[Any, ...]:
    """Return how the only turn ended: event, text, status and why its model stopped."""
    _, end = events
    return end.event, end.text, end.get("status"), end.get("finish_reason")


def answers(events: Events) -> list[str | None]:
    """Return the texts of the answers."""
    return [one.text for one in events.named("Generation")]


class State(TypedDict, total=False):
    """A state with several names of an answer."""

    question: str
    answer: str
    text: str


class Talk(TypedDict, total=False):
    """A state with a history, and an answer that has no name that we know."""

    messages: list[Any]
    final: str


class Judged(TypedDict, total=False):
    """A state with documents, and what a model made of them."""

    question: str
    documents: dict[str, str]
    verdict: dict[str, str]


def test_an_answer_cut_short_in_a_chain(events: Events) -> None:
    """A chain's answer is incomplete where its model had to stop, though only the text is left."""
    cut = Scripted(rule=says("Half an", response_metadata={"finish_reason": "length"}))
    (cut | StrOutputParser()).invoke("When?", HANDLED)
    assert ended(events) == ("Generation", "Half an", "incomplete", "length")


class Noting(BaseCallbackHandler):
    """A handler of the app's that notes the run ids of its models."""

    def __init__(self) -> None:
        self.run_ids: list[str] = []

    def on_chat_model_start(self, *_: Any, run_id: Any, **__: Any) -> None:
        """Note the id."""
        self.run_ids.append(str(run_id))


def test_feedback_on_a_run_of_a_model(events: Events) -> None:
    """Where the app sees a text only, its answer is known by the run id of the model."""
    noting = Noting()
    chain = Scripted(rule=says("At nine.")) | StrOutputParser()
    about: Any = {**HANDLED, "callbacks": [HANDLER, noting]}
    chain.invoke("When?", about)
    feedback(noting.run_ids[0], 1)
    _, answer, rating = events
    assert [answer.generation_id] == noting.run_ids
    assert {(one.user_id, one.thread_id, one.generation_id) for one in (answer, rating)} == {
        ("ada", "t-1", noting.run_ids[0])
    }


def test_an_interrupt_out_of_the_root(events: Events) -> None:
    """A root run that ends in an interrupt has not failed: it asks the user."""
    errors: Any = pytest.importorskip("langgraph.errors")
    kinds: Any = pytest.importorskip("langgraph.types")

    def stop(_: Any) -> None:
        say("A thought.")
        raise errors.GraphInterrupt((kinds.Interrupt(value="May I?"),))

    with pytest.raises(errors.GraphInterrupt):
        RunnableLambda(stop).invoke("Do it", HANDLED)
    assert ended(events) == ("Generation", "May I?", "incomplete", "interrupt")


def test_drained(events: Events) -> None:
    """A graph that stops because its process is to end has not come to its answer."""
    errors: Any = pytest.importorskip("langgraph.errors")
    if not hasattr(errors, "GraphDrained"):
        pytest.skip("this LangGraph cannot be drained")

    def stop(_: Any) -> None:
        say("A thought.")
        raise errors.GraphDrained

    with pytest.raises(errors.GraphDrained):
        RunnableLambda(stop).invoke("Do it", HANDLED)
    assert ended(events) == ("Generation", "A thought.", "incomplete", None)


def looks_and_says(given: Iterator[str]) -> Iterator[str]:
    """Call a tool, say something, and break down."""
    for _ in given:
        call()
        yield say("The answer.")
        raise Refused


def test_words_of_a_stream_that_is_left(events: Events) -> None:
    """What the user has read is told, though the model before it only called a tool."""
    stream: Any = RunnableGenerator(looks_and_says).stream("When?", HANDLED)
    next(stream)
    stream.close()
    assert ended(events) == ("Generation", "The answer.", "incomplete", None)


def test_words_of_a_run_that_fails(events: Events) -> None:
    """So it is where the run breaks down after it."""
    with pytest.raises(Refused):
        RunnableGenerator(looks_and_says).invoke("When?", HANDLED)
    assert ended(events) == ("Generation failed", "The answer.", "error", None)


def test_answers_under_two_names(events: Events) -> None:
    """The answer is what this turn wrote, under whichever name; not what is left of the last."""
    names = {"One?": "answer", "Two?": "text"}
    graph = kept_line(
        lambda state: {names[state["question"]]: say(f"To {state['question']}")}, state=State
    )
    for question in names:
        graph.invoke({"question": question}, HANDLED)
    assert answers(events) == ["To One?", "To Two?"]


def test_an_answer_in_the_history(events: Events) -> None:
    """What was answered before the user spoke is no answer to it, though nobody here told it."""
    history = [HumanMessage("One?"), AIMessage("Old."), HumanMessage("Two?")]
    graph = line_of(lambda _: {"final": say("New.")}, state=Talk)
    graph.invoke({"messages": history}, HANDLED)
    assert answers(events) == ["New."]


def test_the_same_answer_beside_a_document(events: Events) -> None:
    """An answer that a model gives once more goes before all that is merely new."""
    graph = kept_line(
        lambda state: {"answer": say("Yes."), "text": f"A document on {state['question']}"},
        state=State,
    )
    for question in ("One?", "Two?"):
        graph.invoke({"question": question}, HANDLED)
    assert answers(events) == ["Yes.", "Yes."]


def test_words_beside_a_structure(events: Events) -> None:
    """Words that the output holds are the answer, though the last model gave a structure."""
    chain: Any = RunnableLambda(lambda _: {"shown": say("Here you are."), "tags": call()})
    chain.invoke("Show it", HANDLED)
    assert answers(events) == ["Here you are."]


def test_a_structure_in_a_state(events: Events) -> None:
    """A state is no answer, and its documents are told to nobody, where no model said a word."""
    graph = line_of(lambda _: {"verdict": call()[0]["args"]}, state=Judged)
    graph.invoke({"question": "Is it fine?", "documents": {"page": "A secret"}}, HANDLED)
    assert answers(events) == [None]


@pytest.mark.parametrize("made", ["words", "a structure"])
def test_a_model_that_failed_beside_the_answer(made: str, events: Events) -> None:
    """A model that raised has answered nothing: the answer is the one's that spoke before it."""

    def act(_: str) -> Any:
        said = say("At nine.")
        with suppress(Refused):
            Scripted(rule=refuses, model="model-2").invoke("What next?")
        return f"{said} (Ask me more.)" if made == "words" else {"note": "No idea what next."}

    RunnableLambda(act).invoke("When?", HANDLED)
    text = "At nine. (Ask me more.)" if made == "words" else "At nine."
    assert ended(events)[:3] == ("Generation", text, "ok")
    assert events[-1].assistant_id == "model-1"


def test_tools_are_told_at_once(events: Events) -> None:
    """A tool of the provider's is told at its model's end, one before any model at its start."""
    seen: list[list[str]] = []

    @tool
    def look(x: str) -> str:
        """Look."""
        return x

    def rule(_: Any) -> AIMessage:
        seen.append([one.event for one in events])
        return AIMessage(
            [{"type": "web_search_call", "id": "ws_1"}, {"type": "text", "text": "So."}]
        )

    def act(asked: str) -> str:
        look.invoke({"x": "1"})
        said = Scripted(rule=rule).invoke(asked)
        seen.append([one.event for one in events])
        return str(said.content)

    RunnableLambda(act).invoke("When?", HANDLED)
    assert seen == [["Prompt", "Tool call"], ["Prompt", "Tool call", "Tool call"]]
