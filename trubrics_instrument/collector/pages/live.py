"""Events as they arrive."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from trubrics_instrument.collector import wording
from trubrics_instrument.collector.pages._render import base_path, render
from trubrics_instrument.collector.placing import THREAD

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from trubrics_instrument.collector.store import Store

LOOK_EVERY_S = 0.4
BEAT_EVERY = 25  # looks without news until a comment shows that the line stands
MOST_AT_ONCE = 100
SHOWN_AT_FIRST = 20
_SELECT = (
    "SELECT id, event, kind, user_id, assistant_id, timestamp, substr(text, 1, 400) AS text, "  # noqa: S608 - ours
    f"{THREAD} AS thread_id FROM events e"
)


def routes(store: Store) -> list[Route]:
    """Return the routes of the page and of its stream."""

    def live(request: Request) -> Response:
        with store.reading() as db:
            events = db.execute(
                f"{_SELECT} ORDER BY id DESC LIMIT ?",
                (SHOWN_AT_FIRST,),
            ).fetchall()
        newest = events[0]["id"] if events else 0
        return render(request, "live.html", {"events": events, "newest": newest})

    async def stream(request: Request) -> Response:
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        since = int(last) if last.isdecimal() and len(last) < 19 else None  # noqa: PLR2004 - digits
        stopping: Callable[[], bool] = request.app.state.stopping
        messages = _messages(store, base_path(request), since, stopping)
        return StreamingResponse(messages, media_type="text/event-stream")

    return [Route("/live", live), Route("/live/events", stream)]


async def _messages(
    store: Store, base: str, since: int | None, stopping: Callable[[], bool]
) -> AsyncGenerator[str, None]:
    """Yield server-sent events; each carries its id, by which a browser goes on after a break."""
    yield "retry: 1000\n\n"
    last = await run_in_threadpool(_newest, store) if since is None else since
    silent = 0
    while not stopping():
        events = await run_in_threadpool(_after, store, last)
        for event in events:
            last = event["id"]
            yield f"id: {last}\ndata: {json.dumps(_shown(event, base))}\n\n"
        silent = 0 if events else silent + 1
        if silent == BEAT_EVERY:
            silent = 0
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_EVERY_S)


def _newest(store: Store) -> int:
    with store.reading() as db:
        return int(db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])


def _after(store: Store, last: int) -> list[sqlite3.Row]:
    """Return the next events; of a flood only the newest, as nobody reads a flood."""
    with store.reading() as db:
        events = db.execute(
            f"{_SELECT} WHERE id > ? ORDER BY id DESC LIMIT ?",
            (last, MOST_AT_ONCE),
        ).fetchall()
    return events[::-1]


def _shown(event: sqlite3.Row, base: str) -> dict[str, str]:
    place = wording.path_to(event["thread_id"], "threads") if event["thread_id"] else ""
    return {
        "kind": event["kind"],
        "event": wording.shorten(event["event"], 60),
        "user": wording.shorten(event["user_id"], 60),
        "text": wording.shorten(event["text"] or "", 300),
        "time": wording.clock(event["timestamp"]),
        "href": base + (place or f"/events/{event['id']}.json"),
    }
