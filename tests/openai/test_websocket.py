"""Responses over a WebSocket, on a loopback WebSocket server."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer
from responses_wire import response_events
from websockets.sync.server import serve

from tests.openai.asking import MODES, Mode, entered, pieces, settled
from tests.told import told
from trubrics_instrument import context, flush, patch_openai, suppress, unpatch_openai

if TYPE_CHECKING:
    from collections.abc import Generator

    from websockets.sync.server import ServerConnection

    from tests.sink import Sink

responses = pytest.importorskip(
    "openai.resources.responses", reason="this openai has no Responses API"
)
pytestmark = [
    pytest.mark.anyio,
    # websockets 17 warns of what the SDK does.
    pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning"),
    pytest.mark.skipif(
        not hasattr(responses.Responses, "connect"),
        reason="this openai has no Responses over a WebSocket",
    ),
]
BOTH = pytest.mark.parametrize("mode", MODES)


@contextmanager
def websocket_server(cut_after: int | None = None) -> Generator[str]:
    """Serve Responses over a WebSocket: the answer repeats the question, in upper case."""

    def answer(connection: ServerConnection) -> None:
        for count, message in enumerate(connection):
            asked = json.loads(message)
            text = str(asked["input"]).upper()
            events = response_events(Answer(text, id=f"resp_{count + 1}"))
            for event in events[:cut_after]:
                connection.send(json.dumps({**event, "stream_id": asked.get("stream_id")}))
            if cut_after is not None:
                return

    listening: Any = serve(answer, "127.0.0.1", 0)
    with listening as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        server.shutdown()
        thread.join()


def client_of(mode: Mode, url: str) -> Any:
    """Return a client of a WebSocket server."""
    kind: Any = openai.OpenAI if mode == "sync" else openai.AsyncOpenAI
    return kind(api_key="k", base_url=url.replace("ws", "http", 1), websocket_base_url=url)


async def ask(connection: Any, question: str, *, lane: str | None = None) -> str:
    """Ask over a connection, and read the answer to its end."""
    event = {"type": "response.create", "model": "gpt-4o", "input": question}
    await settled(connection.send({**event, "stream_id": lane} if lane else event))
    async for received in pieces(connection):
        if received.type == "response.completed":
            return str(received.response.output_text)
    raise AssertionError("the connection ended before the answer")


@BOTH
async def test_questions_and_answers(mode: Mode, sink: Sink) -> None:
    """Each question and answer over one connection is a Prompt and a Generation."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with context(user_id="ada", thread_id="t-1"):
                assert await ask(connection, "one") == "ONE"
            with suppress():
                assert await ask(connection, "hidden") == "HIDDEN"
            with context(user_id="bob", thread_id="t-2"):
                assert await ask(connection, "two", lane="b") == "TWO"
        await settled(client.close())
    events = told(sink, 4)
    assert [(one["event"], one["user_id"], one["$text"]) for one in events] == [
        ("Prompt", "ada", "one"),
        ("Generation", "ada", "ONE"),
        ("Prompt", "bob", "two"),
        ("Generation", "bob", "TWO"),
    ]
    assert [one.get("$generation_id") for one in events] == [None, "resp_1", None, "resp_3"]
    assert [one.get("total_tokens") for one in events] == [None, 21, None, 21]
    assert all(one["stream"] for one in events)


@BOTH
async def test_left_early(mode: Mode, sink: Sink) -> None:
    """A connection that is closed before the answer ends it as incomplete, with the text so far."""
    patch_openai()
    with websocket_server(cut_after=5) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            event = {"type": "response.create", "model": "gpt-4o", "input": "one two three"}
            await settled(connection.send(event))
            for _ in range(5):
                await settled(connection.recv())
        await settled(client.close())
    generation = told(sink, 2)[1]
    assert generation["status"] == "incomplete"
    assert generation["$text"] == "ONE "


@BOTH
async def test_undone(mode: Mode, sink: Sink) -> None:
    """Without the patch nothing is told, not even over a connection made while it was on."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            unpatch_openai()
            assert await ask(connection, "one") == "ONE"
        await settled(client.close())
    assert flush(5)
    assert sink.events == []


@BOTH
async def test_a_question_that_could_not_be_sent(mode: Mode, sink: Sink) -> None:
    """A send that raises ends its question: the next answer is not told as its own."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            unsendable = {
                "type": "response.create",
                "model": "m",
                "input": "one",
                "tools": object(),
            }
            with context(user_id="ada", thread_id="t-1"), pytest.raises(TypeError):
                await settled(connection.send(unsendable))
            with context(user_id="bob", thread_id="t-2"):
                assert await ask(connection, "two") == "TWO"
        await settled(client.close())
    assert [(one["event"], one["user_id"], one.get("$text")) for one in told(sink, 4)] == [
        ("Prompt", "ada", "one"),
        ("Generation failed", "ada", None),
        ("Prompt", "bob", "two"),
        ("Generation", "bob", "TWO"),
    ]
