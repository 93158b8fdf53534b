"""Structured output of OpenAI's chat model: by each method, with and without the raw message."""

# LangChain's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypedDict

import pydantic
import pytest

pytest.importorskip("langchain_openai")

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from openai_wire import Answer, ToolCall, Usage, chat_chunks, chat_completion

from tests.langchain.driving import (
    GRAPH,
    IN_NODES,
    MODES,
    STREAMED,
    Mode,
    assert_nothing_left,
    close,
    config,
    drive,
    generation,
    prompt,
    tokens,
    turns_told,
)
from tests.replies import chat_stream, json_reply
from trubrics_instrument import configure, patch_openai
from trubrics_instrument.langchain import runs
from trubrics_instrument.langchain.reply import Known, reply_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.loopback import Loopback, Request
    from tests.replies import Reply
    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    # pydantic warns of what OpenAI's client puts into the message, in some versions.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
]

QUESTION = "Tell a joke."
JOKE = '{"setup": "Why?", "punchline": "Because."}'
WRONG = '{"setup": 1}'
METHODS = ("json_schema", "function_calling", "json_mode")
# Those that LangChain takes apart; the client itself takes apart what a schema was sent with.
PARSED = METHODS[1:]
ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
OPENAI = {"provider": "127.0.0.1", "model": "gpt-x"}
ASKED = prompt(QUESTION, **OPENAI)
OLD = version("langchain-openai") == "0.2.2"
COUNTED = {"cached_input_tokens": 0, "reasoning_tokens": 0}


class Joke(pydantic.BaseModel):
    """A joke."""

    setup: str
    punchline: str


class JokeDict(TypedDict):
    """The same as a dict."""

    setup: str
    punchline: str


DICTS: dict[str, Any] = {
    "TypedDict": JokeDict,
    "JSON schema": {**Joke.model_json_schema(), "title": "JokeDict"},
}


class World:
    """A chat model, and what its server says: in words, or as the arguments of the tool."""

    def __init__(self, server: Loopback) -> None:
        self.words = JOKE
        self.refusal: str | None = None
        server.always(self._reply)
        self.model: Any = ChatOpenAI(
            model="gpt-x",
            api_key="k",  # type: ignore[arg-type] # pydantic makes a secret of it
            base_url=server.base_url,
            stream_usage=True,
            max_retries=0,
        )

    def asks(self, mode: Mode, method: str, kind: Any = Joke, *, raw: bool = False) -> Any:
        """Return the model with structured output, if this version can."""
        if OLD and method == "json_schema" and mode in STREAMED:
            pytest.skip("langchain-openai 0.2.2 does not stream what was sent a schema")
        return self.model.with_structured_output(kind, method=method, include_raw=raw)

    def _reply(self, request: Request) -> Reply:
        tools = request.json.get("tools", ())
        calls = tuple(ToolCall(tool["function"]["name"], self.words) for tool in tools)
        words = None if calls or self.refusal else self.words
        told = Answer(
            words,
            tool_calls=() if self.refusal else calls,
            refusal=self.refusal,
            usage=Usage(3, 2),
            model="gpt-x-1",
        )
        if request.json.get("stream"):
            return chat_stream(chat_chunks(told, include_usage=True))
        return json_reply(chat_completion(told))


@pytest.fixture
async def world(server: Loopback, sink: Sink) -> AsyncIterator[World]:
    """Give the model, with the patch of its client on as well."""
    configure(host=sink.host)
    patch_openai()
    world = World(server)
    yield world
    await close(world.model)


def answered(text: str | None, mode: Mode, method: str, **more: Any) -> dict[str, Any]:
    """Return the answer as it is to be told."""
    event = generation(
        text,
        **{
            **OPENAI,
            **COUNTED,
            "$assistant_id": "gpt-x",
            "response_model": "gpt-x-1",
            "finish_reason": "tool_calls" if method == "function_calling" else "stop",
            "stream": True if mode in STREAMED else None,
            **more,
        },
    )
    return {key: value for key, value in event.items() if value is not None}


def in_words(joke: Any) -> str:
    """Return a joke as a text."""
    return f"{joke.setup} {joke.punchline}"


async def until_told() -> None:
    """Let the event loop close what an error left open: OpenAI's streams read on until then."""
    deadline_s = time.monotonic() + 10
    while runs.count() and time.monotonic() < deadline_s:
        gc.collect()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("raw", [False, True], ids=["parsed", "raw"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", MODES)
async def test_structure(mode: Mode, method: str, raw: bool, world: World, sink: Sink) -> None:
    """It is one pair, whose answer is the structure as JSON: nobody has called a tool."""
    asked = world.asks(mode, method, raw=raw)
    await drive(mode, asked, QUESTION, config())
    told = answered(JOKE, mode, method, **{"$generation_id": "message" if raw else "run"})
    assert turns_told(sink) == [[ASKED, told]] * (3 if "batch" in mode else 1)
    assert_nothing_left()


@pytest.mark.parametrize("kind", DICTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["invoke", "astream"])
async def test_dict(mode: Mode, method: str, kind: str, world: World, sink: Sink) -> None:
    """The same for a structure that is a dict, which a stream builds up piece by piece."""
    asked = world.asks(mode, method, DICTS[kind])
    await drive(mode, asked, QUESTION, config())
    assert turns_told(sink) == [[ASKED, answered(JOKE, mode, method)]]
    assert_nothing_left()


@pytest.mark.parametrize("method", PARSED)
@pytest.mark.parametrize("mode", MODES)
async def test_wrong_structure_with_its_message(
    mode: Mode, method: str, world: World, sink: Sink
) -> None:
    """Where the app gets the message and the error, the answer is what the model said."""
    world.words = WRONG
    asked = world.asks(mode, method, raw=True)
    await drive(mode, asked, QUESTION, config())
    told = answered(WRONG, mode, method, **{"$generation_id": "message"})
    assert turns_told(sink) == [[ASKED, told]] * (3 if "batch" in mode else 1)
    assert_nothing_left()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_wrong_structure(mode: Mode, method: str, world: World, sink: Sink) -> None:
    """Where it raises, the turn has failed, with what the model said if LangChain shows it."""
    world.words = WRONG
    asked = world.asks(mode, method)
    with pytest.raises(ValueError, match="setup"):
        await drive(mode, asked, QUESTION, config())
    [[asked, told]] = turns_told(sink)
    assert asked == ASKED
    assert (told["event"], told["status"]) == ("Generation failed", "error")
    assert told.get("$text") == (WRONG if method == "json_mode" else None)
    assert told.get("total_tokens") == (5 if method in PARSED else None)
    assert_nothing_left()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ALONE)
async def test_refusal(mode: Mode, method: str, world: World, sink: Sink) -> None:
    """A refusal is one prompt and one end, whether LangChain raises it or finds no structure."""
    world.refusal = "No."
    asked = world.asks(mode, method)
    with suppress(Exception):
        await drive(mode, asked, QUESTION, config())
    await until_told()
    [[first, told]] = turns_told(sink)
    assert first == ASKED
    assert told["event"] in {"Generation", "Generation failed"}
    assert told.get("$text", "No.") == "No."
    assert_nothing_left()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ALONE)
async def test_in_a_chain(mode: Mode, method: str, world: World, sink: Sink) -> None:
    """A step that makes a text of the structure gives the answer, and the structure does not."""
    asked = world.asks(mode, method)
    chain = asked | RunnableLambda(in_words)
    await drive(mode, chain, QUESTION, config())
    told = answered("Why? Because.", mode, method)
    assert turns_told(sink) == [[ASKED, told]]
    assert_nothing_left()


@pytest.mark.parametrize("strategy", ["ProviderStrategy", "ToolStrategy"])
@pytest.mark.parametrize("mode", [pytest.param(one, marks=IN_NODES.get(one, ())) for one in ALONE])
async def test_agent(mode: Mode, strategy: str, world: World, sink: Sink) -> None:
    """An agent's structured answer is told as such, by either way to get it."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain 1.x")
    output = pytest.importorskip("langchain.agents.structured_output")
    agent = agents.create_agent(world.model, [], response_format=getattr(output, strategy)(Joke))
    await drive(mode, agent, {"messages": [("user", QUESTION)]}, config())
    method = "function_calling" if strategy == "ToolStrategy" else "json_schema"
    more: dict[str, Any] = {"stream": True if mode == "events" else None, **GRAPH, **tokens(1)}
    [[asked, told]] = turns_told(sink)
    assert asked == {**ASKED, **GRAPH}
    kind = told["$generation_id"]
    assert told == answered(JOKE, mode, method, **{**more, "$generation_id": kind})
    assert_nothing_left()


class Riddle(pydantic.BaseModel):
    """A joke that need not be told to its end."""

    setup: str
    punchline: str = "Because."


@pytest.mark.parametrize("method", METHODS)
async def test_defaults(method: str, world: World, sink: Sink) -> None:
    """Beside the raw message, too, the answer is the structure: with all that the app gets."""
    world.words = '{"setup": "Why?"}'
    asked = world.asks("invoke", method, Riddle, raw=True)
    await drive("invoke", asked, QUESTION, config())
    told = answered(JOKE, "invoke", method, **{"$generation_id": "message"})
    assert turns_told(sink) == [[ASKED, told]]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            AIMessage("Not me.", tool_calls=[{"name": "Joke", "args": {"setup": 1}, "id": "c"}]),
            "Not me.",
        ),
        (
            AIMessage(
                "",
                invalid_tool_calls=[{"name": "Joke", "args": '{"set', "id": "c", "error": "cut"}],
            ),
            '{"set',
        ),
    ],
    ids=["words beside it", "cut off"],
)
def test_no_structure(raw: AIMessage, text: str) -> None:
    """Where no structure came of it, the answer is what the model said, else what it began."""
    reply = reply_of({"raw": raw, "parsed": None, "parsing_error": ValueError()}, Known())
    assert reply is not None
    assert reply.text == text
