"""With the OpenAI patch on as well, each question is told once, and none is lost."""

# LangChain's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langchain_openai")

import openai
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI
from openai_wire import (
    Answer,
    ToolCall,
    chat_chunks,
    chat_completion,
    completion,
    completion_chunks,
)
from responses_wire import response_events, response_object

from tests.langchain.driving import (
    IN_FUNCTIONS,
    LOST_IN_FUNCTIONS,
    LOST_IN_NODES,
    MODES,
    Mode,
    assert_nothing_left,
    close,
    drive,
    turns_told,
)
from tests.replies import chat_stream, json_reply, response_stream
from tests.told import told
from trubrics_instrument import TrubricsCallbackHandler, _runtime, patch_langchain, patch_openai

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.loopback import Loopback, Request
    from tests.replies import Reply
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ANSWER = "Yes, it is."
TEMPLATE = ChatPromptTemplate.from_template("The question is: {question}")


def reply(request: Request) -> Reply:
    """Answer each endpoint, whole or streamed."""
    streamed = request.json.get("stream")
    if request.path.endswith("/responses"):
        if streamed:
            return response_stream(response_events(ANSWER))
        return json_reply(response_object(ANSWER))
    if request.path.endswith("/chat/completions"):
        if streamed:
            return chat_stream(chat_chunks(ANSWER))
        return json_reply(chat_completion(ANSWER))
    if streamed:
        return chat_stream(completion_chunks(ANSWER))
    prompts = request.json["prompt"]
    more = [ANSWER] * (len(prompts) - 1) if isinstance(prompts, list) else []
    return json_reply(completion(Answer(ANSWER, more=tuple(more))))


@pytest.fixture
async def world(server: Loopback, sink: Sink) -> AsyncIterator[World]:
    """Give the models and clients of one app, with the OpenAI patch on."""
    server.always(reply)
    patch_openai(user_id="ada", thread_id="t-1")
    world = World(server)
    yield world
    await world.close()


class World:
    """Models, clients and a handler that share one server."""

    def __init__(self, server: Loopback) -> None:
        self.options: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "k",
            "max_retries": 0,
        }
        self.url = server.url
        self.server_always = server.always
        self.handler = TrubricsCallbackHandler("ada", thread_id="t-1")
        self.config: Any = {"callbacks": [self.handler]}
        self.client = openai.OpenAI(**self.options)
        self._models: list[Any] = []
        self.llm = self.model()

    async def close(self) -> None:
        """Close the clients, also those that LangChain leaves open."""
        self.client.close()
        for model in self._models:
            await close(model)

    def model(self, kind: Any = ChatOpenAI, model: str = "gpt-4o", **more: Any) -> Any:
        """Return a chat model of the server."""
        self._models.append(kind(model=model, **self.options, **more))
        return self._models[-1]

    def azure(self) -> Any:
        """Return the same on Azure."""
        model = AzureChatOpenAI(
            azure_endpoint=self.url,
            azure_deployment="gpt-4o",
            api_version="2024-10-21",
            api_key="k",  # type: ignore[arg-type] # pydantic makes a secret of it
            max_retries=0,
        )
        self._models.append(model)
        return model

    def ask(self, text: str) -> str:
        """Ask the client directly, with no LangChain in between."""
        message: Any = {"role": "user", "content": text}
        answer = self.client.chat.completions.create(model="gpt-4o", messages=[message])
        return str(answer.choices[0].message.content)

    async def ask_async(self, text: str) -> str:
        """Do the same asynchronously."""
        message: Any = {"role": "user", "content": text}
        async with openai.AsyncOpenAI(**self.options) as client:
            answer = await client.chat.completions.create(model="gpt-4o", messages=[message])
        return str(answer.choices[0].message.content)


class OwnModel(BaseChatModel):
    """A chat model of the app's own, which knows no run manager and no asynchronous way."""

    ask: Any

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        del run_manager
        text = self.ask(messages[-1].content)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        del run_manager
        text = self.ask(messages[-1].content)
        yield ChatGenerationChunk(message=AIMessageChunk(content=text))


SEEN_ONCE: dict[str, Callable[[World], Any]] = {
    "chat": lambda world: world.llm,
    "chat, usage streamed": lambda world: world.model(stream_usage=True),
    "responses": lambda world: world.model(use_responses_api=True),
    "azure": lambda world: world.azure(),
    "completions": lambda world: world.model(OpenAI, "gpt-3.5-turbo-instruct"),
    "chain": lambda world: TEMPLATE | world.llm | StrOutputParser(),
    "function": lambda world: RunnableLambda(lambda text: world.llm.invoke(text).content),
    "own model": lambda world: OwnModel(ask=world.ask),
    "fallback": lambda world: RunnableLambda(_refuse).with_fallbacks([world.llm]),
}
if "use_responses_api" not in ChatOpenAI.model_fields:  # langchain-openai before 0.3.9
    del SEEN_ONCE["responses"]


def _refuse(_: Any) -> Any:
    raise ValueError


ONCE = [
    pytest.param(name, mode, marks=IN_FUNCTIONS.get(mode, ()) if name == "function" else ())
    for name in SEEN_ONCE
    for mode in MODES
]


@pytest.mark.parametrize(("name", "mode"), ONCE)
async def test_once(name: str, mode: Mode, world: World, sink: Sink) -> None:
    """What a handler sees, the patch of the client leaves to it, however it is asked."""
    given = {"question": "On time?"} if name == "chain" else "On time?"
    await drive(mode, SEEN_ONCE[name](world), given, world.config)
    turns = turns_told(sink)
    assert len(turns) == (3 if "batch" in mode else 1)
    for turn in turns:
        assert [one["event"] for one in turn] == ["Prompt", "Generation"]
        assert [one["$text"] for one in turn] == ["On time?", ANSWER]
        assert {one["framework"] for one in turn} == {"langchain"}
    assert_nothing_left()


def told_by(sink: Sink) -> list[tuple[str, str]]:
    """Return who told of which prompt."""
    turns = turns_told(sink)
    assert all([one["event"] for one in turn] == ["Prompt", "Generation"] for turn in turns)
    return sorted((turn[0]["framework"], turn[0]["$text"]) for turn in turns)


async def test_unobserved_run(world: World, sink: Sink) -> None:
    """A LangChain run without a handler is told by the patch."""
    world.llm.invoke("One")
    await world.llm.ainvoke("Two")
    assert told_by(sink) == [("openai", "One"), ("openai", "Two")]


async def test_beside_a_stream(world: World, sink: Sink) -> None:
    """A direct call in the body of a stream's loop is told as well."""
    for index, _ in enumerate(world.llm.stream("A stream", world.config)):
        if index < 2:
            world.ask(f"Sync {index}")
    index = 0
    async for _ in world.llm.astream("Another", world.config):
        if index < 2:
            await world.ask_async(f"Async {index}")
        index += 1
    assert told_by(sink) == [
        ("langchain", "A stream"),
        ("langchain", "Another"),
        *(("openai", f"{kind} {index}") for kind in ("Async", "Sync") for index in range(2)),
    ]


async def test_while_a_stream_is_open(world: World, sink: Sink) -> None:
    """A direct call, and one through a model that nobody observes, while a stream stays open."""
    stream = world.llm.stream("A stream", world.config)
    next(stream)
    world.ask("Direct")
    world.model().invoke("Unobserved")
    list(stream)
    assert told_by(sink) == [
        ("langchain", "A stream"),
        ("openai", "Direct"),
        ("openai", "Unobserved"),
    ]


@LOST_IN_FUNCTIONS
async def test_inside_a_run(world: World, sink: Sink) -> None:
    """A direct call in a step of a run is told as well, and so is the run."""

    def step(text: str) -> Any:
        world.ask(f"Direct {text}")
        return world.llm.invoke(text).content

    async def step_async(text: str) -> Any:
        await world.ask_async(f"Direct {text}")
        return (await world.llm.ainvoke(text)).content

    runnable = RunnableLambda(step, afunc=step_async)
    runnable.invoke("one", world.config)
    await runnable.ainvoke("two", world.config)
    assert told_by(sink) == [
        ("langchain", "one"),
        ("langchain", "two"),
        ("openai", "Direct one"),
        ("openai", "Direct two"),
    ]


async def test_inside_another_handler(world: World, sink: Sink) -> None:
    """A direct call that somebody else's handler makes during a run is told as well."""

    class Judge(BaseCallbackHandler):
        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            world.ask("Is this polite?")

        def on_llm_end(self, *_: Any, **__: Any) -> None:
            world.ask("Is this true?")

    world.llm.invoke("On time?", {"callbacks": [world.handler, Judge()]})
    assert told_by(sink) == [
        ("langchain", "On time?"),
        ("openai", "Is this polite?"),
        ("openai", "Is this true?"),
    ]


async def test_inside_another_handler_of_a_stream(world: World, sink: Sink) -> None:
    """So is one that it makes while the model's own code streams the answer."""

    class Judge(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            if not self.seen:
                world.ask("Is this polite?")
            self.seen.append(token)

        def on_llm_end(self, *_: Any, **__: Any) -> None:
            world.ask("Is this true?")

    judge = Judge()
    list(world.llm.stream("On time?", {"callbacks": [world.handler, judge]}))
    assert "".join(judge.seen) == ANSWER
    assert told_by(sink) == [
        ("langchain", "On time?"),
        ("openai", "Is this polite?"),
        ("openai", "Is this true?"),
    ]


async def test_skipped(world: World, sink: Sink) -> None:
    """A run that is to be skipped is left alone by the patch too."""
    config = {**world.config, "tags": ["trubrics:skip"]}
    world.llm.invoke("A title", config)
    await world.llm.ainvoke("A title", config)
    list(world.llm.stream("A title", config))
    assert told_by(sink) == []
    assert_nothing_left()


async def test_parallel(world: World, sink: Sink) -> None:
    """Steps that ask at once are told as the one turn that they are."""
    runnable = RunnableParallel(a=world.llm, b=world.llm, c=world.llm)
    runnable.invoke("one", world.config)
    await runnable.ainvoke("two", world.config)
    assert told_by(sink) == [("langchain", "one"), ("langchain", "two")]


async def test_race(world: World, sink: Sink) -> None:
    """Observed and unobserved runs at the same time are told each by whoever sees them."""
    other = world.model()

    def ask(number: int) -> None:
        observed = number % 2 == 0
        (world.llm if observed else other).invoke(
            f"{number:02}", world.config if observed else None
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(20)))
    await asyncio.gather(
        *(
            world.llm.ainvoke(f"{number:02}", world.config if number % 2 == 0 else None)
            for number in range(20, 40)
        )
    )
    assert told_by(sink) == [
        *(("langchain", f"{number:02}") for number in range(0, 40, 2)),
        *(("openai", f"{number:02}") for number in range(1, 40, 2)),
    ]
    assert_nothing_left()


async def test_both_patches(world: World, sink: Sink) -> None:
    """With both patches on, and no callbacks anywhere, each question is told once."""
    with patch_langchain("ada", thread_id="t-1"):
        world.llm.invoke("One")
        await (TEMPLATE | world.llm).ainvoke({"question": "Two"})
        list(world.llm.stream("Three"))
        world.ask("Four")
    assert told_by(sink) == [
        ("langchain", "One"),
        ("langchain", "Three"),
        ("langchain", "Two"),
        ("openai", "Four"),
    ]


@LOST_IN_NODES
async def test_agent(world: World, sink: Sink) -> None:
    """An agent's model, and a tool that asks the client directly."""
    agents = pytest.importorskip("langchain.agents")
    from langchain_core.tools import tool

    @tool
    def look_up(x: str) -> str:
        """Look it up."""
        return world.ask(f"Direct {x}")

    calls = Answer(tool_calls=(ToolCall("look_up", '{"x": "it"}', "call_1"),))
    agent = agents.create_agent(world.llm, [look_up])

    def script(request: Request) -> Reply:
        asks = request.json["messages"][-1]
        if asks["role"] == "user" and "tools" in request.json:
            return json_reply(chat_completion(calls))
        return json_reply(chat_completion(ANSWER))

    world.server_always(script)
    for mode in ("invoke", "ainvoke", "stream", "astream"):
        await drive(mode, agent, {"messages": [("user", f"Ask by {mode}")]}, world.config)
    turns = turns_told(sink)
    agents_turns = [turn for turn in turns if turn[0]["framework"] == "langgraph"]
    assert [[one["event"] for one in turn] for turn in agents_turns] == [
        ["Prompt", "Tool call", "Generation"]
    ] * 4
    direct = [turn[0]["$text"] for turn in turns if turn[0]["framework"] == "openai"]
    assert direct == ["Direct it"] * 4


async def test_a_handler_from_another_process(world: World, sink: Sink) -> None:
    """A handler that was pickled there, as pools and clusters do, is known here."""
    brought = pickle.dumps(world.handler)
    _runtime.state().observers.clear()  # nobody has made one in this process
    world.llm.invoke("On time?", {"callbacks": [pickle.loads(brought)]})
    assert [event["event"] for event in told(sink, 2)] == ["Prompt", "Generation"]
