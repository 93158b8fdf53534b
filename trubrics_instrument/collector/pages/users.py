"""Who asks: the list of users, and what each one did."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.routing import Route

from trubrics_instrument.collector import charts, ranges, wording
from trubrics_instrument.collector.figures import Series
from trubrics_instrument.collector.finding import find
from trubrics_instrument.collector.pages._render import render
from trubrics_instrument.collector.pages.thread import to_entry
from trubrics_instrument.collector.placing import THREAD
from trubrics_instrument.collector.rows import clean
from trubrics_instrument.collector.wanted import Wanted

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from trubrics_instrument.collector.store import Store

USERS_PER_PAGE = 50
LOOSE_EVENTS_SHOWN = 50
_ORDERS = {"seen": "last_at", "prompts": "prompts"}
_AFTER_EVERY_ID = "\U0010ffff"
MISSING = {
    "title": "No such user",
    "text": "No user has this id. Their data may have been deleted.",
}


def routes(store: Store) -> list[Route]:
    """Return the routes of the list and of one user."""

    def users(request: Request) -> Response:
        with store.reading() as db:
            return render(request, "users.html", _list(db, dict(request.query_params)))

    def user(request: Request) -> Response:
        user_id = request.path_params.get("user_id", request.query_params.get("id", ""))
        with store.reading() as db:
            held = db.execute("SELECT * FROM users WHERE user_id = ?", (user_id,)).fetchone()
            if held is None:
                return render(request, "message.html", MISSING, status=404)
            after = request.query_params.get("after", "")
            return render(request, "user.html", _one(db, held, after))

    return [Route("/users", users), Route("/user", user), Route("/users/{user_id:path}", user)]


def _list(db: sqlite3.Connection, query: dict[str, str]) -> dict[str, object]:
    starts = clean(query.get("q", "").strip())
    order = query.get("order", "")
    order = order if order in _ORDERS else "seen"
    column = _ORDERS[order]
    offset = query.get("offset", "")
    skipped = int(offset) if offset.isdecimal() and len(offset) < 10 else 0  # noqa: PLR2004 - digits
    users = db.execute(
        f"SELECT *, (SELECT count(*) FROM threads t WHERE t.user_id = users.user_id) AS threads "  # noqa: S608 - one of two columns
        f"FROM users WHERE user_id >= ? AND user_id < ? "
        f"ORDER BY {column} DESC, user_id LIMIT ? OFFSET ?",
        (starts, starts + _AFTER_EVERY_ID, USERS_PER_PAGE + 1, skipped),
    ).fetchall()
    given = {name: value for name, value in (("q", starts), ("order", order)) if value}
    more = urlencode({**given, "offset": skipped + USERS_PER_PAGE})
    return {
        "users": users[:USERS_PER_PAGE],
        "starts": starts,
        "order": order,
        "more": more if len(users) > USERS_PER_PAGE else "",
    }


def _one(db: sqlite3.Connection, held: sqlite3.Row, after: str) -> dict[str, object]:
    user_id = held["user_id"]
    span = ranges.choose("90d", datetime.now(timezone.utc), None)
    query = "SELECT prompts FROM user_sums WHERE grain = 'day' AND period = ? AND user_id = ?"
    days = [db.execute(query, (day, user_id)).fetchone() or (0,) for day in span.periods]
    prompts = tuple(count for (count,) in days)
    loose = db.execute(
        "SELECT *, substr(text, 1, 300) AS shown FROM events e "  # noqa: S608 - not a value
        f"WHERE user_id = ? AND e.thread_id IS NULL AND {THREAD} IS NULL "
        "ORDER BY timestamp DESC LIMIT ?",
        (user_id, LOOSE_EVENTS_SHOWN),
    ).fetchall()
    query = "SELECT count(*) FROM threads WHERE user_id = ?"
    return {
        "user": held,
        "threads": db.execute(query, (user_id,)).fetchone()[0],
        "found": find(db, Wanted(user=user_id), after),
        "activity": charts.bars(
            "Prompts a day", Series(sum(prompts), prompts), span.periods, wording.number
        ),
        "span": span,
        "loose": [to_entry(event) for event in loose],
    }
