"""A middleware for Django, synchronous and asynchronous, that knows the signed-in user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings  # type: ignore[import-untyped] # Django ships no types
from django.core.exceptions import (  # type: ignore[import-untyped] # as above
    SynchronousOnlyOperation,
)

from trubrics_instrument._base.decorate import decorate
from trubrics_instrument._context.web import Sources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trubrics_instrument._context.scope import Request

GetResponse: TypeAlias = Callable[[Any], Any]

_settings: Any = settings
_OPTIONS = frozenset({"user_id", "thread_id", "properties"})


def signed_in_user(request: Any) -> object:
    """Return the primary key of the user who is signed in; None for nobody, or nobody yet.

    An asynchronous view that has not looked at its user by now leaves it in the database, which
    may not be asked there.
    """
    user = getattr(request, "_acached_user", None) or getattr(request, "user", None)
    try:
        return getattr(user, "pk", None)
    except SynchronousOnlyOperation:
        return None


class TrubricsMiddleware:
    """Gives each request a scope of its own, which `identify()` fills; streamed bodies included.

    Add `"trubrics_instrument.django.TrubricsMiddleware"` to `MIDDLEWARE`. The user is the one who
    is signed in, asked for when a model is called. More is in the settings:

        TRUBRICS = {"thread_id": "X-Conversation-Id", "properties": {"app": "shop"}}

    where `user_id` and `thread_id` are a header's name or a callable of the request, and
    `properties` is a dict or a callable of the request.

    Raises:
        ValueError: An unknown or impossible option in the settings.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        options: dict[str, Any] = {"user_id": signed_in_user, **getattr(_settings, "TRUBRICS", {})}
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ValueError(f"settings.TRUBRICS has unknown options: {', '.join(sorted(unknown))}")
        self._sources = Sources(
            _header, options["user_id"], options.get("thread_id"), options.get("properties")
        )
        self._get_response = get_response
        self._is_async = bool(iscoroutinefunction(get_response))
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Run the rest of Django on one request."""
        if self._is_async:
            return self._respond_async(request)
        scope = self._sources.request(request, _notes(request))
        with scope:
            return _streaming_inside(self._get_response(request), scope)

    async def _respond_async(self, request: Any) -> Any:
        scope = self._sources.request(request, _notes(request))
        with scope:
            return _streaming_inside(await self._get_response(request), scope)


def _streaming_inside(response: Any, scope: Request) -> Any:
    """Let a streamed body, which the server reads later, run inside its request."""
    if getattr(response, "streaming", False) and not hasattr(response, "file_to_stream"):
        steps = _async_steps if response.is_async else _steps
        response.streaming_content = decorate(steps, lambda: scope)(response.streaming_content)
    return response


def _steps(body: Any) -> Iterator[Any]:
    yield from body


async def _async_steps(body: Any) -> AsyncIterator[Any]:
    async for part in body:
        yield part


def _notes(request: Any) -> Any:
    """Return the ASGI scope or the WSGI environ that the request was made of."""
    return getattr(request, "scope", None) or getattr(request, "META", {})


def _header(request: Any, name: str) -> object:
    return request.headers.get(name)
