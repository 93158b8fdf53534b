"""A server that is told to end delivers what its requests told, and how far their answers came."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from openai_wire import Answer, chat_chunks
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.replies import Gate, chat_stream
from tests.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback

PROGRAM = """
import socket
import openai
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
import trubrics_instrument
from trubrics_instrument.asgi import TrubricsMiddleware

trubrics_instrument.configure(flush_interval_s=60.0, user_id="ada")
trubrics_instrument.patch_openai()
client, async_client = openai.OpenAI(), openai.AsyncOpenAI()
asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
kept = []

async def convert(request):
    return PlainTextResponse(str(trubrics_instrument.track("Converted")))

def stream(request):
    pieces = client.chat.completions.create(**asked, stream=True)
    return StreamingResponse(piece.choices[0].delta.content or "" for piece in pieces)

async def chat(socket):
    await socket.accept()
    pieces = await async_client.chat.completions.create(**asked, stream=True)
    try:
        async for piece in pieces:
            await socket.send_text(piece.choices[0].delta.content or "")
    except Exception as error:
        kept.append(error)  # with the frame that has the stream
        raise

app = TrubricsMiddleware(Starlette(routes=[
    Route("/", convert), Route("/stream", stream), WebSocketRoute("/chat", chat)]))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
uvicorn.Server(config).run(sockets=[listener])
"""
Served = tuple[int, subprocess.Popen[str]]


@pytest.fixture
def far_sink() -> Iterator[Sink]:
    """Give an ingestion endpoint that this process is not configured for."""
    with Sink() as ready:
        yield ready


@pytest.fixture
def served(far_sink: Sink, server: Loopback) -> Iterator[Served]:
    """Give the port of a server, and its process."""
    environ = {
        **os.environ,
        "TRUBRICS_HOST": far_sink.host,
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "k",
    }
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process
        process.kill()


def told(sink: Sink) -> list[tuple[Any, ...]]:
    """Return what has arrived by the end of the server."""
    return [
        (event["event"], event["user_id"], *map(event["properties"].get, ("$text", "status")))
        for event in sink.events
    ]


def test_sigterm(far_sink: Sink, served: Served) -> None:
    """Uvicorn ends by the signal, without `atexit`; what was told has arrived by then."""
    port, process = served
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).text == "True"
    assert far_sink.events == []
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert told(far_sink) == [("Converted", "ada", None, None)]


def test_sigterm_while_a_thread_reads(far_sink: Sink, served: Served, server: Loopback) -> None:
    """A stream that no cancellation reaches is told as far as it came."""
    chunks = chat_chunks(Answer("One two", usage=None))
    server.script(chat_stream([*chunks[:2], Gate(), *chunks[2:]]))
    port, process = served
    with requests.get(f"http://127.0.0.1:{port}/stream", stream=True, timeout=20) as response:
        assert next(response.iter_content(None)) == b"One "
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert told(far_sink) == [
        ("Prompt", "ada", "Hi", None),
        ("Generation", "ada", "One ", "incomplete"),
    ]


def test_sigterm_amid_a_chat(far_sink: Sink, served: Served, server: Loopback) -> None:
    """So is one that is left on a closed WebSocket, where the exception of it keeps the stream."""
    gate = Gate()
    chunks = chat_chunks(Answer("One two three", usage=None))
    server.script(chat_stream([*chunks[:2], gate, *chunks[2:]]))
    port, process = served
    with connect(f"ws://127.0.0.1:{port}/chat") as client:
        assert [client.recv(20), client.recv(20)] == ["", "One "]
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            client.recv(20)
        gate.open()
        process.wait(timeout=20)
    assert told(far_sink) == [
        ("Prompt", "ada", "Hi", None),
        ("Generation", "ada", "One two ", "incomplete"),
    ]
