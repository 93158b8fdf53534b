"""Tools that run at once and ask the patched client: one pair for the user, and each question."""

# LangChain's and LangGraph's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langchain_openai")
pytest.importorskip("langgraph.prebuilt", exc_type=ImportError)  # its own parts may not fit

from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI
from openai_wire import Answer, ToolCall, Usage, chat_chunks, chat_completion

from tests.langchain.driving import (
    GRAPH,
    IN_NODES,
    Mode,
    assert_nothing_left,
    close,
    config,
    drive,
    tokens,
    turns_told,
)
from tests.replies import chat_stream, json_reply
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback import Loopback, Request
    from tests.replies import Reply
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

QUESTION = "Is the tram on time?"
ANSWER = "Yes, it is."
FOUND = "Found it."
TOPICS = ("lines", "stops", "works")
MODES: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
USES = tuple(ToolCall("look_up", f'{{"x": "{one}"}}', f"call_{one}") for one in TOPICS)
COMMON: dict[str, Any] = {
    "user_id": "ada",
    "$thread_id": "thread 1",
    "provider": "127.0.0.1",
    "operation": "chat",
    "model": "gpt-4o",
}
DETAILS = {
    *("finish_reason", "response_model", "cost_usd", "cached_input_tokens", "reasoning_tokens"),
}


def reply(request: Request) -> Reply:
    """Call each tool, answer when they have answered, and answer what a tool asks."""
    last = request.json["messages"][-1]
    answer = Answer(ANSWER if last["role"] == "tool" else FOUND, usage=Usage(3, 2))
    if request.json.get("tools") and last["role"] == "user":
        answer = Answer(tool_calls=USES, usage=Usage(3, 2))
    if request.json.get("stream"):
        return chat_stream(chat_chunks(answer))
    return json_reply(chat_completion(answer))


class Asking:
    """A tool that asks the client when all of its runs are under way, whole or streamed."""

    def __init__(self, server: Loopback, *, streamed: bool) -> None:
        options: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "k",
            "max_retries": 0,
        }
        self._streamed = streamed
        self._client = OpenAI(**options)
        self._async_client = AsyncOpenAI(**options)
        self._barrier = threading.Barrier(len(TOPICS))
        self._running = 0
        self._all = asyncio.Event()
        self.chat: Any = ChatOpenAI(model="gpt-4o", **options)
        self.tool = StructuredTool.from_function(
            self._ask, self._ask_async, name="look_up", description="Look it up."
        )

    async def close(self) -> None:
        """Close all clients."""
        self._client.close()
        await self._async_client.close()
        await close(self.chat)

    def _arguments(self, x: str) -> Any:
        message = {"role": "user", "content": f"About {x}"}
        return {"model": "gpt-4o", "messages": [message], "stream": self._streamed}

    def _ask(self, x: str) -> str:
        self._barrier.wait(10)
        answer: Any = self._client.chat.completions.create(**self._arguments(x))
        return "".join(map(_text, answer)) if self._streamed else _text(answer)

    async def _ask_async(self, x: str) -> str:
        self._running += 1
        if self._running == len(TOPICS):
            self._all.set()
        await asyncio.wait_for(self._all.wait(), 10)
        answer: Any = await self._async_client.chat.completions.create(**self._arguments(x))
        return "".join([_text(one) async for one in answer]) if self._streamed else _text(answer)


def _text(piece: Any) -> str:
    choice = piece.choices[0]
    said = getattr(choice, "message", None) or choice.delta
    return str(said.content or "")


def node_of_tools(asking: Asking) -> Any:
    """Return a graph of a model, LangGraph's node for tools, and the model again."""
    from langgraph.prebuilt import ToolNode

    from tests.langchain.lines import line_of

    bound = asking.chat.bind_tools([asking.tool])

    def talk(state: Any, config: Any) -> Any:
        return {"messages": [bound.invoke(state["messages"], config)]}

    async def talk_async(state: Any, config: Any) -> Any:
        return {"messages": [await bound.ainvoke(state["messages"], config)]}

    talker = RunnableLambda(talk, afunc=talk_async)
    return line_of(talker, ToolNode([asking.tool]), talker)


def agent(asking: Asking) -> Any:
    """Return LangChain's own agent."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain 1.x")
    return agents.create_agent(asking.chat, [asking.tool])


BUILT: dict[str, Callable[[Asking], Any]] = {"node of tools": node_of_tools, "agent": agent}


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what is not the matter here: details of the answer, its price."""
    return {name: value for name, value in event.items() if name not in DETAILS}


def told_in_order(sink: Sink) -> list[list[dict[str, Any]]]:
    """Return what was told, the user's turn first, with what happened at once by its name."""
    turns = [[plain(event) for event in turn] for turn in turns_told(sink)]
    for turn in turns:
        turn[1:-1] = sorted(turn[1:-1], key=lambda event: event["tool_call_id"])
    return sorted(turns, key=lambda turn: (turn[0]["$text"] != QUESTION, turn[0]["$text"]))


def expected(mode: Mode, *, streamed: bool) -> list[list[dict[str, Any]]]:
    """Return what is to be told; the server counts no tokens of a stream."""
    assistant = {"$assistant_id": "gpt-4o"}
    end = {"event": "Generation", **assistant, "status": "ok"}
    answered = {**end, "$text": ANSWER, "$generation_id": "message", "model_calls": 2}
    answered["tool_calls"] = len(USES)
    answered |= {"stream": True} if mode == "events" else tokens(2)
    users: list[dict[str, Any]] = [
        {"event": "Prompt", "$text": QUESTION},
        *(
            {"event": "Tool call", **assistant, "tool_name": "look_up", "tool_call_id": use.id}
            for use in USES
        ),
        answered,
    ]
    own = {"framework": "openai", "provider": "127.0.0.1"} | ({"stream": True} if streamed else {})
    found = {**end, "$text": FOUND, "$generation_id": "chatcmpl-1", "model_calls": 1}
    found |= {} if streamed else tokens(1)
    direct = [
        [{**COMMON, **own, "event": "Prompt", "$text": f"About {one}"}, {**COMMON, **own, **found}]
        for one in TOPICS
    ]
    return [[{**COMMON, **GRAPH, **event} for event in users], *direct]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("mode", [pytest.param(one, marks=IN_NODES.get(one, ())) for one in MODES])
@pytest.mark.parametrize("name", BUILT)
async def test_each_is_told_once(
    name: str, mode: Mode, streamed: bool, server: Loopback, sink: Sink
) -> None:
    """The user's question is the handler's, what each tool asks is the patch's, and no more."""
    server.always(reply)
    patch_openai(user_id="ada", thread_id="t-1")
    asking = Asking(server, streamed=streamed)
    given = {"messages": [("user", QUESTION)]}
    await drive(mode, BUILT[name](asking), given, config())
    await asking.close()
    assert told_in_order(sink) == expected(mode, streamed=streamed)
    assert_nothing_left()
