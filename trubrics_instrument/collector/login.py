"""The login that is demanded as soon as the collector can be reached from other machines."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse

from trubrics_instrument.collector.ingest import is_ingestion
from trubrics_instrument.collector.pages._render import base_path, render
from trubrics_instrument.collector.security import is_same_origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "trubrics_collector"
VALID_FOR_S = 12 * 3600
MAX_FORM_BYTES = 4096
MOST_FAILURES = 10
FAILURES_WITHIN_S = 60.0


class Login:
    """Lets nobody see a page who has not given the password; senders have their key instead."""

    def __init__(self, app: ASGIApp, password: str, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._password = password
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._failures: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        path = scope["path"].removeprefix(base_path(request))
        if path == "/login":
            await (await self._login(request))(scope, receive, send)
        elif path.startswith("/static/") or is_ingestion(path) or self._is_known(request):
            await self._app(scope, receive, send)
        else:
            await RedirectResponse(f"{base_path(request)}/login", 303)(scope, receive, send)

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return _form(request)
        if not is_same_origin(request):
            return PlainTextResponse("This form is not of this collector.\n", 403)
        if self._is_guessing():
            return _form(request, "Too many wrong passwords. Wait a minute.", 429)
        if not _is_same(await _read_password(request), self._password):
            self._failures.append(self._clock())
            return _form(request, "This is not the password.", 401)
        answer = RedirectResponse(f"{base_path(request)}/", 303)
        answer.set_cookie(
            COOKIE,
            self._sign(int(self._clock()) + VALID_FOR_S),
            max_age=VALID_FOR_S,
            path=f"{base_path(request)}/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def _is_known(self, request: Request) -> bool:
        cookie = request.cookies.get(COOKIE, "")
        until = cookie.partition(".")[0]
        if not until.isdecimal() or len(until) > 15 or int(until) < self._clock():  # noqa: PLR2004 - digits
            return False
        return _is_same(cookie, self._sign(int(until)))

    def _sign(self, until: int) -> str:
        digest = hmac.new(self._secret, str(until).encode(), hashlib.sha256).hexdigest()
        return f"{until}.{digest}"

    def _is_guessing(self) -> bool:
        now = self._clock()
        self._failures = [at for at in self._failures if now - at < FAILURES_WITHIN_S]
        return len(self._failures) >= MOST_FAILURES


def _form(request: Request, wrong: str = "", status: int = 200) -> Response:
    return render(request, "login.html", {"wrong": wrong}, status=status)


async def _read_password(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
