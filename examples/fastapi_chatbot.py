"""A chatbot behind FastAPI, streamed to many users at once. A middleware says who is asking.

    OPENAI_API_KEY=... TRUBRICS_API_KEY=... python examples/fastapi_chatbot.py
    curl -N localhost:8000/chat -H 'x-user: eve' -H 'x-conversation: eve-1' -d 'When do you open?'

The user's header is trusted here because a gateway sets it; an app that signs its users in calls
`trubrics_instrument.identify(user.id)` where it knows them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import requests
import uvicorn
from conversation import Script, Turn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

import trubrics_instrument
from trubrics_instrument.asgi import TrubricsMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator

SYSTEM = {"role": "system", "content": "You are the help desk of a small city. Be brief."}


def build(client: AsyncOpenAI, model: str) -> FastAPI:
    """Return the app: POST a question to /chat, and read the answer while it is written."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(TrubricsMiddleware, user_id="x-user", thread_id="x-conversation")
    histories: dict[str, list[Any]] = defaultdict(lambda: [SYSTEM])

    @app.post("/chat")
    async def chat(request: Request) -> StreamingResponse:
        history = histories[request.headers["x-conversation"]]
        question = (await request.body()).decode()
        history.append({"role": "user", "content": question})
        return StreamingResponse(_answer(client, model, history), media_type="text/plain")

    return app


async def _answer(client: AsyncOpenAI, model: str, history: list[Any]) -> AsyncIterator[str]:
    text = ""
    async for chunk in await client.chat.completions.create(
        model=model, messages=history, stream=True
    ):
        piece = chunk.choices[0].delta.content or ""
        text += piece
        yield piece
    history.append({"role": "assistant", "content": text})


@contextlib.contextmanager
def running(app: FastAPI) -> Generator[str]:
    """Serve from a thread while the block runs; give the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def talk(url: str, scripts: tuple[Script, ...]) -> list[Turn]:
    """Let several users ask at the same time; each waits for an answer before the next question."""
    together = threading.Barrier(len(scripts))
    with ThreadPoolExecutor(len(scripts)) as users:
        done = [users.submit(_ask_all, url, script, together) for script in scripts]
        turns = [one.result() for one in done]
    return [turn for each in zip(*turns, strict=True) for turn in each]


def _ask_all(url: str, script: Script, together: threading.Barrier) -> list[Turn]:
    turns: list[Turn] = []
    headers = {"x-user": script.user, "x-conversation": script.thread}
    with requests.Session() as browser:
        for question in script.questions:
            together.wait(30)
            answer = browser.post(f"{url}/chat", data=question, headers=headers, timeout=30)
            answer.encoding = "utf-8"
            turns.append(Turn(script.user, script.thread, question, answer.text))
    return turns


if __name__ == "__main__":
    trubrics_instrument.patch_openai()
    uvicorn.run(build(AsyncOpenAI(), "gpt-4o-mini"))
