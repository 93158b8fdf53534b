"""Several turns of one conversation: each asks only its new question, whoever keeps the history."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import uuid
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory

from tests.langchain.chains import WORDS, History, model
from tests.langchain.driving import (
    GRAPH,
    IN_NODES,
    STREAMED,
    Mode,
    assert_nothing_left,
    drive,
    generation,
    prompt,
    tokens,
    tool_call,
    turns_told,
)
from tests.langchain.lines import kept_line
from tests.langchain.models import USAGE, Scripted
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    # Deprecated since langchain-core 1.6, and in use everywhere.
    pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated"),
]

Histories = Callable[[str], History]
TURNS = ("Is the tram on time?", "And the train?", "Is the tram on time?")
ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
IN_GRAPHS = [pytest.param(mode, marks=IN_NODES.get(mode, ())) for mode in ALONE]
TWICE: dict[str, Any] = {"model_calls": 2, "tool_calls": 1, **tokens(2)}


def config(**more: Any) -> Any:
    """Return a config with a handler that knows no thread."""
    return {"callbacks": [TrubricsCallbackHandler("ada")], **more}


def asked_of(messages: list[BaseMessage]) -> tuple[int, str]:
    """Return how many questions there were, and the last one."""
    asked = [str(one.content) for one in messages if isinstance(one, HumanMessage)]
    return len(asked), asked[-1]


def answers(messages: list[BaseMessage]) -> AIMessage:
    """Answer with what was asked, and how much of the history there was."""
    count, question = asked_of(messages)
    return AIMessage(f"{question} ({count})", usage_metadata=dict(USAGE))


def looks_up(messages: list[BaseMessage]) -> AIMessage:
    """Call a tool in each turn, and answer with what it found."""
    if isinstance(messages[-1], ToolMessage):
        return answers(messages)
    count, _ = asked_of(messages)
    use = {"name": "weather", "args": {"x": "1"}, "id": f"call-{count}"}
    return AIMessage("", tool_calls=[use], usage_metadata=dict(USAGE))


def streamed(mode: Mode, modes: Any = STREAMED) -> dict[str, Any]:
    """Return what is said of a stream."""
    return {"stream": True} if mode in modes else {}


@pytest.mark.parametrize("mode", IN_GRAPHS)
async def test_checkpointer(mode: Mode, sink: Sink) -> None:
    """A graph that keeps its messages: each turn has its own question, tool, answer and tokens."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain 1.x")
    from langgraph.checkpoint.memory import MemorySaver

    from tests.langchain.chains import weather

    agent = agents.create_agent(Scripted(rule=looks_up), [weather], checkpointer=MemorySaver())
    for text in TURNS:
        given = {"messages": [("user", text)]}
        await drive(mode, agent, given, config(configurable={"thread_id": "t-1"}))
    more = {**GRAPH, **streamed(mode, {"events"})}
    assert turns_told(sink) == [
        [
            prompt(text, **GRAPH),
            tool_call("weather", tool_call_id=f"call-{number}", **GRAPH),
            generation(f"{text} ({number})", **{**more, "$generation_id": "message"}, **TWICE),
        ]
        for number, text in enumerate(TURNS, 1)
    ]
    assert {event["properties"]["$thread_id"] for event in sink.events} == {"t-1"}
    assert_nothing_left()


@pytest.mark.parametrize("mode", IN_GRAPHS)
async def test_checkpointed_state_without_messages(mode: Mode, sink: Sink) -> None:
    """A graph that keeps a state of its own: the answer of the turn before is not told again."""
    pytest.importorskip("langgraph.graph")
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        question: str
        answer: str

    talker = Scripted(rule=answers)
    graph = kept_line(
        lambda state: {"answer": talker.invoke(state["question"]).content}, state=State
    )
    for text in TURNS:
        await drive(mode, graph, {"question": text}, config(configurable={"thread_id": "t-1"}))
    more = {**GRAPH, **streamed(mode, {"events"})}
    assert turns_told(sink) == [
        [prompt(text, **GRAPH), generation(f"{text} (1)", **more)] for text in TURNS
    ]
    assert_nothing_left()


def from_dict(history: Histories) -> Any:
    """Return a chain that is given a dict, and keeps its own history."""
    template = ChatPromptTemplate.from_messages(
        [("system", "Be kind."), MessagesPlaceholder("history"), ("human", "{question}")]
    )
    return RunnableWithMessageHistory(
        template | Scripted(rule=answers),
        history,
        input_messages_key="question",
        history_messages_key="history",
    )


def kindly(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Return the messages below a system prompt."""
    return [SystemMessage("Be kind."), *messages]


def from_messages(history: Histories) -> Any:
    """Return the same for a chain that is given messages."""
    kind: Any = RunnableLambda(kindly)
    return RunnableWithMessageHistory(kind | Scripted(rule=answers), history)


def from_model(history: Histories) -> Any:
    """Return the same for a bare model."""
    return RunnableWithMessageHistory(Scripted(rule=answers), history)


def to_dict(history: Histories) -> Any:
    """Return the same for a chain that answers in a dict."""
    answer = Scripted(rule=answers) | WORDS
    return RunnableWithMessageHistory(
        itemgetter("question") | RunnableParallel(output=answer, aside=lambda _: 1),
        history,
        input_messages_key="question",
        output_messages_key="output",
    )


KEPT: dict[str, tuple[Callable[..., Any], Callable[[str], Any], str]] = {
    "dict": (from_dict, lambda text: {"question": text}, "message"),
    "messages": (from_messages, lambda text: [HumanMessage(text)], "message"),
    "model": (from_model, lambda text: [HumanMessage(text)], "message"),
    "dict, to a dict": (to_dict, lambda text: {"question": text}, "run"),
}


@pytest.mark.parametrize("mode", ALONE)
@pytest.mark.parametrize("name", KEPT)
async def test_history(name: str, mode: Mode, sink: Sink) -> None:
    """`RunnableWithMessageHistory`: each turn asks its own question, in its session's thread."""
    build, given, id_kind = KEPT[name]
    kept: dict[str, History] = {}
    runnable = build(lambda session_id: kept.setdefault(session_id, History()))
    for text in TURNS:
        await drive(mode, runnable, given(text), config(configurable={"session_id": "s-1"}))
    more = {"$generation_id": id_kind, **streamed(mode)}
    assert turns_told(sink) == [
        [prompt(text), generation(f"{text} ({number})", **more)]
        for number, text in enumerate(TURNS, 1)
    ]
    assert {event["properties"]["$thread_id"] for event in sink.events} == {"s-1"}
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["batch", "abatch"])
@pytest.mark.parametrize("name", KEPT)
async def test_sessions_of_a_batch(name: str, mode: Mode, sink: Sink) -> None:
    """Each session of a batch is a conversation of its own, turn by turn."""
    build, given, _ = KEPT[name]
    kept: dict[str, History] = {}
    runnable = build(lambda session_id: kept.setdefault(session_id, History()))
    sessions = ["s-1", "s-2", "s-3"]
    configs = [config(configurable={"session_id": one}) for one in sessions]
    for text in TURNS[:2]:
        result = getattr(runnable, mode)([given(f"{text} {one}") for one in sessions], configs)
        if mode == "abatch":
            await result
    turns_told(sink)
    turns: dict[str, list[tuple[str, str, str]]] = {}
    for event in sink.events:
        told = event["properties"]
        one = (event["event"], told["$thread_id"], told["$text"])
        turns.setdefault(told["$prompt_id"], []).append(one)
    assert sorted(turns.values()) == sorted(
        [("Prompt", one, f"{text} {one}"), ("Generation", one, f"{text} {one} ({number})")]
        for number, text in enumerate(TURNS[:2], 1)
        for one in sessions
    )
    assert_nothing_left()


async def test_many_tools_in_the_history(sink: Sink) -> None:
    """However many tools a turn had, who gets the same short answer has another conversation."""
    handler = {"callbacks": [TrubricsCallbackHandler()]}
    talker = Scripted(rule=lambda _: AIMessage("Done."))
    use = {"name": "weather", "args": {}, "id": "call_1"}
    tools = [AIMessage("", tool_calls=[use]), ToolMessage("dry", tool_call_id="call_1")] * 20
    histories = [[HumanMessage(f"Task {number}"), *tools] for number in range(2)]
    for history in histories:
        await drive("invoke", talker, history[:1], handler)
    for history in histories:
        asked = [*history, AIMessage("Done."), HumanMessage("Next")]
        await drive("invoke", talker, asked, handler)
    threads = [turn[0]["$thread_id"] for turn in turns_told(sink)]
    assert threads[:2] == threads[2:]
    assert threads[0] != threads[1]


@pytest.mark.parametrize("user", ["ada", None], ids=["named", "anonymous"])
@pytest.mark.parametrize("form", ["messages", "pairs"])
async def test_a_history_beside_the_question(form: str, user: str | None, sink: Sink) -> None:
    """A history in the input names the conversation, also where the first model does not get it."""
    told = iter(f"Answer number {number}." for number in range(9))
    sort = ChatPromptTemplate.from_template("Sort: {question}") | model("small talk")
    answer: Any = RunnableLambda(itemgetter("question")) | Scripted(
        rule=lambda messages: AIMessage(next(told))
    )
    chain: Any = RunnablePassthrough.assign(topic=sort) | answer
    handled: Any = {"callbacks": [TrubricsCallbackHandler(user)]}
    histories: list[list[Any]] = [[], []]
    for turn in range(3):
        for number, history in enumerate(histories):
            asked = f"Question {turn} of {number}"
            said = chain.invoke({"question": asked, "chat_history": history}, handled)
            exchange: list[Any] = [HumanMessage(asked), said]
            history.extend(exchange if form == "messages" else [(asked, said.content)])
    prompts = [turn[0] for turn in turns_told(sink)]
    threads = [one["$thread_id"] for one in prompts]
    assert len(threads) == 6
    assert threads == threads[:2] * 3
    assert threads[0] != threads[1]


async def test_openings_alike_that_call_tools(sink: Sink) -> None:
    """Conversations that open alike are told apart by the calls that answered their openings."""
    talks: list[list[Any]] = [
        [
            HumanMessage("Hello"),
            AIMessage("", tool_calls=[{"name": "weather", "args": {}, "id": f"call_{number}"}]),
            ToolMessage("dry", tool_call_id=f"call_{number}"),
        ]
        for number in range(2)
    ]
    calls = iter([talk[1] for talk in talks])
    for talk in talks:
        await drive("invoke", Scripted(rule=lambda _: next(calls)), talk[:1], config())
    for talk in talks:
        await drive("invoke", model(), [*talk, HumanMessage("Next?")], config())
    threads = [turn[0]["$thread_id"] for turn in turns_told(sink)]
    assert threads == threads[:2] * 2
    assert threads[0] != threads[1]


@pytest.mark.parametrize("user", ["ada", None], ids=["named", "anonymous"])
@pytest.mark.parametrize("of", ["a model", "a chain"])
@pytest.mark.parametrize("window", [5, 4, 3, 2])
async def test_conversations_in_the_same_words(
    window: int, of: str, user: str | None, sink: Sink
) -> None:
    """Messages that are the app's own objects have ids, which tell whose they are.

    Also where only the last of them are resent.
    """
    bare = Scripted(rule=lambda _: AIMessage("Certainly."))
    asked: Any = bare if of == "a model" else bare | RunnableLambda(lambda said: said)
    handled: Any = {"callbacks": [TrubricsCallbackHandler(user)]}
    histories: list[list[Any]] = [[], []]
    for text in ("Hi", "Hours?", "Why?"):
        for history in histories:
            history.append(HumanMessage(text))
            history.append(asked.invoke(history[-window:], handled))
        histories.reverse()  # who asked last does not ask next
    threads = [turn[0]["$thread_id"] for turn in turns_told(sink)]
    assert threads == [*threads[:2], *reversed(threads[:2]), *threads[:2]]
    assert threads[0] != threads[1]


async def test_an_unknown_history_twice(sink: Sink) -> None:
    """A history that nobody has seen begin is one conversation, also when it comes again."""
    history = [HumanMessage("Hello"), AIMessage("Hi."), HumanMessage("Trams?")]
    for _ in range(2):
        await drive("invoke", model(), history, config())
    assert {turn[0]["$thread_id"] for turn in turns_told(sink)} == {"thread 1"}


def test_an_empty_history_beside_the_question() -> None:
    """The first question opens the conversation, as its history shows later in another process."""
    stuffed = ChatPromptTemplate.from_template("Context: docs. {input}") | model("One.")
    told: list[Any] = []
    for history in ([], [HumanMessage("Trams?"), AIMessage("One.")]):
        with capture() as events:  # as in a process that has just started
            stuffed.invoke({"input": "Trams?", "chat_history": history}, config())
        told.append(events[0].thread_id)
    assert told[0] == told[1]


async def test_a_history_that_ends_with_another_question(sink: Sink) -> None:
    """What was said before the question is before it, also where nobody has answered that."""
    stuffed = ChatPromptTemplate.from_template("Context: docs. {input}") | model("One.")
    for asked in ("Trams?", "Why?"):
        beside = {"input": asked, "chat_history": [HumanMessage("Are you there?")]}
        await drive("invoke", stuffed, beside, config())
    assert [turn[0]["$thread_id"] for turn in turns_told(sink)] == ["thread 1", "thread 1"]


@pytest.mark.parametrize("beside", [{"chat_history": None}, {"documents": []}], ids=str)
async def test_no_history_beside_the_question(beside: dict[str, Any], sink: Sink) -> None:
    """Where an input has no history, or something else that is empty, the model's messages tell."""
    said = "The tram leaves at nine from the stop behind the station, and every ten minutes then."
    before: list[BaseMessage] = []
    typed: Any = RunnableLambda(itemgetter("input"))
    asks = typed | (lambda text: [*before, HumanMessage(text)]) | model(said)
    await drive("invoke", asks, {"input": "Trams?"}, config())
    before += [HumanMessage("Trams?"), AIMessage(said)]
    await drive("invoke", asks, {"input": "Why?", **beside}, config())
    assert [turn[0]["$thread_id"] for turn in turns_told(sink)] == ["thread 1", "thread 1"]


def test_openings_alike_in_pairs(sink: Sink) -> None:
    """Where an input has its history in pairs, the answers in them tell who opened alike."""
    told = iter(["At nine.", "At ten.", "Yes.", "Yes."])
    rule = lambda _: AIMessage(next(told))  # noqa: E731 - a rule
    chain: Any = RunnableLambda(itemgetter("question")) | Scripted(rule=rule)
    for history in ([], [], [("Hello", "At nine.")], [("Hello", "At ten.")]):
        asked = "Next?" if history else "Hello"
        chain.invoke({"question": asked, "chat_history": history}, config())
    threads = [turn[0]["$thread_id"] for turn in turns_told(sink)]
    assert threads == threads[:2] * 2
    assert threads[0] != threads[1]


def test_a_greeting_beside_the_question() -> None:
    """So does the first question behind a greeting, which is nobody's question."""
    greeting = AIMessage("How can I help?")
    stuffed = ChatPromptTemplate.from_template("Context: docs. {input}") | model("One.")
    told: list[Any] = []
    for history in ([greeting], [greeting, HumanMessage("Trams?"), AIMessage("One.")]):
        with capture() as events:  # as in a process that has just started
            stuffed.invoke({"input": "Trams?", "chat_history": history}, config())
        told.append(events[0].thread_id)
    assert told[0] == told[1]


def test_empty_histories_beside_the_same_question(sink: Sink) -> None:
    """A history that is empty begins a conversation, also where the first words come again."""
    stuffed = ChatPromptTemplate.from_template("Context: docs. {input}") | model("One.")
    for _ in range(2):
        stuffed.invoke({"input": "Trams?", "chat_history": []}, config())
    assert [turn[0]["$thread_id"] for turn in turns_told(sink)] == ["thread 1", "thread 2"]


@pytest.mark.parametrize("user", ["ada", None], ids=["named", "anonymous"])
@pytest.mark.parametrize("before", [[], [AIMessage("How can I help?")]], ids=["alone", "greeting"])
def test_a_question_that_its_history_has(before: list[Any], user: str | None, sink: Sink) -> None:
    """An app may note the question before it asks: two who open alike are two conversations."""
    stuffed = ChatPromptTemplate.from_template("Context: docs. {input}") | model("One.")
    for _ in range(2):
        given = {"input": "Hi", "chat_history": [*before, HumanMessage("Hi")]}
        stuffed.invoke(given, {"callbacks": [TrubricsCallbackHandler(user)]})
    assert [turn[0]["$thread_id"] for turn in turns_told(sink)] == ["thread 1", "thread 2"]


def test_a_prompt_has_the_id_of_its_run() -> None:
    """Also where the history that comes with it names the conversation."""
    messages: list[Any] = []
    with capture() as events:
        for text in TURNS:
            run_id = uuid.uuid4()
            messages.append(("human", text))
            answer = Scripted(rule=answers).invoke(messages, config(run_id=run_id))
            messages.append(("ai", answer.content))
            assert [event.prompt_id for event in events][-2:] == [str(run_id)] * 2
    assert len({event.thread_id for event in events}) == 1
