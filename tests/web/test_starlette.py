"""Starlette: a trusted header, a callable of the scope, sessions, and middleware of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tests.web.serving import asgi_server, check, visit, visit_all
from trubrics_instrument.asgi import TrubricsMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from tests.sink import Sink
    from tests.web.serving import Model


def app_with(model: Model, *around: Middleware) -> Starlette:
    """Return an app that answers, or streams an answer."""

    async def ask(request: Request) -> Response:
        return PlainTextResponse(await model.ask_async(request.query_params["question"]))

    def ask_sync(request: Request) -> Response:
        return PlainTextResponse(model.ask(request.query_params["question"]))

    async def stream(request: Request) -> Response:
        async def body() -> AsyncIterator[str]:
            yield await model.ask_async(request.query_params["question"])

        return StreamingResponse(body())

    routes = [Route("/ask", ask), Route("/sync", ask_sync), Route("/stream", stream)]
    return Starlette(routes=routes, middleware=list(around))


async def sign_in(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Put the user where apps put it, as an authentication middleware does."""
    request.state.user = request.headers.get("x-user")
    return await call_next(request)


def user_of(scope: dict[str, Any]) -> object:
    """Return the user whom the app's own middleware has found."""
    return scope.get("state", {}).get("user")


def test_a_named_header(sink: Sink, model: Model) -> None:
    """A header is trusted for the user if it is named, in sync, async and streamed answers."""
    ours = Middleware(TrubricsMiddleware, user_id="X-User", thread_id="x-conversation")
    with asgi_server(app_with(model, ours)) as address:
        questions = sum(visit_all(address, path) for path in ("/ask", "/sync", "/stream"))
        check(sink, questions)


def test_a_callable_is_asked_late(sink: Sink, model: Model) -> None:
    """The callable sees what a middleware that runs after ours has found out."""
    ours = Middleware(TrubricsMiddleware, user_id=user_of, thread_id="x-conversation")
    theirs = Middleware(BaseHTTPMiddleware, dispatch=sign_in)
    with asgi_server(app_with(model, ours, theirs)) as address:
        check(sink, visit_all(address, "/ask"))


def test_no_header_is_trusted(sink: Sink, model: Model) -> None:
    """A header that nobody named is not believed, whatever it is called."""
    ours = Middleware(TrubricsMiddleware, properties={"app": "shop"})
    with asgi_server(app_with(model, ours)) as address:
        visit(address, "/ask", "nobody", **{"X-User-Id": "mallory", "X-Trubrics-User-Id": "m"})
        prompt, generation = sink.wait_for(2)
    assert prompt["user_id"] == generation["user_id"]
    assert prompt["user_id"].startswith("anon-")
    assert [event["properties"]["app"] for event in (prompt, generation)] == ["shop", "shop"]
