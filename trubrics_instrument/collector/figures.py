"""What the overview shows: sums, read from the tables that keep them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.collector.schema import MEASURES
from trubrics_instrument.collector.sums import from_bucket

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
    return {name: _series(span, {at: row[name] for at, row in found.items()}) for name in MEASURES}


def threads(db: sqlite3.Connection, span: Range) -> Series:
    """Return how many conversations started."""
    query = "SELECT count(*) FROM threads WHERE first_at >= ? AND first_at < ?"
    ends = (*span.periods[1:], _AFTER_EVERY_TIME)
    spans = zip(span.periods, ends, strict=True)
    counts = [db.execute(query, (start, end)).fetchone()[0] for start, end in spans]
    return Series(sum(counts), tuple(counts))


def users(db: sqlite3.Connection, span: Range) -> Series:
    """Return how many users were active; one who was active in two periods is one in the total."""
    if span.unit == "hour":
        query = (
            "SELECT substr(timestamp, 1, 13) AS at, count(DISTINCT user_id) FROM events "
            "WHERE timestamp >= ? GROUP BY at"
        )
    elif span.unit == "day":
        query = "SELECT day AS at, count(*) FROM user_days WHERE day >= ? GROUP BY at"
    else:
        query = (
            "SELECT substr(day, 1, 7) AS at, count(DISTINCT user_id) FROM user_days "
            "WHERE day >= ? GROUP BY at"
        )
    by_period = _pairs(db, query, (span.start,))
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
    if span.unit == "hour":
        query = (
            "SELECT user_id, count(*) AS prompts FROM events INDEXED BY events_by_time "
            "WHERE timestamp >= ? AND kind = 'prompt' GROUP BY user_id ORDER BY 2 DESC LIMIT ?"
        )
    else:
        query = (
            "SELECT user_id, sum(prompts) AS prompts FROM user_days "
            "WHERE day >= ? GROUP BY user_id ORDER BY 2 DESC LIMIT ?"
        )
    return db.execute(query, (span.start, MOST_LISTED)).fetchall()


def busiest_threads(db: sqlite3.Connection, span: Range) -> list[sqlite3.Row]:
    """Return the conversations with most prompts among those that went on in the range."""
    return db.execute(
        "SELECT * FROM threads WHERE thread_id IN (SELECT thread_id FROM threads "
        "WHERE last_at >= ? ORDER BY prompts DESC LIMIT ?) ORDER BY prompts DESC, last_at DESC",
        (span.start, MOST_LISTED),
    ).fetchall()


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


def _pairs(db: sqlite3.Connection, query: str, values: tuple[object, ...]) -> dict[str, float]:
    return dict(db.execute(query, values))
