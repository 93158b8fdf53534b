"""The ingestion endpoints, as the service documents them."""

from __future__ import annotations

import asyncio
import hmac
import logging
import sqlite3
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trubrics_instrument.collector import validate
from trubrics_instrument.collector.security import may_send
from trubrics_instrument.collector.validate import InvalidBodyError
from trubrics_instrument.collector.writer import BusyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from trubrics_instrument.collector.rows import Row
    from trubrics_instrument.collector.store import Store

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
PREFIXES = ("/", "/api/ingestion/")
_READERS = {
    "publish_event": validate.read_event,
    "publish_events": validate.read_events,
    "publish_llm_events": validate.read_llm_events,
}
# So that the official JavaScript SDK can send from a page of an app under development.
_CORS = {
    "Access-Control-Allow-Headers": "content-type, x-api-key",
    "Access-Control-Allow-Methods": "POST",
    "Vary": "Origin",
}


class _TooLargeError(Exception):
    """The body is larger than the endpoint takes."""


def ingestion_routes(store: Store, api_key: str | None) -> list[Route]:
    """Return the three endpoints, under both prefixes."""
    return [
        Route(f"{prefix}{name}", _endpoint(store, api_key, read), methods=["POST", "OPTIONS"])
        for prefix in PREFIXES
        for name, read in _READERS.items()
    ]


def is_ingestion(path: str) -> bool:
    """Return whether the path (below where the app is mounted) takes events."""
    prefix, slash, name = path.rpartition("/")
    return prefix + slash in PREFIXES and name in _READERS


def _endpoint(
    store: Store, api_key: str | None, read: Callable[[bytes], list[Row]]
) -> Callable[[Request], Awaitable[Response]]:
    async def publish(request: Request) -> Response:
        origin = request.headers.get("origin")
        if not may_send(request, has_key=api_key is not None):
            return _refusal(403, "Pages of this origin may not send events here")
        if origin is None:
            return await take(request)
        answer = Response() if request.method == "OPTIONS" else await take(request)
        answer.headers.update({**_CORS, "Access-Control-Allow-Origin": origin})
        return answer

    async def take(request: Request) -> Response:
        if not _is_authorized(request, api_key):
            return _refusal(401, "Invalid API key")
        try:
            body = await _read_body(request)
            rows = await run_in_threadpool(read, body)
            added = await asyncio.wrap_future(store.add(rows, len(body)))
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except _TooLargeError:
            return _refusal(413, f"The body may have at most {MAX_BODY_BYTES} bytes")
        except InvalidBodyError as error:
            return JSONResponse({"detail": error.detail}, 422)
        except (BusyError, sqlite3.OperationalError) as error:
            # A full disk or a locked file passes: the sender keeps the events and comes back.
            logger.warning("Events were not taken for now: %s", error)
            return JSONResponse({"detail": "Not now"}, 503, {"Retry-After": "1"})
        return JSONResponse({"stored": added.stored, "duplicates": added.duplicates})

    return publish


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _is_authorized(request: Request, api_key: str | None) -> bool:
    if api_key is None:
        return True
    given = request.headers.get("x-api-key") or request.query_params.get("project_api_key", "")
    return hmac.compare_digest(given.encode(), api_key.encode())


async def _read_body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY_BYTES:
        raise _TooLargeError
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > MAX_BODY_BYTES:
            raise _TooLargeError
        chunks.append(chunk)
    return b"".join(chunks)
