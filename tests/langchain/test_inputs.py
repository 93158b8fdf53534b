"""What a run is given, and what it returns, may be of any kind and have many names."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import RunnableLambda

from tests.langchain.chains import ANSWER, GIVEN, QUESTION, TEMPLATE, WORDS, chain, model
from tests.langchain.driving import config, drive, turns_told
from tests.langchain.models import Scripted
from trubrics_instrument._base import shield
from trubrics_instrument._conversations.trail import NO_HISTORY
from trubrics_instrument.langchain.question import question_of
from trubrics_instrument.langchain.reply import Known, reply_of
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

QUESTION_KEYS = (
    *("input", "question", "query", "prompt", "user_input", "human_input", "message", "text"),
    "messages",
)
ANSWER_KEYS = (
    *("output", "answer", "result", "response", "text", "content"),
    *("reply", "generation", "completion", "final_answer", "messages"),
)
BESIDE = {"a": "Nothing", "b": "of interest"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}}


def texts(sink: Sink) -> list[list[str]]:
    """Return the texts of each turn, and the assistant of its answer."""
    return [[turn[0]["$text"], turn[-1]["$text"]] for turn in turns_told(sink)]


@pytest.mark.parametrize("name", QUESTION_KEYS)
async def test_each_name_of_a_question(name: str, sink: Sink) -> None:
    """The question is found by each of its usual names, whatever stands beside it."""
    value: Any = [HumanMessage("Hello"), AIMessage("Hi"), HumanMessage(QUESTION)]
    given = {**BESIDE, name: value if name == "messages" else QUESTION}
    await drive("invoke", RunnableLambda(itemgetter(name)) | model(), given, config())
    assert texts(sink) == [[QUESTION, ANSWER]]


@pytest.mark.parametrize("name", ANSWER_KEYS)
async def test_each_name_of_an_answer(name: str, sink: Sink) -> None:
    """The answer is found by each of its usual names, whatever stands beside it."""

    def returned(text: str) -> dict[str, Any]:
        own = f"{text} Truly."
        return {**BESIDE, name: [HumanMessage("?"), AIMessage(own)] if name == "messages" else own}

    await drive("invoke", chain() | returned, GIVEN, config())
    assert texts(sink) == [[QUESTION, f"{ANSWER} Truly."]]


@pytest.mark.parametrize("count", range(1, len(QUESTION_KEYS)))
def test_first_name_of_a_question(count: int) -> None:
    """Of several usual names the one that stands first in the list is the question's."""
    names = QUESTION_KEYS[-count - 1 :]
    question = question_of({name: f"by {name}" for name in reversed(names)})
    assert question is not None
    assert question.text == f"by {names[0]}"


@pytest.mark.parametrize("count", range(1, len(ANSWER_KEYS)))
def test_first_name_of_an_answer(count: int) -> None:
    """The same for an answer."""
    names = ANSWER_KEYS[-count - 1 :]
    reply = reply_of({name: f"by {name}" for name in reversed(names)}, Known())
    assert reply is not None
    assert reply.text == f"by {names[0]}"


@pytest.mark.parametrize("beside", [{}, {"type": "page"}, {"type": ["page"]}, {"type": None}])
def test_a_content_is_no_message(beside: dict[str, Any]) -> None:
    """A state with a content, of a page perhaps, is no message because of it."""
    state = {**beside, "content": "A page", "answer": ANSWER, "question": QUESTION}
    question, reply = question_of(state), reply_of(state, Known())
    assert question is not None
    assert reply is not None
    assert (question.text, reply.text) == (QUESTION, ANSWER)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": ANSWER},
        {"type": "ai", "content": ANSWER},
        ("ai", ANSWER),
        ["ai", ANSWER],  # as JSON has a pair
        AIMessage(ANSWER),
    ],
)
def test_a_message_in_any_form(message: Any) -> None:
    """A message is an answer, alone and at the end of others, in every form that there is."""
    for given in (message, [HumanMessage(QUESTION), message], {"messages": [message]}):
        reply = reply_of(given, Known())
        assert reply is not None
        assert reply.text == ANSWER


async def test_no_name_of_an_answer(sink: Sink) -> None:
    """Where the output does not tell, the last model's answer is the answer."""
    await drive("invoke", chain() | (lambda _: {**BESIDE}), GIVEN, config())
    assert texts(sink) == [[QUESTION, ANSWER]]


@pytest.mark.parametrize("first", [True, False])
async def test_the_assistant_is_who_answered(first: bool, sink: Sink) -> None:
    """Of two models, the assistant is the one whose words the answer is."""
    two = TEMPLATE | {"one": model("One."), "two": model("Two.", name="model-2")}
    pick = "one" if first else "two"
    await drive("invoke", two | (lambda both: both[pick]) | WORDS, GIVEN, config())
    [[_, answered]] = turns_told(sink)
    told = (answered["$text"], answered["$assistant_id"], answered["model"])
    assert told == (("One.", "model-1", "model-1") if first else ("Two.", "model-2", "model-2"))


@pytest.mark.parametrize("wrong", ["nowhere", lambda given: given["nowhere"]])
async def test_a_key_that_is_not_there(wrong: Any, sink: Sink) -> None:
    """A key that names nothing, or raises, leaves the question to the model and the answer too."""
    shield.set_strict(strict=False)
    await drive("invoke", chain(), GIVEN, config(input_key=wrong, output_key=wrong))
    assert texts(sink) == [[f"The question is: {QUESTION}", ANSWER]]


@dataclass
class State:
    """A graph's state, as a dataclass."""

    question: str
    hits: int = 0


@dataclass
class Slotted:
    """The same with slots, as LangGraph's own values are: `vars()` of it raises."""

    __slots__ = ("hits", "question")
    question: str
    hits: int


@pytest.mark.parametrize("given", [State("When?"), Slotted("When?", 0), {"a": Slotted("When?", 0)}])
def test_a_dataclass_is_read_by_its_fields_with_slots_and_without(given: object) -> None:
    """What the user typed is found in each; a value that says nothing is no fault."""
    question = question_of(given)
    expected = None if isinstance(given, dict) else "When?"
    assert (question.text if question else None) == expected


class Sound:
    """What an array of numbers is: it refuses to say whether it is equal to anything, or true."""

    def __eq__(self, _: object) -> Any:
        return Sound()

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous.")

    __hash__ = None  # type: ignore[assignment] # as an array has it


@pytest.mark.parametrize("given", [Sound(), {"input": Sound()}, {"input": Sound(), "x": ""}])
async def test_an_array_is_given(given: Any, sink: Sink) -> None:
    """A run that is given an array, as a bot is that listens, is one turn all the same."""
    heard: Any = RunnableLambda(lambda _: QUESTION) | model("Mid.") | WORDS | model()
    await drive("invoke", heard, given, config())
    assert texts(sink) == [[QUESTION, ANSWER]]
    assert sink.events[-1]["properties"]["model_calls"] == 2
    assert not shield.faults()


@pytest.mark.parametrize("name", ["structured_response", "parsed"])
def test_an_array_beside_an_answer(name: str) -> None:
    """An array is told as what it is, and no fault of ours."""
    reply = reply_of({"answer": ANSWER, name: Sound()}, Known())
    assert reply is not None
    assert not shield.faults()


async def test_nothing_is_given(sink: Sink) -> None:
    """A chain that is given nothing has the question that it asks itself: only graphs go on."""
    joke: Any = RunnableLambda(lambda _: "Tell me a joke") | model()
    await drive("invoke", joke, None, config())
    assert texts(sink) == [["Tell me a joke", ANSWER]]


@pytest.mark.parametrize(
    "pair", [(ANSWER, ["of", "sources"]), (ANSWER, "session-1"), ("Title", "A page")]
)
async def test_a_pair_that_is_no_message(pair: Any, sink: Sink) -> None:
    """A pair is a message if it names who speaks, and no other: not a text with its sources."""
    pages = [("Home", "All of a page"), pair]
    asked: Any = RunnableLambda(lambda _: QUESTION) | model()
    await drive("invoke", asked | (lambda _: pair), pages, config())
    await drive("invoke", asked, [pages[0]], config())
    assert texts(sink) == [[QUESTION, ANSWER]] * 2


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_pair_that_nobody_says(role: str) -> None:
    """What is no question may stand behind one."""
    question = question_of([("user", QUESTION), (role, "Be brief.")])
    assert question is not None
    assert question.text == QUESTION


def test_the_only_text_of_what_has_a_name() -> None:
    """What a key of ours holds is looked into, but no text is guessed there before other keys."""
    beside = {"input": {"user": "u1"}, "messages": [("user", QUESTION)]}
    inside = {"input": {"question": QUESTION, "user": "u1"}}
    alone = {"input": {"words": QUESTION}}
    own = {"input": {"user": 1}, "words": QUESTION}
    found = [question_of(given) for given in (beside, inside, alone, own)]
    assert [one.text for one in found if one] == [QUESTION] * 4


def test_a_history_of_another_kind() -> None:
    """What is called a history, but holds no pairs of texts, does not hide the question."""
    question = question_of({"input": QUESTION, "chat_history": [("a", "b", "c")]})
    assert question is not None
    assert (question.text, question.history) == (QUESTION, NO_HISTORY)


@pytest.mark.parametrize(
    "given",
    [
        HumanMessage([{"type": "text", "text": QUESTION}, PICTURE]),
        {"role": "user", "content": [{"type": "text", "text": QUESTION}, PICTURE]},
    ],
    ids=["object", "dict"],
)
def test_a_message_alone(given: Any) -> None:
    """A run may be given one message: its words are the question, and its picture is counted."""
    question = question_of(given)
    assert question is not None
    assert (question.text, question.attachments) == (QUESTION, "image:1")


def test_a_question_beside_an_empty_text() -> None:
    """A question is told before its answer, though an empty text stands first in the input."""
    seen: list[str | None] = []

    def rule(_: Any) -> AIMessage:
        seen.extend(one.text for one in events)
        return AIMessage(ANSWER)

    asked: Any = RunnableLambda(itemgetter("question")) | Scripted(rule=rule)
    with capture() as events:
        asked.invoke({"input": "", "question": QUESTION}, config())
    assert seen == [QUESTION]


def test_what_there_is_besides_text() -> None:
    """Each kind of what is shown beside a question is counted, however much there is of it."""
    page = {"type": "file", "file": {"file_id": "file-1"}}
    question = question_of(HumanMessage([PICTURE, page, PICTURE, {"type": "text", "text": "?"}]))
    assert question is not None
    assert (question.text, question.attachments) == ("?", "file:1,image:2")


def test_a_history_in_a_prompt() -> None:
    """A history beside the question may be what a template has made of it."""
    before = ChatPromptValue(messages=[HumanMessage("Hello"), AIMessage("Hi.")])
    question = question_of({"question": QUESTION, "before": before})
    assert question is not None
    assert (question.text, question.history.tail) == (QUESTION, ("Hello", "Hi."))


@pytest.mark.parametrize(("speaker", "is_question"), [("user", True), ("Moderator", False)])
def test_a_message_of_any_speaker(speaker: str, is_question: bool) -> None:
    """A message that names who speaks is the user's where that is the user."""
    messages = [HumanMessage("Hello"), ChatMessage(content=QUESTION, role=speaker)]
    question = question_of(messages)
    assert question is not None
    assert question.text == (QUESTION if is_question else "Hello")


def test_messages_of_nobody() -> None:
    """Where neither the user nor a model speaks, there is no answer."""
    assert reply_of([SystemMessage("Be kind.")], Known()) is None


def test_a_pair_with_a_picture() -> None:
    """What a pair says may be in parts, as in a message."""
    question = question_of([("user", [{"type": "text", "text": QUESTION}, PICTURE])])
    assert question is not None
    assert (question.text, question.attachments) == (QUESTION, "image:1")
