"""The answer of a turn, among all that a root run's output may hold."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool

from tests.langchain.lines import kept_line
from tests.langchain.models import Scripted, calls, says
from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from trubrics_instrument.testing import Events

pytestmark = pytest.mark.usefixtures("events")

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
graphs: Any = pytest.importorskip("langgraph.graph")

HANDLED: Any = {
    "callbacks": [TrubricsCallbackHandler("ada")],
    "configurable": {"thread_id": "t-1"},
}


def model(text: str, **more: Any) -> Scripted:
    """Return a model that says one thing."""
    return Scripted(rule=says(text), **more)


def answers(events: Events) -> list[str | None]:
    """Return the texts of the Generations."""
    return [one.text for one in events.named("Generation")]


class Both(TypedDict, total=False):
    """A state that keeps an answer of one of its nodes, and what was decided."""

    messages: Annotated[list[Any], graphs.add_messages]
    answer: str
    route: str


class Summed(TypedDict, total=False):
    """A state whose question has the name of an answer."""

    text: str
    content: str
    summary: str


class Facts(TypedDict, total=False):
    """A state with documents, and an answer that has no name that we know."""

    question: str
    said: str
    documents: list[str]


def routed() -> Any:
    """Return a graph of which one node writes "answer", another says the same to everybody."""

    def decide(state: Any) -> str:
        return str(model(str(state["messages"][-1].content)).invoke("?").content)

    def facts(state: Any) -> Any:
        said = model("A fact.").invoke(state["messages"])
        return {"answer": said.content, "messages": [said]}

    builder = graphs.StateGraph(Both)
    builder.add_node("decide", lambda state: {"route": decide(state)})
    builder.add_node("facts", facts)
    builder.add_node("login", lambda _: {"messages": [AIMessage("Log in first.")]})
    builder.add_node("chat", lambda _: {"messages": [model("A chat.").invoke("?")]})
    builder.add_edge(graphs.START, "decide")
    builder.add_conditional_edges(
        "decide", lambda state: state["route"], ["facts", "login", "chat"]
    )
    return builder.compile(checkpointer=memory.MemorySaver())


def test_answers_of_earlier_turns(events: Events) -> None:
    """What the state has of an earlier turn is no answer, however long ago that was."""
    graph = routed()
    asked = ("facts", "chat", "login", "facts", "login", "login")
    for one in asked:
        graph.invoke({"messages": [("user", one)]}, HANDLED)
    assert answers(events) == [
        *("A fact.", "A chat.", "Log in first.", "A fact."),
        *("Log in first.", "Log in first."),
    ]


def test_the_same_words_of_the_apps(events: Events) -> None:
    """What the app makes of its model's words is the answer, however often it is the same."""
    chain: Any = RunnableLambda(str) | model("yes") | (lambda _: "Done.")
    for one in ("Again?", "And again?", "Done."):
        chain.invoke(one, HANDLED)
    assert answers(events)[:2] == ["Done.", "Done."]


@pytest.mark.parametrize("graded", ["by a tool", "in JSON"])
def test_a_state_with_documents(graded: str, events: Events) -> None:
    """The answer is what a model has said and the state holds, never the whole state."""

    def say(state: Facts) -> Any:
        return {"said": model("At nine.", model="writer").invoke(str(state)).content}

    def grade(_: Facts) -> str:
        rule = calls("grade") if graded == "by a tool" else says('{"score": "yes"}')
        Scripted(rule=rule, model="grader").invoke("Good?")
        return "end"

    builder = graphs.StateGraph(Facts)
    builder.add_node("retrieve", lambda _: {"documents": ["a secret"]})
    builder.add_node("say", say)
    builder.add_edge(graphs.START, "retrieve")
    builder.add_edge("retrieve", "say")
    builder.add_conditional_edges("say", grade, {"end": graphs.END})
    builder.compile().invoke({"question": "When?"}, HANDLED)
    told = events.one("Generation")
    assert (told.text, told.assistant_id) == ("At nine.", "writer")


def test_a_worker_that_reports_as_a_human(events: Events) -> None:
    """A team's answer may be a message of a worker's, which its router takes for a human's."""

    def work(state: Any) -> Any:
        said = model("At nine.").invoke(state["messages"])
        return {"messages": [HumanMessage(str(said.content), name="worker")]}

    def end(state: Any) -> Any:
        Scripted(rule=calls("route")).invoke(state["messages"])
        return {"messages": []}

    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("work", work)
    builder.add_node("end", end)
    builder.add_edge(graphs.START, "work")
    builder.add_edge("work", "end")
    builder.compile().invoke({"messages": [("user", "When?")]}, HANDLED)
    assert answers(events) == ["At nine."]


@pytest.mark.parametrize("key", ["text", "content"])
@pytest.mark.parametrize("kind", ["graph", "chain"])
def test_the_question_in_the_output(kind: str, key: str, events: Events) -> None:
    """The question, still there under a name that answers have too, is none."""
    summing = ChatPromptTemplate.from_template("Sum up {" + key + "}") | model("A summary.")
    if kind == "chain":
        RunnablePassthrough.assign(summary=summing).invoke({key: "Long words"}, HANDLED)
    else:
        state: Any = Summed
        builder = graphs.StateGraph(state)
        builder.add_node("sum", lambda given: {"summary": summing.invoke(given).content})
        builder.add_edge(graphs.START, "sum")
        builder.compile().invoke({key: "Long words"}, HANDLED)
    assert answers(events) == ["A summary."]


def repr_of(value: object) -> str:
    """Return a name of a case."""
    return type(value).__name__


@dataclass
class Held:
    """An output that nobody can write down."""

    lock: Any = field(default_factory=threading.Lock)


@pytest.mark.parametrize("output", [Held(), Held, {("a", "b"): 1}, {"held": Held()}], ids=repr_of)
def test_an_output_that_is_no_json(output: Any, events: Events) -> None:
    """A prompt is followed by an end, whatever comes out."""

    def answer(asked: str) -> Any:
        Scripted(rule=calls("grade")).invoke(asked)
        return output

    RunnableLambda(answer).invoke("When?", HANDLED)
    assert [one.event for one in events] == ["Prompt", "Generation"]


def said_and_called() -> Any:
    """Return a rule: words and a tool call in one message, then the answer."""

    def rule(messages: list[Any]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return says("It is sunny.")(messages)
        call = {"name": "weather", "args": {}, "id": "call-1"}
        return AIMessage("Let me look.", tool_calls=[call])

    return rule


def test_words_and_a_tool_call(events: Events) -> None:
    """A model may say something and call a tool, which the app runs: one prompt all the same."""
    chain = RunnableLambda(itemgetter("messages")) | Scripted(rule=said_and_called())
    asked: list[Any] = [HumanMessage("Weather?")]
    asked.append(chain.invoke({"messages": asked}, HANDLED))
    asked.append(ToolMessage("sun", tool_call_id="call-1"))
    chain.invoke({"messages": asked}, HANDLED)
    told = [(one.event, one.text) for one in events]
    assert told == [
        ("Prompt", "Weather?"),
        ("Generation", "Let me look."),
        ("Tool call", None),
        ("Generation", "It is sunny."),
    ]
    assert len({one.prompt_id for one in events}) == 1


def test_a_tool_that_ran_already(events: Events) -> None:
    """A tool that ran in the turn is told once, though the last message has still its call."""

    @tool
    def weather() -> str:
        """Tell the weather."""
        return "sun"

    def run(state: Any) -> Any:
        call: Any = state["messages"][-1].tool_calls[0]
        weather.invoke({**call, "type": "tool_call"})
        return {"messages": []}

    builder = graphs.StateGraph(graphs.MessagesState)
    scripted = Scripted(rule=said_and_called())
    builder.add_node("ask", lambda state: {"messages": [scripted.invoke(state["messages"])]})
    builder.add_node("run", run)
    builder.add_edge(graphs.START, "ask")
    builder.add_edge("ask", "run")
    builder.compile().invoke({"messages": [("user", "Weather?")]}, HANDLED)
    assert [one.event for one in events] == ["Prompt", "Tool call", "Generation"]


def test_a_stream_that_ends_in_nothing(events: Events) -> None:
    """A stream that is read to its end is no stream that was left, though nothing comes out."""
    chain: Any = RunnableLambda(lambda _: "When?") | model("At nine.") | (lambda _: None)
    assert list(chain.stream("When?", HANDLED)) == [None]
    assert events.one("Generation").get("status") == "ok"


def test_a_picture_in_an_answer(events: Events) -> None:
    """A picture is counted in a chain's answer as in a model's."""
    picture = {"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}}

    def rule(_: Any) -> AIMessage:
        return AIMessage([{"type": "text", "text": "Here:"}, picture])

    (RunnableLambda(lambda given: given) | Scripted(rule=rule)).invoke("A cat!", HANDLED)
    told = events.one("Generation")
    assert (told.text, told.get("attachments")) == ("Here:", "image:1")


def test_any_key_in_the_metadata(events: Events) -> None:
    """A key that is no str silences nothing."""
    metadata: dict[Any, Any] = {1: "one", "plan": "b"}
    config: Any = {**HANDLED, "metadata": metadata}
    (RunnableLambda(lambda one: one) | model("Yes.")).invoke("On time?", config)
    assert answers(events) == ["Yes."]
    assert events.one("Prompt").get("plan") == "b"


def test_answers_that_the_app_gives_again(events: Events) -> None:
    """Of answers that were told before, all still in the state, the answer is the latest."""
    canned = {"Open?": {"answer": "At 7."}, "Closed?": {"text": "At 9."}}

    def answer(state: Any) -> Any:
        model("A topic.").invoke("Sort it")
        return canned[state["question"]]

    kept = kept_line(answer, state=Canned)
    for asked in ("Open?", "Closed?", "Closed?"):
        kept.invoke({"question": asked}, HANDLED)
    assert answers(events) == ["At 7.", "At 9.", "At 9."]


class Canned(TypedDict, total=False):
    """A state whose answers have several names."""

    question: str
    answer: str
    text: str


def test_a_worker_that_reports_in_a_list(events: Events) -> None:
    """The same where a chain returns the messages themselves."""

    def work(asked: str) -> list[HumanMessage]:
        said = HumanMessage(str(model("At nine.").invoke(asked).content), name="worker")
        Scripted(rule=calls("route")).invoke([said])
        return [said]

    RunnableLambda(work).invoke("When?", HANDLED)
    assert answers(events) == ["At nine."]
