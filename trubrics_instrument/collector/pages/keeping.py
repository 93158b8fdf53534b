"""What is kept: taking it along, and deleting a person's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from trubrics_instrument.collector import transfer
from trubrics_instrument.collector.pages._render import render
from trubrics_instrument.collector.pages.users import MISSING
from trubrics_instrument.collector.removal import delete_user
from trubrics_instrument.collector.security import is_same_origin
from trubrics_instrument.collector.wording import counted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Generator, Iterable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from trubrics_instrument.collector.store import Store

_FOREIGN = "This was not asked for by a page of this collector.\n"


def routes(store: Store) -> list[Route]:
    """Return the routes of the page, the exports and the deletion."""

    def kept(request: Request) -> Response:
        with store.reading() as db:
            (first,) = db.execute("SELECT min(timestamp) FROM events").fetchone()
            (last,) = db.execute("SELECT max(timestamp) FROM events").fetchone()
            query = "SELECT coalesce(sum(events), 0) FROM model_sums WHERE grain = 'day'"
            (count,) = db.execute(query).fetchone()
        size_bytes = store.path.stat().st_size
        shown = {"first": first, "last": last, "count": count, "size_bytes": size_bytes}
        return render(request, "data.html", {**shown, "file": str(store.path)})

    def jsonl(request: Request) -> Response:
        return _file(store, request, "jsonl", "application/x-ndjson", transfer.write_jsonl)

    def csv(request: Request) -> Response:
        return _file(store, request, "csv", "text/csv", transfer.write_csv)

    return [
        Route("/data", kept),
        Route("/export.jsonl", jsonl),
        Route("/export.csv", csv),
        *_deletion(store),
    ]


def _deletion(store: Store) -> list[Route]:
    def ask(request: Request) -> Response:
        user_id = request.query_params.get("user", "")
        with store.reading() as db:
            user = db.execute("SELECT * FROM users WHERE user_id = ?", (user_id,)).fetchone()
        if user is None:
            return render(request, "message.html", MISSING, status=404)
        return render(request, "delete.html", {"user": user})

    def delete(request: Request) -> Response:
        if not is_same_origin(request):
            return PlainTextResponse(_FOREIGN, 403)
        count = delete_user(store, request.query_params.get("user", ""))
        text = f"{counted(count, 'event')} deleted, and with that every text of this user."
        return render(request, "message.html", {"title": "Deleted", "text": text})

    return [Route("/delete", ask), Route("/delete", delete, methods=["POST"])]


def _file(
    store: Store,
    request: Request,
    ending: str,
    media_type: str,
    write: Callable[[Iterable[sqlite3.Row]], Iterator[str]],
) -> Response:
    asked = request.query_params

    def parts() -> Generator[str, None, None]:
        with store.reading() as db:
            events = transfer.select(
                db, user_id=asked.get("user", ""), since=asked.get("since", "")
            )
            yield from write(events)

    disposition = f'attachment; filename="conversations.{ending}"'
    return StreamingResponse(
        _joined(parts()), media_type=media_type, headers={"Content-Disposition": disposition}
    )


def _joined(parts: Iterable[str], size: int = 64 * 1024) -> Generator[str, None, None]:
    """Each piece goes through a thread: a line at a time would be mostly that."""
    waiting: list[str] = []
    length = 0
    for part in parts:
        waiting.append(part)
        length += len(part)
        if length > size:
            yield "".join(waiting)
            waiting, length = [], 0
    yield "".join(waiting)
