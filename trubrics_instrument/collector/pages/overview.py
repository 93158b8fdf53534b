"""The overview: how much is asked, by whom, and how it turns out."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from starlette.routing import Route

from trubrics_instrument.collector import charts, figures, ranges, wording
from trubrics_instrument.collector.pages._render import render

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from trubrics_instrument.collector.ranges import Range
    from trubrics_instrument.collector.store import Store


class Card(NamedTuple):
    """One figure, and how it went, if anything is known of it."""

    name: str
    title: str
    total: str
    chart: Markup | None


def routes(store: Store) -> list[Route]:
    """Return the page's route."""

    def overview(request: Request) -> Response:
        with store.reading() as db:
            (first,) = db.execute("SELECT min(timestamp) FROM events").fetchone()
            if first is None:
                origin = f"{request.url.scheme}://{request.url.netloc}"
                return render(request, "welcome.html", {"origin": origin})
            key = request.query_params.get("range", "")
            span = ranges.choose(key, datetime.now(timezone.utc), first)
            return render(request, "overview.html", _read(db, span))

    return [Route("/", overview)]


def _read(db: sqlite3.Connection, span: Range) -> dict[str, object]:
    sums = figures.totals(db, span)
    sums |= {"users": figures.users(db, span), "threads": figures.threads(db, span)}
    latency = figures.latency(db, span)
    return {
        "span": span,
        "choices": ranges.CHOICES,
        "cards": _cards(span, sums),
        "latency": latency,
        "latency_chart": charts.lines(
            "Latency",
            [("p95", "95 %", latency.p95), ("median", "median", latency.median)],
            span.periods,
            wording.duration,
        ),
        "table": _table(span, sums, latency),
        "models": figures.by_model(db, span),
        "users": figures.by_user(db, span),
        "busiest": figures.busiest_threads(db, span),
    }


_CARDS = (
    ("prompts", "Prompts", wording.number),
    ("users", "Users", wording.number),
    ("threads", "Conversations", wording.number),
    ("failures", "Failures", wording.number),
    ("tokens", "Tokens", wording.number),
    ("cost_usd", "Cost", wording.money),
)


def _cards(span: Range, sums: dict[str, figures.Series]) -> list[Card]:
    return [_card(span, sums[name], name, title, write) for name, title, write in _CARDS]


def _card(
    span: Range, series: figures.Series, name: str, title: str, write: Callable[..., str]
) -> Card:
    known = series.total is not None
    chart = charts.bars(title, series, span.periods, write) if known else None
    return Card(name, title, write(series.total), chart)


def _table(
    span: Range, sums: dict[str, figures.Series], latency: figures.Latency
) -> list[tuple[str, ...]]:
    """The charts in figures, for who cannot see them or wants to copy them; the newest first."""
    columns = [[write(value) for value in sums[name].values] for name, _, write in _CARDS]
    columns += [[wording.duration(value) for value in series.values] for series in latency]
    return list(zip(span.periods, *columns, strict=True))[::-1]
