"""Django: the signed-in user, synchronous and asynchronous, streamed or not."""

# Django ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportArgumentType=false
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import django
import pytest
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import (
    SynchronousOnlyOperation,
)
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpResponse,
    StreamingHttpResponse,
)
from django.test import AsyncRequestFactory, RequestFactory
from django.test.utils import override_settings
from django.urls import path
from django.utils.decorators import (
    sync_and_async_middleware,
)
from django.utils.functional import SimpleLazyObject

from tests.web.serving import Model, asgi_server, check, visit_all, wsgi_server
from trubrics_instrument import asgi, wsgi
from trubrics_instrument._context.scope import said
from trubrics_instrument.django import TrubricsMiddleware, signed_in_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.sink import Sink

OURS = "trubrics_instrument.django.TrubricsMiddleware"
THEIRS = f"{__name__}.sign_in"

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=[THEIRS, OURS],
    ROOT_URLCONF=__name__,
    SECRET_KEY="k",
    TRUBRICS={"thread_id": "X-Conversation"},
)
django.setup()
models: list[Model] = []


class Person:
    """A user as Django has them: with a primary key, or with none."""

    def __init__(self, pk: str | None) -> None:
        self.pk = pk


@sync_and_async_middleware  # type: ignore[untyped-decorator] # Django's
def sign_in(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Set a lazy `request.user`, as Django's own authentication does."""

    def found(request: Any) -> Any:
        request.user = SimpleLazyObject(lambda: Person(request.headers.get("x-user")))
        return request

    if iscoroutinefunction(get_response):

        async def respond_async(request: Any) -> Any:
            return await get_response(found(request))

        return respond_async
    return lambda request: get_response(found(request))


def ask(request: Any) -> HttpResponse:
    """Answer."""
    return HttpResponse(models[-1].ask(request.GET["question"]))


async def ask_async(request: Any) -> HttpResponse:
    """Answer, asynchronously."""
    return HttpResponse(await models[-1].ask_async(request.GET["question"]))


def stream(request: Any) -> StreamingHttpResponse:
    """Stream an answer."""

    def body() -> Iterator[str]:
        yield from models[-1].stream(request.GET["question"])

    return StreamingHttpResponse(body())


async def stream_async(request: Any) -> StreamingHttpResponse:
    """Stream an answer, asynchronously."""

    async def body() -> AsyncIterator[str]:
        yield await models[-1].ask_async(request.GET["question"])

    return StreamingHttpResponse(body())


urlpatterns = [
    path("sync", ask),
    path("async", ask_async),
    path("stream/sync", stream),
    path("stream/async", stream_async),
]


@pytest.mark.parametrize(
    ("where", "serving", "application"),
    [
        ("/sync", wsgi_server, get_wsgi_application),
        ("/async", wsgi_server, get_wsgi_application),
        ("/stream/sync", wsgi_server, get_wsgi_application),
        ("/sync", asgi_server, get_asgi_application),
        ("/async", asgi_server, get_asgi_application),
        ("/stream/async", asgi_server, get_asgi_application),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_users_at_once(
    where: str, serving: Any, application: Any, sink: Sink, model: Model
) -> None:
    """Never one user's id on another's event, and never a leak into the next request."""
    models.append(model)
    with serving(application()) as address:
        check(sink, visit_all(address, where))


@pytest.mark.parametrize("outside", ["asgi", "wsgi"])
def test_a_middleware_around_django(outside: str) -> None:
    """It is one request: what the middleware outside knows of it holds in Django as well."""
    seen: list[str | None] = []

    def view(_: Any) -> HttpResponse:
        seen.append(said().user_id)
        return HttpResponse()

    inside = TrubricsMiddleware(view)
    if outside == "wsgi":
        around = wsgi.TrubricsMiddleware(
            lambda environ, _: [inside(WSGIRequest(environ)).content], user_id="x-user"
        )
        around({**RequestFactory().get("/").META, "HTTP_X_USER": "ada"}, lambda *_: None)
    else:

        async def app(scope: Any, *_: Any) -> None:
            inside(ASGIRequest(scope, io.BytesIO()))

        request: Any = AsyncRequestFactory().get("/")
        scope = {**request.scope, "headers": [(b"x-user", b"ada")]}
        call: Any = asgi.TrubricsMiddleware(app, user_id="x-user")
        asyncio.run(call(scope, None, None))
    assert seen == ["ada"]


def test_nobody_is_signed_in() -> None:
    """No user, an anonymous one, and one whom an async view has not asked for, are nobody."""

    class Unasked:
        @property
        def pk(self) -> str:
            raise SynchronousOnlyOperation

    class Request:
        def __init__(self, user: object) -> None:
            self.user = user

    assert signed_in_user(object()) is None
    assert signed_in_user(Request(Person(None))) is None
    assert signed_in_user(Request(Unasked())) is None
    assert signed_in_user(Request(Person("7"))) == "7"


def test_a_user_whom_an_async_view_has_asked_for() -> None:
    """What `await request.auser()` has found is who asks."""

    class Request:
        _acached_user = Person("7")
        user = Person(None)

    assert signed_in_user(Request()) == "7"


def test_a_file_is_left_to_the_server() -> None:
    """A file that the server can send by itself is handed on as it is."""
    file = io.BytesIO(b".")
    response = FileResponse(file)
    assert TrubricsMiddleware(lambda _: response)(object()) is response
    assert response.file_to_stream is file
    response.close()


def test_impossible_settings() -> None:
    """A mistake in the settings is told when Django starts."""
    with (
        override_settings(TRUBRICS={"user": "X-User"}),
        pytest.raises(ValueError, match=r"settings\.TRUBRICS has unknown options: user"),
    ):
        TrubricsMiddleware(ask)
