"""The WSGI middleware: bodies that come in steps, and apps left exactly as they are."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest

from trubrics_instrument import identify
from trubrics_instrument._context import scope
from trubrics_instrument.wsgi import TrubricsMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator


def start_response(*_: Any) -> None:
    """Take the status."""


def respond(body: Any, **environ: Any) -> Any:
    """Return what the server gets from an app that returns `body`, or calls it to get one."""

    def app(*asked: Any) -> Any:
        return body(*asked) if callable(body) else body

    return TrubricsMiddleware(app, user_id="X-User")(environ, start_response)


def test_streamed_body() -> None:
    """Each step runs inside the request, and so does the end; in between, nothing holds."""
    seen: list[str | None] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            identify("ada")
            for _ in range(2):
                seen.append(scope.said().user_id)
                yield b"."

        def close(self) -> None:
            seen.append(scope.said().user_id)

    body = respond(Body())
    assert next(body) == b"."
    assert scope.said().user_id is None
    assert list(body) == [b"."]
    body.close()
    assert seen == ["ada"] * 3
    assert scope.said() == scope.Said()


def test_bodies_that_are_ready() -> None:
    """A list, or a file for the server to send, is handed on as it is: servers look at them."""
    files = FileWrapper(io.BytesIO(b"."))
    for body in ([b"."], (b".",), files):
        assert respond(body, **{"wsgi.file_wrapper": FileWrapper}) is body


def test_a_body_without_close() -> None:
    """A body need not have a `close()`."""
    body = respond(iter([b"."]))
    assert list(body) == [b"."]
    body.close()


def test_exceptions_pass() -> None:
    """The app's exception passes untouched, and leaves nothing behind."""
    error = KeyError("the app's own")

    def app(*_: Any) -> Any:
        identify("ada")
        raise error

    with pytest.raises(KeyError) as caught:
        respond(app)
    assert caught.value is error
    assert scope.said() == scope.Said()


def test_headers() -> None:
    """A header's name is looked up as WSGI spells it."""
    seen: list[str | None] = []

    def app(*_: Any) -> list[bytes]:
        seen.append(scope.said().user_id)
        return []

    respond(app, HTTP_X_USER="ada")
    respond(app)
    assert seen == ["ada", None]


def test_no_header_is_trusted() -> None:
    """A header that nobody named is not believed."""
    seen: list[scope.Said] = []

    def app(*_: Any) -> list[bytes]:
        seen.append(scope.said())
        return []

    TrubricsMiddleware(app)({"HTTP_X_USER": "mallory", "REMOTE_USER": "m"}, start_response)
    assert seen == [scope.Said()]
