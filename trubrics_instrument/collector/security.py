"""Who may talk to the collector, and what a browser may do with its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from trubrics_instrument._base.hosts import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_HOST = "*"
_SITE = "sec-fetch-site"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: a form would then be sent with `Origin: null`, and refused below.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses requests for other hosts, and sends the headers that confine a page.

    The host is checked because a page of any site can have its own name resolve to 127.0.0.1
    and then read this server as if it were its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if self._is_known(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send_confined)
            return
        refusal = PlainTextResponse("This is not a host of this collector.\n", 421)
        await refusal(scope, receive, send_confined)

    def _is_known(self, host: str) -> bool:
        return ANY_HOST in self._hosts or hostname(f"//{host}") in self._hosts


def is_same_origin(request: Request) -> bool:
    """Return whether a page of this collector sent the form, as far as a browser sent it.

    Every browser names the origin of a POST, or at least from what kind of site it comes. What is
    no browser names none, and carries no login of somebody else either.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get(_SITE, "none") in {"none", "same-origin"}
    return origin.partition("://")[2] == request.headers.get("host")


def may_send(request: Request, *, has_key: bool) -> bool:
    """Return whether a page may send events from where it is.

    Where no key is demanded, only pages of this machine may: any site could fill the file.
    """
    if has_key:
        return True
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get(_SITE) != "cross-site"
    return hostname(origin) in LOOPBACK_HOSTS


def hostname(url: str) -> str | None:
    """Return the host of a URL, lower-case, without port and brackets; None if it has none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
