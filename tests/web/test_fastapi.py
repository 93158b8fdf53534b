"""FastAPI: everything that it runs for a request knows whose request it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Header
from fastapi.responses import PlainTextResponse, StreamingResponse

from tests.web.serving import asgi_server, check, visit_all
from trubrics_instrument import bind, context, identify
from trubrics_instrument.asgi import TrubricsMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.sink import Sink
    from tests.web.serving import Model

User = Annotated[str | None, Header(alias="x-user")]


def sign_in(user: User = None) -> None:
    """Identify the user in a synchronous dependency, which runs in a thread of its own."""
    if user:
        identify(user)


async def sign_in_async(user: User = None) -> None:
    """Identify the user in an asynchronous dependency."""
    if user:
        identify(user)


SYNC, ASYNC = [Depends(sign_in)], [Depends(sign_in_async)]


def app_with(model: Model) -> FastAPI:
    """Return an app with an endpoint for each way of asking a model."""
    app = FastAPI()
    app.add_middleware(TrubricsMiddleware, thread_id="X-Conversation")

    @app.get("/sync/sync", dependencies=SYNC)
    @app.get("/sync/async", dependencies=ASYNC)
    def ask(question: str) -> str:
        return model.ask(question)

    @app.get("/async/sync", dependencies=SYNC)
    @app.get("/async/async", dependencies=ASYNC)
    async def ask_async(question: str) -> str:
        return await model.ask_async(question)

    @app.get("/stream/sync", dependencies=SYNC)
    def stream(question: str) -> StreamingResponse:
        return StreamingResponse(model.stream(question), media_type="text/plain")

    @app.get("/stream/async", dependencies=ASYNC)
    async def stream_async(question: str) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield await model.ask_async(question)

        return StreamingResponse(body(), media_type="text/plain")

    @app.get("/stream/context")
    def stream_context(question: str, user: User = None) -> StreamingResponse:
        @context(user_id=user)
        def body() -> Iterator[str]:
            yield from model.stream(question)

        return StreamingResponse(body(), media_type="text/plain")

    @app.get("/background/sync", dependencies=SYNC)
    @app.get("/background/async", dependencies=ASYNC)
    async def background(question: str, tasks: BackgroundTasks) -> PlainTextResponse:
        tasks.add_task(model.ask, question)
        return PlainTextResponse(question, background=tasks)

    @app.get("/executor", dependencies=ASYNC)
    async def executor(question: str) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, bind(model.ask), question)

    return app


@pytest.mark.parametrize(
    "path",
    [
        "/sync/sync",
        "/sync/async",
        "/async/sync",
        "/async/async",
        "/stream/sync",
        "/stream/async",
        "/stream/context",
        "/background/sync",
        "/background/async",
        "/executor",
    ],
)
def test_users_at_once(path: str, sink: Sink, model: Model) -> None:
    """Never one user's id on another's event, and never a leak into the next request."""
    with asgi_server(app_with(model)) as address:
        questions = visit_all(address, path)
        check(sink, questions)
