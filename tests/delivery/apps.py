"""Apps that servers run; where they deliver to comes from the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tests.delivery.children import new_sender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

sender = new_sender(
    os.environ["SINK_URL"],
    os.environ["SINK_SPOOL"],  # type: ignore[arg-type]  # the test's parameter
    os.environ["SINK_SPOOL_DIR"],
)


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Track the number in the path; flush when the server says that it shuts down."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await sender.aflush(3.0)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    assert sender.put(int(scope["path"].strip("/")))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Track the number in the path."""
    assert sender.put(int(environ["PATH_INFO"].strip("/")))
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
