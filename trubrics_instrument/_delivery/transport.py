"""One POST at a time over a kept-alive `requests.Session`, and never an exception."""

from __future__ import annotations

import copy
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests
from requests.cookies import RequestsCookieJar

from trubrics_instrument._base.hosts import no_login, proxies_to
from trubrics_instrument._version import __version__

from .retry import SINGLE_ENDPOINT, Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .options import SenderOptions

MAX_ANSWER_BYTES = 64 * 1024


class Transport:
    """A connection of its own to the host; used by one thread."""

    def __init__(self, options: SenderOptions) -> None:
        self._session = own_session(options.session)
        self._clock = options.clock
        self._is_foreign = options.session is not None
        self._prepared: dict[str, requests.PreparedRequest] = {}
        self._settings: dict[str, Any] = {}
        self._proxies = proxies_to(options.host)
        self._base = options.host.rstrip("/") + "/"
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"trubrics-instrument/{__version__}",
        }
        if options.api_key is not None:
            self._headers["x-api-key"] = options.api_key

    def post(
        self, bodies: Sequence[bytes], endpoint: str, timeout_s: tuple[float, float]
    ) -> Answer:
        """Send the events and return what came back.

        Args:
            bodies: Each event as JSON; `publish_event` takes exactly one.
            endpoint: `publish_events` or `publish_event`.
            timeout_s: To connect, and between bytes of the answer; its body may go on for no
                longer than that after the start of the request.
        """
        until_s = self._clock() + timeout_s[1]
        payload = bodies[0] if endpoint == SINGLE_ENDPOINT else _array(bodies)
        try:
            # A redirected POST becomes a GET: it would look delivered, and be lost.
            request = self._request(endpoint, payload)
            with self._session.send(
                request, timeout=timeout_s, allow_redirects=False, **self._settings
            ) as response:
                return self._read(response, until_s)
        except requests.exceptions.ConnectTimeout as error:
            return Answer(None, type(error).__name__)
        except Exception as error:
            return Answer(None, type(error).__name__, maybe_taken=not _never_sent(error))

    def _request(self, endpoint: str, payload: bytes) -> requests.PreparedRequest:
        """Return the request; what does not change is prepared once, which halves its cost.

        An app's session may sign each request, so for that one nothing is kept.
        """
        prepared = None if self._is_foreign else self._prepared.get(endpoint)
        if prepared is None:
            url = self._base + endpoint
            new = requests.Request("POST", url, headers=self._headers, data=payload)
            prepared = self._prepared[endpoint] = self._session.prepare_request(new)
            merge: Any = self._session.merge_environment_settings
            self._settings = {**merge(url, self._proxies, None, None, None), "stream": True}
        prepared.body = payload
        prepared.headers["Content-Length"] = str(len(payload))
        return prepared

    def _read(self, response: requests.Response, until_s: float) -> Answer:
        """Read the answer to its end, if that is near, so that the connection can be kept.

        Where that does not come in time, the status counts: who gave it has the events.
        """
        body, error = b"", ""
        read = getattr(response.raw, "read1", response.raw.read)  # read1: urllib3 2
        with suppress(Exception):
            while len(body) < MAX_ANSWER_BYTES:
                more: bytes = read(MAX_ANSWER_BYTES, decode_content=True)
                if not more:
                    break
                body += more
                if self._clock() > until_s:
                    error = "an answer without end"
                    break
        headers = response.headers
        return Answer(
            response.status_code,
            error,
            retry_after=headers.get("Retry-After"),
            content_type=headers.get("Content-Type", ""),
            body=body,
        )

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


def _array(bodies: Sequence[bytes]) -> bytes:
    """Return the events as one JSON array, which may be large: it is put together once."""
    pieces = [b"["]
    for body in bodies:
        pieces += (body, b",")
    pieces[-1] = b"]"
    return b"".join(pieces)


def _never_sent(error: BaseException) -> bool:
    """Tell whether no connection was made at all: then the host cannot have the events."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError", "ProxyError"}


def own_session(session: requests.Session | None) -> requests.Session:
    """Return a session that shares no connection with the app's, and keeps its cookies to itself.

    A copied adapter starts with an empty pool, which is also what a forked child needs.
    Source: `HTTPAdapter.__setstate__`, requests 2.28 to 2.34.
    """
    own: Any = requests.Session() if session is None else copy.copy(session)
    own.auth = own.auth or no_login
    if session is not None:
        cookies: Any = RequestsCookieJar()
        cookies.update(session.cookies)
        own.cookies = cookies
        own.adapters = OrderedDict(
            (prefix, copy.copy(adapter)) for prefix, adapter in session.adapters.items()
        )
    return own  # type: ignore[no-any-return]  # Any only to replace what it has
