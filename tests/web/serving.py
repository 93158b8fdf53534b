"""Real servers for the web tests, and many users who ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import openai
import requests
import uvicorn
from openai_wire import Answer, chat_chunks, chat_completion

from tests.replies import chat_stream, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.loopback import Loopback, Request
    from tests.replies import Reply
    from tests.sink import Sink

USERS = tuple(f"user-{number}" for number in range(6))
ROUNDS = 2
NOBODY = "nobody"
_PATIENCE_S = 20.0


class Model:
    """A client of a model server that repeats the question."""

    def __init__(self, server: Loopback) -> None:
        server.always(_repeat)
        options: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "k",
            "max_retries": 0,
            "timeout": _PATIENCE_S,
        }
        self.client = openai.OpenAI(**options)
        self._options = options

    def ask(self, question: str) -> str:
        """Ask, synchronously."""
        made = self.client.chat.completions.create(model="m", messages=[_user(question)])
        return made.choices[0].message.content or ""

    async def ask_async(self, question: str) -> str:
        """Ask, asynchronously."""
        async with openai.AsyncOpenAI(**self._options) as client:
            made = await client.chat.completions.create(model="m", messages=[_user(question)])
            return made.choices[0].message.content or ""

    def stream(self, question: str) -> Iterator[str]:
        """Ask for a stream, synchronously."""
        made = self.client.chat.completions.create(
            model="m", messages=[_user(question)], stream=True
        )
        for chunk in made:
            yield chunk.choices[0].delta.content or ""


def _user(question: str) -> Any:
    return {"role": "user", "content": question}


def _repeat(request: Request) -> Reply:
    question = request.json["messages"][-1]["content"]
    if request.json.get("stream"):
        return chat_stream(chat_chunks(Answer(question, usage=None)))
    return json_reply(chat_completion(Answer(question, usage=None)))


@contextlib.contextmanager
def asgi_server(app: Any) -> Generator[str]:
    """Give the address of a uvicorn that serves `app`."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5, ws="none")
    server = uvicorn.Server(config)
    started = threading.Event()

    async def serve() -> None:
        asyncio.get_running_loop().call_soon(started.set)
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(_PATIENCE_S)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_S)
        listener.close()
        assert not thread.is_alive()


class _PoolServer(ThreadingMixIn, WSGIServer):
    """Two worker threads that serve one request after the other, as production servers do."""

    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pool = ThreadPoolExecutor(2)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.pool.submit(self.process_request_thread, request, client_address)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


@contextlib.contextmanager
def wsgi_server(app: Any) -> Generator[str]:
    """Give the address of a server with two worker threads that serves `app`."""
    with make_server("127.0.0.1", 0, app, _PoolServer, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(_PATIENCE_S)
            assert isinstance(server, _PoolServer)
            server.pool.shutdown()


def visit(address: str, path: str, user: str, **headers: str) -> requests.Response:
    """Ask the app once, as this user; the question names the user."""
    named = {} if user == NOBODY else {"x-user": user, "x-conversation": f"thread of {user}"}
    response = requests.get(
        f"{address}{path}",
        params={"question": f"{path} {user}"},
        headers={**named, **headers},
        timeout=_PATIENCE_S,
    )
    assert response.status_code == 200, response.text
    assert response.text.strip('"') == f"{path} {user}"
    return response


def visit_all(address: str, path: str) -> int:
    """Let every user, and people who say no name, ask at the same time; return how many did."""
    visitors = [*USERS, NOBODY, NOBODY] * ROUNDS
    with ThreadPoolExecutor(len(visitors)) as pool:
        list(pool.map(partial(visit, address, path), visitors))
    return len(visitors)


def check(sink: Sink, questions: int, thread_of: Callable[[str], str] | None = None) -> None:
    """Check that each event has the user and the thread of the question that it belongs to."""
    events = sink.wait_for(2 * questions, timeout_s=_PATIENCE_S)
    assert len(events) == 2 * questions
    for event in events:
        properties = event["properties"]
        asked_by = properties["$text"].split()[-1]
        if asked_by == NOBODY:
            assert event["user_id"].startswith("anon-")
            assert properties["anonymous"] is True
        else:
            expected = (thread_of or "thread of {}".format)(asked_by)
            assert (event["user_id"], properties["$thread_id"]) == (asked_by, expected)
    # Nobody without a name is anybody else without a name.
    nobodies = [event for event in events if event["user_id"].startswith("anon-")]
    assert len({event["user_id"] for event in nobodies}) == len(nobodies) // 2
