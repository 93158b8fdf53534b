"""Flask: worker threads that serve one request after the other keep nothing of the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import Flask, Response, request, stream_with_context

from tests.web.serving import Model, check, visit_all, wsgi_server
from trubrics_instrument import identify
from trubrics_instrument.wsgi import TrubricsMiddleware

if TYPE_CHECKING:
    from tests.sink import Sink


def app_with(model: Model) -> Flask:
    """Return an app that identifies its users before each request, as Flask apps do."""
    app = Flask(__name__)

    @app.before_request
    def sign_in() -> None:
        if user := request.headers.get("X-User"):
            identify(user)

    @app.get("/ask")
    def ask() -> str:
        return model.ask(request.args["question"])

    @app.get("/async")
    async def ask_async() -> str:
        return await model.ask_async(request.args["question"])

    @app.get("/stream")
    def stream() -> Response:
        return Response(model.stream(request.args["question"]))

    @app.get("/stream/context")
    def stream_in_context() -> Response:
        return Response(stream_with_context(model.stream(request.args["question"])))

    app.wsgi_app = TrubricsMiddleware(  # type: ignore[method-assign] # as Flask's docs do it
        app.wsgi_app, thread_id="X-Conversation"
    )
    return app


@pytest.mark.parametrize("path", ["/ask", "/async", "/stream", "/stream/context"])
def test_users_at_once(path: str, sink: Sink, model: Model) -> None:
    """Never one user's id on another's event, and never a leak into the thread's next request."""
    with wsgi_server(app_with(model)) as address:
        check(sink, visit_all(address, path))
