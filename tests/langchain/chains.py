"""Shapes of apps that langchain-core alone can build, and what each is to be told as."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pydantic
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool

from tests.langchain.driving import (
    IN_FUNCTIONS,
    Mode,
    Shape,
    failed,
    failed_tool,
    generation,
    prompt,
    tokens,
    tool_call,
)
from tests.langchain.models import Completing, Scripted, calls, refuses, says
from trubrics_instrument import TrubricsCallbackHandler, suppress

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION = "Is the tram on time?"
ANSWER = "Yes, it is."
TEMPLATE = ChatPromptTemplate.from_messages(
    [("system", "Answer shortly."), ("human", "The question is: {question}")]
)
STUFFED = ChatPromptTemplate.from_template("Context: {context}\n\nQuestion: {question}")
WORDS = StrOutputParser()
STREAM = {"stream": True}
WHOLE: tuple[Mode, ...] = ("invoke", "ainvoke", "batch", "abatch")
ASKED = prompt(QUESTION)
PAIR = (ASKED, generation(ANSWER, **STREAM))
EVENTS = {"stream": "events"}
UNSTREAMED = (ASKED, generation(ANSWER, **EVENTS))
MESSAGE = {"$generation_id": "message"}
DIRECT = (ASKED, generation(ANSWER, **MESSAGE, **STREAM))
GIVEN = {"question": QUESTION}


class History(BaseChatMessageHistory):
    """What was said so far."""

    def __init__(self) -> None:
        self.messages = []

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Remember more of it."""
        self.messages = [*self.messages, *messages]

    def clear(self) -> None:
        """Forget it."""
        self.messages = []


class Library(BaseRetriever):
    """A retriever that always finds two documents."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(f"About {query}"), Document("Something else")]


@dataclass
class State:
    """A state of an app's own."""

    topic: int
    question: str


class Form(pydantic.BaseModel):
    """The same as a pydantic model."""

    topic: int
    question: str


class Verdict(pydantic.BaseModel):
    """A structured answer."""

    x: str


@tool
def weather(x: str) -> str:
    """Tell the weather."""
    return f"sunny in {x}"


@tool
def broken(x: str) -> str:
    """Fail."""
    raise LookupError(x)


@tool
def asking(x: str) -> str:
    """Ask a model."""
    return str(model("An aside.").invoke(x).content)


def model(text: str = ANSWER, name: str = "model-1", **more: Any) -> Scripted:
    """Return a model that always says this."""
    return Scripted(rule=says(text, **more), model=name)


def chain(text: str = ANSWER) -> Any:
    """Return the chain of every tutorial."""
    return TEMPLATE | model(text) | WORDS


def refusing() -> Scripted:
    """Return a model that raises."""
    return Scripted(rule=refuses)


def with_handlers(runnable: Any, count: int) -> Any:
    """Return a runnable that brings so many handlers of its own along."""
    handlers = [TrubricsCallbackHandler("bob", thread_id="t-2") for _ in range(count)]
    return runnable.with_config(callbacks=handlers)


def with_history() -> Any:
    """Return a chain that keeps its own history."""
    history = History()
    template = ChatPromptTemplate.from_messages(
        [MessagesPlaceholder("history"), ("human", "{question}")]
    )
    return RunnableWithMessageHistory(
        template | model(),
        lambda session_id: history,
        input_messages_key="question",
        history_messages_key="history",
    )


def asked_in_lambda(given: Any) -> str:
    """Ask a model in a function."""
    return str(model().invoke(f"Stuffed: {given}").content)


def asked_with_own_callbacks(given: Any) -> str:
    """Ask a model in a function that names its callbacks, and so forgets its parent."""
    handler = TrubricsCallbackHandler("bob", thread_id="t-2")
    return str(model().invoke(f"Stuffed: {given}", {"callbacks": [handler]}).content)


def quietly(given: Any) -> str:
    """Ask a model that is nobody's business, and then one that is."""
    with suppress():
        model("A title").invoke("Make a title")
        weather.invoke({"x": "Rome"})
    return asked_in_lambda(given)


class Once:
    """The rule of a model that refuses once."""

    def __init__(self) -> None:
        self._refusals = [True]

    def __call__(self, messages: list[BaseMessage]) -> AIMessage:
        """Refuse, or answer."""
        if self._refusals:
            self._refusals.pop()
            refuses(messages)
        return says(ANSWER)(messages)


def broken_parser(_: Any) -> str:
    """Fail."""
    raise KeyError


def _lambda(function: Any) -> Any:
    return RunnableLambda(function)


def run_tools(message: AIMessage) -> list[BaseMessage]:
    """Run the tools that a model calls."""
    tools = {"weather": weather, "asking": asking, "broken": broken}
    return [tools[call["name"]].invoke(call) for call in message.tool_calls]


def agent_loop(*names: str) -> Any:
    """Return an agent made by hand: a model, its tools, the model again."""
    talker = Scripted(rule=calls(*names, then=ANSWER))

    def loop(given: dict[str, Any]) -> AIMessage:
        messages: list[BaseMessage] = [HumanMessage(given["question"])]
        reply = talker.invoke(messages)
        messages += [reply, *run_tools(reply)]
        return talker.invoke(messages)

    return RunnableLambda(loop)


def tool_history() -> list[BaseMessage]:
    """Return a question, a tool call, and the tool's result."""
    use = {"name": "weather", "args": {"x": "Rome"}, "id": "call-elsewhere"}
    return [
        HumanMessage(QUESTION),
        AIMessage("", tool_calls=[use]),
        ToolMessage("sunny", tool_call_id="call-elsewhere"),
    ]


def image_message() -> HumanMessage:
    """Return a question about a picture."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    return HumanMessage([{"type": "text", "text": QUESTION}, picture])


REASONED = [
    {"type": "thinking", "thinking": "Let me see."},
    {"type": "text", "text": "Yes, "},
    {"type": "text", "text": "it is."},
]
TWICE = {"model_calls": 2, **tokens(2)}
USES = {"tool_call_id": "call-weather"}

BARE = (
    Shape("model, a str", model, QUESTION, DIRECT),
    Shape(
        "model, a history",
        model,
        [SystemMessage("Be kind."), ("human", "Hello"), AIMessage("Hi"), HumanMessage(QUESTION)],
        DIRECT,
    ),
    Shape("model, pairs", model, [("system", "Be kind."), ("user", QUESTION)], DIRECT),
    Shape("model, dicts", model, [{"role": "user", "content": QUESTION}], DIRECT),
    Shape(
        "model, a prompt value",
        model,
        TEMPLATE.invoke(GIVEN),
        [prompt(f"The question is: {QUESTION}"), DIRECT[1]],
    ),
    Shape(
        "model, a picture",
        model,
        [image_message()],
        [prompt(QUESTION, attachments="image:1"), DIRECT[1]],
    ),
    Shape(
        "model, no user", model, [SystemMessage("Say hello.")], [prompt("Say hello."), DIRECT[1]]
    ),
    Shape(
        "model, tool calls",
        lambda: Scripted(rule=calls("weather", "asking")),
        QUESTION,
        [
            ASKED,
            tool_call("weather", tool_call_id="call-weather", **tokens(1), **STREAM),
            tool_call("asking", tool_call_id="call-asking", **STREAM),
        ],
    ),
    Shape("model, tool results", model, tool_history(), [DIRECT[1]]),
    Shape(
        "model, a refusal",
        lambda: model("", additional_kwargs={"refusal": "No."}),
        QUESTION,
        [ASKED, generation("No.", **MESSAGE, **STREAM)],
    ),
    Shape("model, reasoning", lambda: model(REASONED), QUESTION, DIRECT),  # type: ignore[arg-type] # parts
    Shape(
        "model, cut short",
        lambda: model(response_metadata={"finish_reason": "length"}),
        QUESTION,
        [
            ASKED,
            generation(ANSWER, status="incomplete", finish_reason="length", **MESSAGE, **STREAM),
        ],
    ),
    Shape(
        "model, its own name for itself",
        lambda: model(response_metadata={"model_name": "model-1-2026", "finish_reason": "stop"}),
        QUESTION,
        [
            ASKED,
            generation(
                ANSWER, response_model="model-1-2026", finish_reason="stop", **MESSAGE, **STREAM
            ),
        ],
    ),
    Shape(
        "model, bound to another name",
        lambda: model().bind(model="model-9"),
        QUESTION,
        [
            prompt(QUESTION, model="model-9"),
            {**DIRECT[1], "model": "model-9", "$assistant_id": "model-9"},
        ],
    ),
    Shape(
        "model, named by the handler",
        model,
        QUESTION,
        [ASKED, {**DIRECT[1], "$assistant_id": "Tram bot"}],
        handler={"assistant_id": "Tram bot"},
    ),
    Shape(
        "model, refuses",
        refusing,
        QUESTION,
        [ASKED, failed()],
        modes=("invoke", "ainvoke", "stream", "astream", "events"),
        raises=Exception,
    ),
    Shape(
        "text model",
        Completing,
        QUESTION,
        [
            prompt(QUESTION, model="text-1", operation="completion"),
            generation(
                "Completed.",
                model="text-1",
                operation="completion",
                **{"$assistant_id": "text-1"},
                **tokens(0),
            ),
        ],
    ),
)

CHAINS = (
    Shape("chain, a message", lambda: TEMPLATE | model(), GIVEN, DIRECT),
    Shape("chain, text", chain, GIVEN, PAIR),
    Shape("chain, a str", lambda: {"question": RunnablePassthrough()} | chain(), QUESTION, PAIR),
    Shape(
        "chain, text model",
        lambda: PromptTemplate.from_template("{question}") | Completing(),
        GIVEN,
        [
            prompt(QUESTION, model="text-1", operation="completion"),
            generation(
                "Completed.",
                model="text-1",
                operation="completion",
                **{"$assistant_id": "text-1"},
                **tokens(0),
            ),
        ],
    ),
    Shape(
        "chain, a message given",
        lambda: _lambda(lambda one: [one]) | model(),
        HumanMessage(QUESTION),
        DIRECT,
    ),
    Shape(
        "chain, messages given",
        lambda: RunnablePassthrough() | model(),
        [SystemMessage("Be kind."), HumanMessage(QUESTION)],
        DIRECT,
    ),
    Shape(
        "chain, messages by key",
        lambda: itemgetter("messages") | model(),
        {"messages": [SystemMessage("Be kind."), ("user", QUESTION)]},
        DIRECT,
    ),
    Shape(
        "chain, a picture",
        lambda: itemgetter("messages") | model(),
        {"messages": [image_message()]},
        [prompt(QUESTION, attachments="image:1"), DIRECT[1]],
    ),
    Shape(
        "chain, history beside the input",
        lambda: (
            ChatPromptTemplate.from_messages(
                [MessagesPlaceholder("chat_history"), ("human", "{input}")]
            )
            | model()
        ),
        {"input": QUESTION, "chat_history": [HumanMessage("Hello"), AIMessage("Hi")]},
        DIRECT,
    ),
    Shape(
        "chain, the only text",
        lambda: ChatPromptTemplate.from_template("About {topic}, {n}") | model(),
        {"topic": QUESTION, "n": 3},
        DIRECT,
    ),
    Shape(
        "chain, keys unknown",
        lambda: ChatPromptTemplate.from_template("{a}, {b}") | model(),
        {"a": "Tram", "b": "time"},
        [prompt("Tram, time"), DIRECT[1]],
    ),
    Shape(
        "chain, a dataclass",
        lambda: (lambda state: state.question) | model(),
        State(1, QUESTION),
        DIRECT,
    ),
    Shape(
        "chain, a pydantic model",
        lambda: (lambda form: form.question) | model(),
        Form(topic=1, question=QUESTION),
        DIRECT,
    ),
    Shape(
        "chain, input_key",
        lambda: STUFFED | model(),
        {"context": QUESTION, "question": "?"},
        DIRECT,
        handler={"input_key": "context"},
    ),
    Shape(
        "chain, input_key is a function",
        lambda: STUFFED | model(),
        {"context": [1], "question": "x"},
        [prompt("1 x"), DIRECT[1]],
        handler={"input_key": lambda given: f"{given['context'][0]} {given['question']}"},
    ),
    Shape(
        "chain, output_key",
        lambda: chain() | (lambda text: {"answer": "?", "mine": text}),
        GIVEN,
        PAIR,
        handler={"output_key": "mine"},
    ),
    Shape(
        "chain, output_key is a function",
        lambda: chain() | (lambda text: [text]),
        GIVEN,
        PAIR,
        handler={"output_key": itemgetter(0)},
    ),
    Shape(
        "RAG, a dict",
        lambda: (
            RunnablePassthrough.assign(context=lambda _: "The tram ...") | STUFFED | model() | WORDS
        ),
        GIVEN,
        PAIR,
    ),
    Shape(
        "RAG, a retriever",
        lambda: (
            {"context": Library(), "question": RunnablePassthrough()} | STUFFED | model() | WORDS
        ),
        QUESTION,
        [ASKED, {**PAIR[1], "documents": 2}],
    ),
    Shape(
        "RAG, answer with sources",
        lambda: RunnableParallel(context=Library(), question=RunnablePassthrough()).assign(
            answer=STUFFED | model() | WORDS
        ),
        QUESTION,
        [ASKED, {**PAIR[1], "documents": 2}],
    ),
    Shape(
        "RAG, the question rewritten",
        lambda: {"question": chain("Tram?")} | chain(),
        GIVEN,
        [ASKED, {**PAIR[1], **TWICE}],
    ),
    Shape(
        "two models at once",
        lambda: RunnableParallel(a=chain("A"), b=chain("A")),
        GIVEN,
        [ASKED, generation("A", **TWICE, **STREAM)],
    ),
    Shape(
        "a summary of two",
        lambda: {"question": RunnableParallel(a=chain("A"), b=chain("B")) | str} | chain(),
        GIVEN,
        [ASKED, generation(ANSWER, model_calls=3, **tokens(3), **STREAM)],
    ),
    Shape(
        "a branch",
        lambda: RunnableBranch((lambda given: "tram" in given["question"], chain()), chain("No.")),
        GIVEN,
        PAIR,
    ),
    Shape("a router", lambda: _lambda(lambda _: chain()), GIVEN, PAIR),
    Shape(
        "a function that asks",
        lambda: RunnableLambda(asked_in_lambda),
        QUESTION,
        UNSTREAMED,
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "a function with callbacks of its own",
        lambda: RunnableLambda(asked_with_own_callbacks),
        QUESTION,
        [ASKED, generation(ANSWER)],
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "each of a list",
        lambda: (
            RunnableLambda(lambda given: [given] * 2) | chain().map() | (lambda texts: texts[0])
        ),
        GIVEN,
        [ASKED, generation(ANSWER, **TWICE)],
        modes=WHOLE,
    ),
    Shape(
        "with history",
        with_history,
        GIVEN,
        DIRECT,
        modes=("invoke", "ainvoke", "stream", "astream", "events"),
        config={"configurable": {"session_id": "s-1"}},
    ),
    Shape(
        "fallback, of a model",
        lambda: refusing().with_fallbacks([model()]),
        QUESTION,
        [ASKED, {**DIRECT[1], "model_calls": 2}],
    ),
    Shape(
        "fallback, in a chain",
        lambda: TEMPLATE | refusing().with_fallbacks([model()]) | WORDS,
        GIVEN,
        [ASKED, {**PAIR[1], "model_calls": 2}],
    ),
    Shape(
        "fallback, of a chain",
        lambda: (TEMPLATE | refusing() | WORDS).with_fallbacks([chain()]),
        GIVEN,
        [ASKED, {**PAIR[1], "model_calls": 2}],
    ),
    Shape(
        "fallback, to words of the app's own",
        lambda: (TEMPLATE | refusing()).with_fallbacks([_lambda(lambda _: "Try later.")]),
        GIVEN,
        [ASKED, generation("Try later.", **tokens(0))],
    ),
    Shape(
        "structured, by a tool call",
        lambda: TEMPLATE | Scripted(rule=calls("verdict")).with_structured_output(Verdict),
        GIVEN,
        [ASKED, generation('{"x": "1"}', **STREAM)],
    ),
    Shape(
        "structured, by JSON",
        lambda: TEMPLATE | model('{"fine": true}') | JsonOutputParser(),
        GIVEN,
        [ASKED, generation('{"fine": true}', **STREAM)],
    ),
    Shape(
        "structured, with an answer",
        lambda: TEMPLATE | model('{"answer": "Yes", "n": 1}') | JsonOutputParser(),
        GIVEN,
        [ASKED, generation("Yes", **STREAM)],
    ),
    Shape(
        "tool calls, left to the app",
        lambda: TEMPLATE | Scripted(rule=calls("weather")),
        GIVEN,
        [ASKED, tool_call("weather", **USES, **tokens(1), **STREAM)],
    ),
    Shape(
        "tool results, brought by the app",
        lambda: RunnablePassthrough() | model(),
        tool_history(),
        [DIRECT[1]],
    ),
    Shape(
        "an agent by hand",
        lambda: agent_loop("weather"),
        GIVEN,
        [
            ASKED,
            tool_call("weather", **USES),
            generation(ANSWER, tool_calls=1, **MESSAGE, **TWICE, **EVENTS),
        ],
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "a tool that asks a model",
        lambda: agent_loop("asking"),
        GIVEN,
        [
            ASKED,
            tool_call("asking", tool_call_id="call-asking"),
            generation(ANSWER, tool_calls=1, model_calls=3, **MESSAGE, **tokens(3), **EVENTS),
        ],
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "a tool that fails",
        lambda: agent_loop("broken"),
        GIVEN,
        [
            ASKED,
            failed_tool("broken"),
            failed("LookupError", **tokens(1)),
        ],
        modes=("invoke", "ainvoke", "stream", "astream"),
        raises=LookupError,
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "a tool, run by the app",
        lambda: asking,
        {"x": QUESTION},
        [ASKED, generation("An aside.")],
        modes=WHOLE,
    ),
    Shape("no model", lambda: TEMPLATE | (lambda _: "Nothing"), GIVEN, ()),
    Shape("no model, but a tool", lambda: weather, {"x": "Rome"}, (), modes=WHOLE),
    Shape("no model, but a retriever", Library, QUESTION, (), modes=WHOLE),
    Shape(
        "two handlers of the whole",
        lambda: with_handlers(chain(), 1),
        GIVEN,
        [{**one, "user_id": "bob"} for one in PAIR],
    ),
    Shape(
        "two handlers of one model",
        lambda: TEMPLATE | with_handlers(model(), 1) | WORDS,
        GIVEN,
        PAIR,
    ),
    Shape("skipped", chain, GIVEN, (), config={"tags": ["trubrics:skip"]}),
    Shape(
        "skipped in part",
        lambda: {"question": chain("A title").with_config(tags=["trubrics:skip"])} | chain(),
        GIVEN,
        PAIR,
    ),
    Shape(
        "suppressed in part",
        lambda: RunnableLambda(quietly),
        QUESTION,
        UNSTREAMED,
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "properties",
        chain,
        GIVEN,
        [{**one, "plan": "pro", "seats": 3} for one in PAIR],
        config={"metadata": {"plan": "pro", "lc_versions": {}, "ls_x": "x", "tags": ["x"]}},
        handler={"properties": {"seats": 3}},
    ),
    Shape(
        "a failing model",
        lambda: TEMPLATE | refusing(),
        GIVEN,
        [ASKED, failed()],
        modes=("invoke", "ainvoke", "stream", "astream"),
        raises=Exception,
    ),
    Shape(
        "a failing parser",
        lambda: TEMPLATE | model("{") | _lambda(broken_parser),
        GIVEN,
        [ASKED, {**failed("KeyError", **tokens(1), **STREAM), "$text": "{"}],
        modes=("invoke", "ainvoke", "stream", "astream"),
        raises=KeyError,
    ),
    Shape(
        "a failing prompt",
        lambda: TEMPLATE | model(),
        {"topic": "x"},
        (),
        modes=("invoke", "ainvoke", "stream", "astream"),
        raises=KeyError,
    ),
    Shape(
        "a retry",
        lambda: TEMPLATE | Scripted(rule=Once()).with_retry(wait_exponential_jitter=False),
        GIVEN,
        [ASKED, {**DIRECT[1], "model_calls": 2, "stream": None}],
        modes=("invoke", "ainvoke"),
    ),
)
