"""One conversation, as it was held."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from trubrics_instrument.collector.pages._render import render
from trubrics_instrument.collector.transfer import to_wire

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request

    from trubrics_instrument.collector.store import Store

EVENTS_PER_PAGE = 200
SHOWN_CHARS = 8_000
_WITHOUT_TEXT = {"incomplete": "It was not finished", "unread": "It could not be read"}
_MISSING = {
    "title": "No such conversation",
    "text": "No conversation has this id. It may have been deleted.",
}


def routes(store: Store) -> list[Route]:
    """Return the page's route, and those of one event's JSON and whole text."""

    def thread(request: Request) -> Response:
        thread_id = request.path_params.get("thread_id", request.query_params.get("id", ""))
        page = _page_number(request.query_params.get("page", ""))
        with store.reading() as db:
            shown = _read(db, thread_id, page)
        if shown is None:
            return render(request, "message.html", _MISSING, status=404)
        return render(request, "thread.html", shown)

    def raw(request: Request) -> Response:
        with store.reading() as db:
            row = _event(db, request.path_params["id"])
        if row is None:
            return PlainTextResponse("No such event.\n", 404)
        text = json.dumps(to_wire(row), ensure_ascii=False, indent=2)
        return Response(text, media_type="application/json")

    def whole_text(request: Request) -> Response:
        with store.reading() as db:
            row = _event(db, request.path_params["id"])
        if row is None:
            return PlainTextResponse("No such event.\n", 404)
        return PlainTextResponse(row["text"] or "")

    return [
        Route("/thread", thread),
        Route("/threads/{thread_id:path}", thread),
        Route("/events/{id:int}.json", raw),
        Route("/events/{id:int}.txt", whole_text),
    ]


def _page_number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 1  # noqa: PLR2004 - digits


def _event(db: sqlite3.Connection, event_id: int) -> sqlite3.Row | None:
    query = "SELECT * FROM events WHERE id = ?"
    found = db.execute(query, (min(event_id, 2**62),)).fetchone()
    return cast("sqlite3.Row | None", found)


def _read(db: sqlite3.Connection, thread_id: str, page: int) -> dict[str, object] | None:
    thread = db.execute("SELECT * FROM threads WHERE thread_id = ?", (thread_id,)).fetchone()
    if thread is None:
        return None
    pages = -(-thread["events"] // EVENTS_PER_PAGE)
    page = min(max(page, 1), pages)
    events = db.execute(
        "SELECT *, substr(text, 1, ?) AS shown, length(text) AS text_chars FROM events "
        "WHERE id IN (SELECT event FROM thread_events WHERE number = ? "
        "ORDER BY timestamp, event LIMIT ? OFFSET ?) ORDER BY timestamp, id",
        (SHOWN_CHARS, thread["number"], EVENTS_PER_PAGE, (page - 1) * EVENTS_PER_PAGE),
    ).fetchall()
    return {
        "thread": thread,
        "entries": [to_entry(event) for event in events],
        "page": page,
        "pages": pages,
    }


def to_entry(event: sqlite3.Row) -> dict[str, object]:
    """Return an event with those of its properties that a page shows.

    A database can be edited by hand, so a property may be of any type here.
    """
    properties = cast("dict[str, object]", json.loads(event["properties"]))
    keep = ("tool_name", "error_type", "score", "status", "finish_reason")
    entry = {name: _scalar(properties.get(name)) for name in keep}
    return {"event": event, **entry, "textless": _why_textless(entry)}


def _why_textless(entry: dict[str, str | None]) -> str:
    if entry["finish_reason"] == "interrupt":
        return "Stopped to wait for a person"
    return _WITHOUT_TEXT.get(entry["status"] or "", "No text was kept")


def _scalar(value: object) -> str | None:
    return None if value is None else str(value)[:100]
