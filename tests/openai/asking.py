"""One driver for every way to ask the OpenAI client, synchronous and asynchronous alike."""

from __future__ import annotations

import contextlib
import inspect
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import openai
import pydantic
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from tests.loopback import Loopback

Mode: TypeAlias = Literal["sync", "async"]
MODES: tuple[Mode, ...] = ("sync", "async")
MODEL = "gpt-4o"
QUESTION = "Is the tram on time?"
SHAPES: dict[str, tuple[str, ...]] = {
    "chat": ("whole", "parsed", "raw", "unparsed", "body", "stream", "helper", "raw stream"),
    "responses": ("whole", "parsed", "raw", "unparsed", "body", "stream", "helper", "raw stream"),
    "completion": ("whole", "raw", "unparsed", "body", "stream", "raw stream"),
}
STREAMED = frozenset({"stream", "helper", "raw stream"})


class Reply(pydantic.BaseModel):
    """What the structured answer is parsed into."""

    text: str


@dataclass(frozen=True)
class Way:
    """One way to ask: the endpoint, how the answer is taken, and which client."""

    endpoint: str
    shape: str
    mode: Mode

    def __str__(self) -> str:
        return f"{self.endpoint} {self.shape} {self.mode}"

    @property
    def path(self) -> str:
        """The path of its requests."""
        paths = {"chat": "chat/completions", "responses": "responses", "completion": "completions"}
        return f"/v1/{paths[self.endpoint]}"

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.shape in STREAMED

    @property
    def stream(self) -> bool | None:
        """The property `stream` of its events."""
        return True if self.streamed else None


def in_this_sdk(name: str) -> bool:
    """Whether a client of the installed SDK has it: "responses", "chat.completions.parse"."""
    with openai.OpenAI(api_key="k") as client:
        try:
            operator.attrgetter(name)(client)
        except AttributeError:
            return False
        return True


def needs(name: str) -> pytest.MarkDecorator:
    """Leave a test out where the installed SDK does not have what it tests."""
    return pytest.mark.skipif(not in_this_sdk(name), reason=f"this SDK has no {name}")


_NEEDS = {"parsed": "responses.parse", "helper": "responses.stream"}
_LEFT_OUT = {
    ("responses", shape)
    for shape in SHAPES["responses"]
    if not in_this_sdk(_NEEDS.get(shape, "responses"))
}
WAYS = [
    Way(endpoint, shape, mode)
    for endpoint, shapes in SHAPES.items()
    for shape in shapes
    for mode in MODES
    if (endpoint, shape) not in _LEFT_OUT
]


def client_of(server: Loopback, mode: Mode, **options: Any) -> Any:
    """Return a client of the loopback server; `close_client` ends it."""
    kind: Any = openai.OpenAI if mode == "sync" else openai.AsyncOpenAI
    return kind(**{"base_url": server.base_url, "api_key": "k", "max_retries": 0, **options})


def fields(create: Callable[..., Any], **wanted: Any) -> dict[str, Any]:
    """Return arguments that send these fields, those that this SDK does not know as extra ones."""
    known = inspect.signature(create).parameters
    unknown = {name: value for name, value in wanted.items() if name not in known}
    named = {name: value for name, value in wanted.items() if name in known}
    return {**named, "extra_body": unknown} if unknown else named


async def settled(value: Any) -> Any:
    """Return a result, awaited if it is to be."""
    return await value if inspect.isawaitable(value) else value


async def pieces(stream: Any) -> AsyncIterator[Any]:
    """Yield what an iterator of either kind yields."""
    if hasattr(stream, "__aiter__"):
        async for piece in stream:
            yield piece
        return
    for piece in stream:
        yield piece


@contextlib.asynccontextmanager
async def entered(manager: Any) -> AsyncGenerator[Any]:
    """Enter a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
        return
    with manager as value:
        yield value


@contextlib.asynccontextmanager
async def asking(client: Any, way: Way, **more: Any) -> AsyncGenerator[Any]:
    """Ask, and give what the app gets: an answer, or a stream to iterate over."""
    resource, arguments = _resource(client, way.endpoint, way.shape)
    arguments |= more
    if way.shape == "helper":
        async with entered(resource.stream(**arguments)) as stream:
            yield stream
    elif way.shape == "body":
        async with entered(resource.with_streaming_response.create(**arguments)) as response:
            yield await settled(response.parse())
    elif way.shape == "parsed":
        yield await settled(resource.parse(**arguments, **_format(way.endpoint)))
    else:
        yield await _created(resource, way, arguments)


async def ask(client: Any, way: Way, **more: Any) -> Any:
    """Ask, and return the answer, or the list of a stream's pieces."""
    async with asking(client, way, **more) as answer:
        return [piece async for piece in pieces(answer)] if way.streamed else answer


async def close_client(client: Any) -> None:
    """Close a client of either kind."""
    await settled(client.close())


async def _created(resource: Any, way: Way, arguments: dict[str, Any]) -> Any:
    streamed: dict[str, Any] = {"stream": True} if way.streamed else {}
    if way.shape in {"whole", "stream"}:
        return await settled(resource.create(**arguments, **streamed))
    raw = await settled(resource.with_raw_response.create(**arguments, **streamed))
    return raw if way.shape == "unparsed" else await settled(raw.parse())


def _resource(client: Any, endpoint: str, shape: str) -> tuple[Any, dict[str, Any]]:
    if endpoint == "chat":
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": QUESTION},
        ]
        chat = client.chat if hasattr(client.chat.completions, "parse") else client.beta.chat
        arguments = {"model": MODEL, "messages": messages}
        return (chat if shape in {"parsed", "helper"} else client.chat).completions, arguments
    if endpoint == "responses":
        return client.responses, {"model": MODEL, "input": QUESTION, "instructions": "Be brief."}
    return client.completions, {"model": MODEL, "prompt": QUESTION}


def _format(endpoint: str) -> dict[str, Callable[..., Any] | type]:
    return {"response_format": Reply} if endpoint == "chat" else {"text_format": Reply}
