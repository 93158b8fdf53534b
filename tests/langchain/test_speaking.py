"""A graph that is stopped, or breaks, while its model speaks: what was read by then is told."""

# LangChain's and LangGraph's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langgraph.graph")

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field

from tests.langchain.chains import QUESTION
from tests.langchain.driving import assert_nothing_left, config, let_go, turns_told
from tests.langchain.lines import graph_around
from tests.langchain.models import Refused, Scripted, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.sink import Sink

pytestmark = pytest.mark.anyio

LONG = "One two three four"
SO_FAR = "One two "
GIVEN = {"messages": [("user", QUESTION)]}
GRANULARITIES = ("turn", "call")


class Halting(Scripted):
    """A chat model that streams two words, says so, and no more."""

    halted: Any = Field(default_factory=lambda: asyncio.Semaphore(0))
    in_parts: bool = False

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in ("One ", "two "):
            content: Any = [{"type": "text", "text": word}] if self.in_parts else word
            yield ChatGenerationChunk(message=AIMessageChunk(content=content))
        self.halted.release()
        await asyncio.Event().wait()


async def read(kind: str, talker: Scripted, about: Any, pieces: int | None = None) -> None:
    """Read a graph's stream until so many pieces of its model's answer have come."""
    graph = graph_around(talker)
    if kind == "sync":
        assert list(graph.stream(GIVEN, about, stream_mode="messages"))
        return
    if kind == "events":
        stream = graph.astream_events(GIVEN, about, version="v2")
    else:
        stream = graph.astream(GIVEN, about, stream_mode="messages")
    seen = 0
    async for one in stream:
        seen += kind == "messages" or one["event"] == "on_chat_model_stream"
        if seen == pieces:
            break
    await stream.aclose()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("in_parts", [False, True], ids=["text", "parts"])
@pytest.mark.parametrize("how", ["left", "cancelled"])
@pytest.mark.parametrize("kind", ["messages", "events"])
async def test_stopped(kind: str, how: str, in_parts: bool, granularity: str, sink: Sink) -> None:
    """What the user has read is told, though LangChain reports no end of such a model."""
    halting = Halting(rule=says(LONG), in_parts=in_parts)
    pieces = 2 if how == "left" else None
    task = asyncio.ensure_future(read(kind, halting, config(granularity), pieces))
    if how == "left":
        await asyncio.wait_for(task, 10)
    else:
        await asyncio.wait_for(halting.halted.acquire(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    del task
    await let_go()
    [[asked, answered]] = turns_told(sink)
    assert (asked["event"], asked["$text"]) == ("Prompt", QUESTION)
    told = [answered.get(name) for name in ("event", "$text", "status", "stream")]
    assert told == ["Generation", SO_FAR, "incomplete", True]
    assert_nothing_left()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", ["sync", "messages", "events"])
async def test_broken(kind: str, granularity: str, sink: Sink) -> None:
    """A model that breaks while a graph streams it is a failure, with the text so far."""
    talker = Scripted(rule=says(LONG), stop_after=2)
    with pytest.raises(Refused):
        await read(kind, talker, config(granularity))
    await let_go()
    [[_, failed]] = turns_told(sink)
    told = [failed.get(name) for name in ("event", "$text", "error_type", "stream")]
    assert told == ["Generation failed", SO_FAR, "Refused", True]
    assert_nothing_left()
