"""What the overview shows: sums, read from the tables that keep them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.collector.buckets import from_bucket
from trubrics_instrument.collector.schema import MEASURES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from trubrics_instrument.collector.ranges import Range

_SUMS = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
MEDIAN = 0.5
P95 = 0.95
MOST_LISTED = 8
_AFTER_EVERY_TIME = "~"


class Series(NamedTuple):
    """One figure over time: its total, and its value in each period (None: nothing to measure)."""

    total: float | None
    values: tuple[float | None, ...]


class Latency(NamedTuple):
    """How long answers took, in seconds."""

    median: Series
    p95: Series


def totals(db: sqlite3.Connection, span: Range) -> dict[str, Series]:
    """Return a series for each measure."""
    rows = db.execute(
        f"SELECT substr(period, 1, ?) AS at, {_SUMS} FROM model_sums "  # noqa: S608 - our names
        "WHERE grain = ? AND period >= ? GROUP BY at",
        (span.width, span.grain, span.start),
    ).fetchall()
    found = {row["at"]: row for row in rows}
    sums = {name: _series(span, {at: row[name] for at, row in found.items()}) for name in MEASURES}
    return sums | {"cost_usd": _only_where(sums["priced"], sums["cost_usd"])}


def threads(db: sqlite3.Connection, span: Range) -> Series:
    """Return how many conversations started."""
    query = "SELECT count(*) FROM threads WHERE first_at >= ? AND first_at < ?"
    ends = (*span.periods[1:], _AFTER_EVERY_TIME)
    spans = zip(span.periods, ends, strict=True)
    counts = [db.execute(query, (start, end)).fetchone()[0] for start, end in spans]
    return Series(sum(counts), tuple(counts))


def users(db: sqlite3.Connection, span: Range) -> Series:
    """Return how many users were active; one who was active in two periods is one in the total."""
    # A month is no grain of its own: there the same user is in many rows.
    counted = "period, count(*)"
    if span.unit == "month":
        counted = "substr(period, 1, 7), count(DISTINCT user_id)"
    query = (
        f"SELECT {counted} FROM user_sums "  # noqa: S608 - one of two
        "WHERE grain = ? AND period >= ? GROUP BY 1"
    )
    by_period = _pairs(db, query, (span.grain, span.start))
    (total,) = db.execute("SELECT count(*) FROM users WHERE last_at >= ?", (span.start,)).fetchone()
    return Series(total, _series(span, by_period).values)


def latency(db: sqlite3.Connection, span: Range) -> Latency:
    """Return the median and the 95th percentile."""
    rows = db.execute(
        "SELECT substr(period, 1, ?), bucket, sum(events) FROM latencies "
        "WHERE grain = ? AND period >= ? GROUP BY 1, 2",
        (span.width, span.grain, span.start),
    ).fetchall()
    return Latency(_percentiles(span, rows, MEDIAN), _percentiles(span, rows, P95))


def by_model(db: sqlite3.Connection, span: Range) -> list[dict[str, object]]:
    """Return what each model did, the busiest first."""
    rows = db.execute(
        f"SELECT assistant_id, {_SUMS} FROM model_sums "  # noqa: S608 - our names
        "WHERE grain = ? AND period >= ? AND assistant_id != '' "
        "GROUP BY assistant_id ORDER BY generations + failures DESC LIMIT ?",
        (span.grain, span.start, MOST_LISTED),
    ).fetchall()
    return [{**row, **_model_latency(db, span, row["assistant_id"])} for row in map(dict, rows)]


def by_user(db: sqlite3.Connection, span: Range) -> list[sqlite3.Row]:
    """Return who asked most."""
    if span.key == "all":
        query = "SELECT * FROM users ORDER BY prompts DESC LIMIT ?"
        return db.execute(query, (MOST_LISTED,)).fetchall()
    query = (
        "SELECT user_id, sum(prompts) AS prompts FROM user_sums "
        "WHERE grain = ? AND period >= ? GROUP BY user_id ORDER BY 2 DESC LIMIT ?"
    )
    return db.execute(query, (span.grain, span.start, MOST_LISTED)).fetchall()


def busiest_threads(db: sqlite3.Connection, span: Range) -> list[sqlite3.Row]:
    """Return the conversations with most prompts among those that went on in the range.

    From one number of prompts down to the next, as few conversations share the largest ones.
    """
    found: list[sqlite3.Row] = []
    (prompts,) = db.execute("SELECT max(prompts) FROM threads").fetchone()
    while prompts is not None and len(found) < MOST_LISTED:
        found += db.execute(
            "SELECT * FROM threads WHERE prompts = ? AND last_at >= ? "
            "ORDER BY last_at DESC LIMIT ?",
            (prompts, span.start, MOST_LISTED - len(found)),
        ).fetchall()
        fewer = "SELECT max(prompts) FROM threads WHERE prompts < ?"
        (prompts,) = db.execute(fewer, (prompts,)).fetchone()
    return found


def _model_latency(db: sqlite3.Connection, span: Range, model: str) -> dict[str, float | None]:
    rows = db.execute(
        "SELECT bucket, sum(events) FROM latencies "
        "WHERE grain = ? AND period >= ? AND assistant_id = ? GROUP BY 1",
        (span.grain, span.start, model),
    ).fetchall()
    buckets: dict[int, int] = dict(rows)
    return {"median": percentile(buckets, MEDIAN), "p95": percentile(buckets, P95)}


def percentile(buckets: Mapping[int, int], share: float) -> float | None:
    """Return the latency that `share` of the answers stayed under; None without any."""
    wanted = sum(buckets.values()) * share
    if wanted <= 0:
        return None
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return from_bucket(bucket)
    raise AssertionError("the last bucket reaches every share")


def _percentiles(span: Range, rows: Iterable[tuple[str, int, int]], share: float) -> Series:
    by_period: dict[str, dict[int, int]] = {}
    overall: dict[int, int] = {}
    for period, bucket, count in rows:
        by_period.setdefault(period, {})[bucket] = count
        overall[bucket] = overall.get(bucket, 0) + count
    values = tuple(percentile(by_period.get(period, {}), share) for period in span.periods)
    return Series(percentile(overall, share), values)


def _series(span: Range, by_period: Mapping[str, float]) -> Series:
    return Series(sum(by_period.values()), tuple(by_period.get(at, 0) for at in span.periods))


def _only_where(known: Series, series: Series) -> Series:
    """Return the series where anything is known of it: elsewhere it is not 0, but nothing."""
    values = zip(known.values, series.values, strict=True)
    return Series(
        series.total if known.total else None,
        tuple(value if count else None for count, value in values),
    )


def _pairs(db: sqlite3.Connection, query: str, values: tuple[object, ...]) -> dict[str, float]:
    return dict(db.execute(query, values))
