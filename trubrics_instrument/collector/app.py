"""The collector as an ASGI app: what is found where."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from trubrics_instrument.collector.ingest import ingestion_routes
from trubrics_instrument.collector.pages import not_found, page_routes
from trubrics_instrument.collector.security import LOOPBACK_HOSTS, Guard
from trubrics_instrument.collector.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection


def create_app(
    db: str | Path, *, api_key: str | None = None, hosts: Collection[str] = LOOPBACK_HOSTS
) -> Starlette:
    """Return the collector on the database at `db`, which is created when it is missing.

    Args:
        db: The SQLite file.
        api_key: What senders must send as `x-api-key`; None takes events from anybody.
        hosts: The names under which it may be reached, without ports; "*" is any.

    Raises:
        ForeignDatabaseError: The file is something else, or a newer version's.
    """
    store = Store(db)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        store.close()

    static = StaticFiles(directory=Path(__file__).parent / "static")
    return Starlette(
        routes=[
            *ingestion_routes(store, api_key),
            *page_routes(store),
            Mount("/static", static),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={404: not_found},
        lifespan=lifespan,
    )
