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
    from collections.abc import AsyncIterator, Callable, Iterator

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


def sign_in_for_now(user: User = None) -> Iterator[None]:
    """Identify the user in a synchronous dependency that has something to do afterwards."""
    if user:
        identify(user)
    yield


async def in_a_context(user: User = None) -> AsyncIterator[None]:
    """Hold a context around the endpoint."""
    with context(user_id=user):
        yield


SYNC, ASYNC = [Depends(sign_in)], [Depends(sign_in_async)]
SYNC_YIELD, ASYNC_YIELD = [Depends(sign_in_for_now)], [Depends(in_a_context)]


def app() -> FastAPI:
    """Return an app with nothing in it but the middleware."""
    made = FastAPI()
    made.add_middleware(TrubricsMiddleware, thread_id="X-Conversation")
    return made


def app_that_answers(model: Model) -> FastAPI:
    """Return an app whose endpoints, of both kinds, ask behind dependencies of both kinds."""
    made = app()

    @made.get("/sync/sync", dependencies=SYNC)
    @made.get("/sync/async", dependencies=ASYNC)
    @made.get("/sync/sync yield", dependencies=SYNC_YIELD)
    @made.get("/sync/async yield", dependencies=ASYNC_YIELD)
    def ask(question: str) -> str:
        return model.ask(question)

    @made.get("/async/sync", dependencies=SYNC)
    @made.get("/async/async", dependencies=ASYNC)
    @made.get("/async/sync yield", dependencies=SYNC_YIELD)
    @made.get("/async/async yield", dependencies=ASYNC_YIELD)
    async def ask_async(question: str) -> str:
        return await model.ask_async(question)

    @made.get("/executor", dependencies=ASYNC)
    async def executor(question: str) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, bind(model.ask), question)

    return made


def app_that_streams(model: Model) -> FastAPI:
    """Return an app that asks while its body is sent."""
    made = app()

    @made.get("/stream/sync", dependencies=SYNC)
    def stream(question: str) -> StreamingResponse:
        return StreamingResponse(model.stream(question), media_type="text/plain")

    @made.get("/stream/async", dependencies=ASYNC)
    async def stream_async(question: str) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield await model.ask_async(question)

        return StreamingResponse(body(), media_type="text/plain")

    @made.get("/stream/context")
    def stream_context(question: str, user: User = None) -> StreamingResponse:
        @context(user_id=user)
        def body() -> Iterator[str]:
            yield ""
            yield from model.stream(question)

        return StreamingResponse(body(), media_type="text/plain")

    return made


def app_that_asks_afterwards(model: Model) -> FastAPI:
    """Return an app that asks when its answer has been sent."""
    made = app()

    def teardown(question: str) -> Iterator[None]:
        yield
        model.ask(question)

    @made.get("/background/sync", dependencies=SYNC)
    @made.get("/background/async", dependencies=ASYNC)
    async def background(question: str, tasks: BackgroundTasks) -> PlainTextResponse:
        tasks.add_task(model.ask, question)
        return PlainTextResponse(question, background=tasks)

    @made.get("/background/coroutine", dependencies=SYNC)
    def background_coroutine(question: str, tasks: BackgroundTasks) -> PlainTextResponse:
        tasks.add_task(model.ask_async, question)
        return PlainTextResponse(question, background=tasks)

    @made.get("/teardown", dependencies=[*SYNC, Depends(teardown)])
    def nothing(question: str) -> str:
        return question

    return made


ANSWERS = [
    f"/{endpoint}/{dependency}"
    for endpoint in ("sync", "async")
    for dependency in ("sync", "async", "sync yield", "async yield")
]


@pytest.mark.parametrize(
    ("path", "serving"),
    [
        *((path, app_that_answers) for path in (*ANSWERS, "/executor")),
        *((f"/stream/{how}", app_that_streams) for how in ("sync", "async", "context")),
        ("/background/sync", app_that_asks_afterwards),
        ("/background/async", app_that_asks_afterwards),
        ("/background/coroutine", app_that_asks_afterwards),
        ("/teardown", app_that_asks_afterwards),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_users_at_once(
    path: str, serving: Callable[[Model], FastAPI], sink: Sink, model: Model
) -> None:
    """Never one user's id on another's event, and never a leak into the next request."""
    with asgi_server(serving(model)) as address:
        questions = visit_all(address, path)
        check(sink, questions)
