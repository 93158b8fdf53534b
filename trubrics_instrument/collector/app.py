"""The collector as an ASGI app: what is found where."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from trubrics_instrument._base.hosts import LOOPBACK_HOSTS
from trubrics_instrument.collector.ingest import ingestion_routes
from trubrics_instrument.collector.login import Login
from trubrics_instrument.collector.pages import not_found, page_routes
from trubrics_instrument.collector.removal import keep_tidy
from trubrics_instrument.collector.security import Guard
from trubrics_instrument.collector.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta


def create_app(
    db: str | Path,
    *,
    api_key: str | None = None,
    hosts: Collection[str] = LOOPBACK_HOSTS,
    password: str | None = None,
    retention: timedelta | None = None,
) -> Starlette:
    """Return the collector on the database at `db`, which is created when it is missing.

    Args:
        db: The SQLite file.
        api_key: What senders must send as `x-api-key`; None takes events from anybody.
        hosts: The names under which it may be reached, without ports; "*" is any.
        password: What a person must give to see the pages; None shows them to anybody.
        retention: How long events are kept; None is for ever. Looked after while the app's
            lifespan runs: an app that mounts this one has to run it.

    Raises:
        ForeignDatabaseError: The file is something else, or a newer version's.
    """
    store = Store(db)
    middleware = [Middleware(Guard, hosts=hosts)]
    if password is not None:
        middleware.append(Middleware(Login, password=password))
    static = StaticFiles(directory=Path(__file__).parent / "static")
    app = Starlette(
        routes=[*ingestion_routes(store, api_key), *page_routes(store), Mount("/static", static)],
        middleware=middleware,
        exception_handlers={404: not_found},
        lifespan=_lifespan(store, retention),
    )
    app.state.stopping = lambda: False
    return app


def _lifespan(
    store: Store, retention: timedelta | None
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        store.catch_up()
        tidying = asyncio.create_task(keep_tidy(store, retention)) if retention else None
        yield
        if tidying:
            tidying.cancel()
        store.close()

    return lifespan
