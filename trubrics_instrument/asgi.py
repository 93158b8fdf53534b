"""A middleware for FastAPI, Starlette, Quart, Litestar, Django's ASGI: whatever speaks ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from trubrics_instrument import _public
from trubrics_instrument._base.exit import end_all
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.web import Sources
from trubrics_instrument.serverless import flush_budget_s

if TYPE_CHECKING:
    from trubrics_instrument._context.web import Properties, Source

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LAST_S = 3.0
_LAST_TURNS = 50
_LAST_WORDS = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class TrubricsMiddleware:
    """Gives each request (and each WebSocket) a scope of its own, which `identify()` fills.

        app.add_middleware(TrubricsMiddleware, thread_id="x-conversation-id")

    When the server shuts down, answers that are still coming end as far as they came, and what is
    not delivered yet is: uvicorn runs no `atexit` on SIGTERM.

    Args:
        app: The ASGI app inside.
        user_id: Who asks: a header's name, if you trust that header, or a callable of the ASGI
            scope, which is asked when a model is called.
        thread_id: The conversation: the same.
        properties: Properties of every event of a request: a dict, or a callable of the scope.
        flush_s: How long the end of an answer may wait until its events are delivered. If None,
            a second where the platform freezes the process after it (AWS Lambda, Cloud Run, ...),
            elsewhere not at all.

    Raises:
        ValueError: An argument that is neither, or an impossible budget.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        user_id: Source = None,
        thread_id: Source = None,
        properties: Properties = None,
        flush_s: float | None = None,
    ) -> None:
        self.app = app
        self._flush_s = flush_budget_s(flush_s)
        self._sources = Sources(_header, user_id, thread_id, properties)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Run the app on one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, _flushing(send))
            return
        if self._flush_s is not None:
            send = _flushing(send, self._flush_s)
        with self._sources.request(scope, scope):
            await self.app(scope, receive, send)


def _flushing(send: Send, timeout_s: float = _LAST_S) -> Send:
    """Return `send`, which delivers what is left before the last word of a request, or of all."""

    async def sending(message: Message) -> None:
        if _is_last(message):
            with shield("delivering what is left"):
                if message["type"] in _LAST_WORDS:
                    await _end_all()
                await _public.aflush(timeout_s)
        await send(message)

    return sending


async def _end_all() -> None:
    """End what is open, once the tasks that the server has just cancelled have ended theirs."""
    if asyncio._get_running_loop() is not None:
        for _ in range(_LAST_TURNS):  # each layer of an app takes a few
            await asyncio.sleep(0)
    end_all()


def _is_last(message: Message) -> bool:
    if message["type"] == "http.response.body":
        return not message.get("more_body", False)
    return message["type"] in _LAST_WORDS


def _header(scope: MutableMapping[str, Any], name: str) -> str | None:
    wanted = name.lower().encode("latin-1", "replace")
    found: list[bytes] = [value for key, value in scope["headers"] if key.lower() == wanted]
    # All in one, as WSGI's servers do it: the first may be the client's, and the last the proxy's.
    return b",".join(found).decode("latin-1") if found else None
