"""What a web request says of who asks, for a middleware of whichever kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeAlias
from weakref import ref

from trubrics_instrument._base.checks import check_source
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.scope import Request, Said

Source: TypeAlias = str | Callable[[Any], object] | None
Properties: TypeAlias = Mapping[str, object] | Callable[[Any], Mapping[str, object] | None] | None
Headers: TypeAlias = Callable[[Any, str], object]

_KEY = "trubrics_instrument.request"
# Source: RFC 9110, section 5.6.2, "token".
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Sources:
    """Where a middleware finds the user, the conversation and the properties of a request.

    Args:
        header: Returns the header of that name of a request (an ASGI scope, a WSGI environ, ...).
        user_id: A header's name, or a callable of the request. None trusts nothing: a header is
            whatever its sender wants it to be.
        thread_id: The same for the conversation.
        properties: Properties of every event of a request, or a callable of the request.

    Raises:
        ValueError: A source that is neither a name nor a callable, or an async one.
    """

    def __init__(
        self, header: Headers, user_id: Source, thread_id: Source, properties: Properties
    ) -> None:
        _check("user_id", user_id, str, "a header's name")
        _check("thread_id", thread_id, str, "a header's name")
        _check("properties", properties, Mapping, "a dict")
        self._header = header
        self._user_id = user_id
        self._thread_id = thread_id
        self._properties = properties

    def request(self, carrier: Any, notes: MutableMapping[str, Any]) -> Request:
        """Return the scope of one request, the same for each middleware that it passes.

        It is asked again at each model call: whoever signs users in may run after the middleware.

        Args:
            carrier: What the sources are asked about.
            notes: What goes with the request to the apps that are mounted inside (an ASGI scope,
                a WSGI environ). Not a context variable: a server may start the next request of a
                connection inside of the one before.
        """
        request = Request()
        with shield("knowing a request again"):
            request = _noted(notes)
        request.comes_with(lambda: self._said(carrier))
        return request

    def _said(self, carrier: Any) -> Said:
        return Said(
            user_id=self._id(self._user_id, carrier),
            thread_id=self._id(self._thread_id, carrier),
            properties=self._own(carrier),
        )

    def _id(self, source: Source, carrier: Any) -> str | None:
        if source is None:
            return None
        with shield("asking the app whose request this is"):
            found = source(carrier) if callable(source) else self._header(carrier, source)
            return clean_id(found)
        return None

    def _own(self, carrier: Any) -> Mapping[str, object]:
        if not callable(self._properties):
            return self._properties or {}
        with shield("asking the app for a request's properties"):
            return dict(self._properties(carrier) or {})
        return {}


def _noted(notes: MutableMapping[str, Any]) -> Request:
    """Return the request that the notes are of."""
    note: Callable[[], Request | None] | None = notes.get(_KEY)
    request = (note and note()) or Request()
    notes[_KEY] = ref(request)  # weak: what it came with holds the notes
    return request


def _check(name: str, value: object, kind: type, wanted: str) -> None:
    check_source(name, value)
    if value is not None and not isinstance(value, kind) and not callable(value):
        raise ValueError(f"{name} must be {wanted} or a callable, not {type(value).__name__}")
    if isinstance(value, str) and not _HEADER.fullmatch(value):
        raise ValueError(f"{name}={value!r} is no name that a header can have")
