"""The pages: one file each, with what it asks the database and what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument.collector.pages import keeping, live, overview, thread, threads, users
from trubrics_instrument.collector.pages._render import render

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from trubrics_instrument.collector.store import Store


def page_routes(store: Store) -> list[Route]:
    """Return the routes of every page."""
    return [
        *overview.routes(store),
        *threads.routes(store),
        *thread.routes(store),
        *users.routes(store),
        *live.routes(store),
        *keeping.routes(store),
    ]


def not_found(request: Request, _: Exception) -> Response:
    """Answer for an address that leads nowhere."""
    return render(request, "message.html", {"title": "Nothing here", "text": ""}, status=404)
