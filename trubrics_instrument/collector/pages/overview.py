"""The overview: how much is asked, by whom, and how it turns out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from trubrics_instrument.collector.pages._render import render
from trubrics_instrument.collector.schema import MEASURES

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from trubrics_instrument.collector.store import Store

_TOTALS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in MEASURES)


def routes(store: Store) -> list[Route]:
    """Return the page's route."""

    def overview(request: Request) -> Response:
        with store.reading() as db:
            shown = _read(db)
        origin = f"{request.url.scheme}://{request.url.netloc}"
        return render(request, "overview.html", {"origin": origin, **shown})

    return [Route("/", overview)]


def _read(db: sqlite3.Connection) -> dict[str, object]:
    totals = db.execute(
        f"SELECT {_TOTALS} FROM model_sums WHERE grain = 'day'"  # noqa: S608 - names from schema
    ).fetchone()
    users = db.execute("SELECT count(*) FROM users").fetchone()[0]
    threads = db.execute("SELECT count(*) FROM threads").fetchone()[0]
    latest = db.execute("SELECT * FROM threads ORDER BY last_at DESC LIMIT 20").fetchall()
    return {"totals": totals, "users": users, "threads": threads, "latest": latest}
