"""What a host is: this machine or another one, and whether its API answered or a page before it."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

# Trubrics' own. Source: Trubrics documentation, "Track events".
TRUBRICS_HOST = "https://app.trubrics.com/api/ingestion"
LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = frozenset({LOOPBACK, "localhost", "::1"})
COLLECTOR_PORT = 8782
_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark is none of the text


def is_loopback(host: str) -> bool:
    """Whether a URL leads to this machine."""
    name = urlsplit(host).hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_address(text: str) -> bool:
    """Whether a text is the URL of a host, over HTTP or HTTPS, to which a path can be added."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and not (parts.query or parts.fragment)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return False


def proxies_to(host: str) -> dict[str, str]:
    """Return what keeps `requests` from taking a proxy of the environment's to this machine.

    A proxy would fail to reach what only this machine can, and would see the prompts.
    """
    return {"no_proxy": urlsplit(host).hostname or ""} if is_loopback(host) else {}


def no_login(request: T) -> T:
    """Add nothing to a request: as a session's `auth`, keep `requests` from reading `~/.netrc`.

    It would send a login meant for another program, in place of a header of the app's own.
    """
    return request


def is_page(content_type: str, body: bytes) -> bool:
    """Whether a web page answered where the API was asked: a network's or a proxy's login, mostly.

    An empty body is none, and JSON is none either, whatever type it is sent as: frameworks call
    what they know nothing of `text/html`.
    """
    text = body.strip(_BLANK)
    if text.startswith(b"<"):
        return True
    return bool(text) and content_type.lower().startswith(_PAGE_TYPES) and not _is_json(text)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
