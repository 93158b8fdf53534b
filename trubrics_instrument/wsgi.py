"""A middleware for Flask, Django, Bottle, Pyramid: whatever speaks WSGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from trubrics_instrument import _public
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.web import Sources
from trubrics_instrument.serverless import flush_budget_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument._context.scope import Request
    from trubrics_instrument._context.web import Properties, Source

Environ: TypeAlias = "dict[str, Any]"
WsgiApp: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_WITHOUT_PREFIX = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


class TrubricsMiddleware:
    """Gives each request a scope of its own, which `identify()` fills; streamed bodies included.

        app.wsgi_app = TrubricsMiddleware(app.wsgi_app, thread_id="X-Conversation-Id")

    Args:
        app: The WSGI app inside.
        user_id: Who asks: a header's name, if you trust that header, or a callable of the WSGI
            environ, which is asked when a model is called.
        thread_id: The conversation: the same.
        properties: Properties of every event of a request: a dict, or a callable of the environ.
        flush_s: How long the end of an answer may wait until its events are delivered. If None,
            a second where the platform freezes the process after it (AWS Lambda, Cloud Run, ...),
            elsewhere not at all.

    Raises:
        ValueError: An argument that is neither, or an impossible budget.
    """

    def __init__(
        self,
        app: WsgiApp,
        *,
        user_id: Source = None,
        thread_id: Source = None,
        properties: Properties = None,
        flush_s: float | None = None,
    ) -> None:
        self.app = app
        self._flush_s = flush_budget_s(flush_s)
        self._sources = Sources(_header, user_id, thread_id, properties)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Run the app on one request."""
        request = self._sources.request(environ, environ)
        with request:
            body = self.app(environ, start_response)
        if not _is_ready(body, environ):
            return _Body(body, request, self._flush_s)
        _flush(self._flush_s)
        return body


class _Body:
    """A streamed body: the app's code runs at each step, inside its request.

    It is left between the steps: a worker's thread belongs to the next request as well, whether
    or not the server ever calls `close()`.
    """

    def __init__(self, body: Iterable[bytes], request: Request, flush_s: float | None) -> None:
        self._body = body
        self._request = request
        self._flush_s = flush_s
        self._steps: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._request:
            if self._steps is None:
                self._steps = iter(self._body)
            try:
                return next(self._steps)
            except StopIteration:
                _flush(self._flush_s)
                raise

    def close(self) -> None:
        """End the body, as the server asks."""
        close = getattr(self._body, "close", None)
        if close is not None:
            with self._request:
                close()


def _flush(timeout_s: float | None) -> None:
    if timeout_s is not None:
        with shield("delivering what is left"):
            _public.flush(timeout_s)


def _is_ready(body: Iterable[bytes], environ: Environ) -> bool:
    """Whether no code of the app is left to run, so that the server gets what the app returned."""
    if isinstance(body, (list, tuple)):
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def _header(environ: Environ, name: str) -> object:
    key = name.upper().replace("-", "_")
    return environ.get(key if key in _WITHOUT_PREFIX else f"HTTP_{key}")
