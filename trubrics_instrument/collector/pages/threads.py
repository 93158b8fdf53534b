"""The list of conversations, with search and filters."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.routing import Route

from trubrics_instrument.collector.finding import find
from trubrics_instrument.collector.pages._render import render
from trubrics_instrument.collector.wanted import Wanted

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from trubrics_instrument.collector.store import Store

_MOST_OFFERED = 50
_ONLY = {"failures": "With a failure", "feedback": "With feedback"}


def routes(store: Store) -> list[Route]:
    """Return the page's route."""

    def threads(request: Request) -> Response:
        wanted = Wanted.from_query(request.query_params)
        after = request.query_params.get("after", "")
        with store.reading() as db:
            shown = {"wanted": wanted, "found": find(db, wanted, after), **_offered(db)}
        given = {name: value for name, value in wanted._asdict().items() if value}
        return render(request, "threads.html", {**shown, "given": given, "query": urlencode(given)})

    return [Route("/threads", threads)]


def _offered(db: sqlite3.Connection) -> dict[str, object]:
    """What the filters suggest: models that answered, and how else a conversation can be."""
    models = db.execute(
        "SELECT DISTINCT assistant_id FROM model_sums "
        "WHERE grain = 'day' AND assistant_id != '' ORDER BY 1 LIMIT ?",
        (_MOST_OFFERED,),
    ).fetchall()
    return {"models": [model for (model,) in models if model.isprintable()], "only": _ONLY}
