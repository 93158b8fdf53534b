"""The sums beside the events: added to when events come, subtracted from when they go."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trubrics_instrument.collector import rows as kinds
from trubrics_instrument.collector.rows import Row
from trubrics_instrument.collector.schema import MEASURES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

TITLE_CHARS = 160
_COLUMNS = ", ".join(Row._fields)
LATENCY_STEP = 1.05  # a latency is known to within 2.5 %
_AT = {name: index for index, name in enumerate(MEASURES)}
_COUNTED_KINDS = {
    kinds.PROMPT: _AT["prompts"],
    kinds.GENERATION: _AT["generations"],
    kinds.TOOL_CALL: _AT["tool_calls"],
    kinds.FAILURE: _AT["failures"],
    kinds.FEEDBACK: _AT["feedback"],
}
_Sums = dict[tuple[object, ...], list[float]]


def _upsert(table: str, keys: tuple[str, ...], others: str = "", updates: str = "") -> str:
    columns = ", ".join((*keys, *filter(None, [others]), *MEASURES))
    marks = ", ".join("?" * (columns.count(",") + 1))
    adding = ", ".join(f"{name} = {name} + excluded.{name}" for name in MEASURES)
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({marks}) "  # noqa: S608 - names from this file
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}{adding}"
    )


_SPAN = "first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at), "
_ADD_TO_THREAD = _upsert(
    "threads",
    ("thread_id",),
    "user_id, assistant_id, title, first_at, last_at",
    "assistant_id = coalesce(excluded.assistant_id, assistant_id), "
    "title = CASE WHEN excluded.first_at < first_at THEN coalesce(excluded.title, title) "
    "ELSE coalesce(title, excluded.title) END, " + _SPAN,
)
_ADD_TO_USER = _upsert("users", ("user_id",), "first_at, last_at", _SPAN)
_ADD_TO_MODEL_SUM = _upsert("model_sums", ("grain", "period", "assistant_id"))
_ADD_TO_USER_DAY = _upsert("user_days", ("user_id", "day"))
_ADD_TO_LATENCY = """
INSERT INTO latencies (grain, period, assistant_id, bucket, events) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (grain, period, assistant_id, bucket) DO UPDATE SET events = events + excluded.events
"""


def add(db: sqlite3.Connection, rows: Iterable[Row], sign: int = 1) -> None:
    """Add rows to the sums, or subtract them (`sign` -1) when they are deleted."""
    by_model: _Sums = {}
    by_user: _Sums = {}
    latencies: dict[tuple[object, ...], int] = {}
    users: dict[str, _Group] = {}
    threads: dict[str, _Group] = {}
    for row in rows:
        measures = _measures(row, sign)
        for grain, period in _periods(row.timestamp):
            _sum(by_model, (grain, period, row.assistant_id or ""), measures)
            if row.kind == kinds.GENERATION and row.latency_s is not None:
                key = (grain, period, row.assistant_id or "", to_bucket(row.latency_s))
                latencies[key] = latencies.get(key, 0) + sign
        _sum(by_user, (row.user_id, row.timestamp[:10]), measures)
        users.setdefault(row.user_id, _Group(row)).take(row, measures)
        if row.thread_id is not None:
            threads.setdefault(row.thread_id, _Group(row)).take(row, measures)
    db.executemany(_ADD_TO_MODEL_SUM, _flat(by_model))
    db.executemany(_ADD_TO_USER_DAY, _flat(by_user))
    db.executemany(_ADD_TO_LATENCY, [(*key, count) for key, count in latencies.items()])
    db.executemany(_ADD_TO_USER, [group.as_user() for group in users.values()])
    db.executemany(_ADD_TO_THREAD, [group.as_thread() for group in threads.values()])


def subtract(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Subtract rows that are no longer among the events."""
    add(db, rows, sign=-1)
    days = {row.timestamp[:10] for row in rows}
    hours = {row.timestamp[:13] for row in rows}
    for table in ("model_sums", "latencies"):
        empty = f"DELETE FROM {table} WHERE grain = ? AND period = ? AND events <= 0"  # noqa: S608 - one of two
        db.executemany(empty, [("day", day) for day in days])
        db.executemany(empty, [("hour", hour) for hour in hours])
    users = {row.user_id for row in rows}
    empty = "DELETE FROM user_days WHERE user_id = ? AND events <= 0"
    db.executemany(empty, [(user_id,) for user_id in users])
    for user_id in users:
        _measure_user_again(db, user_id)
    for thread_id in {row.thread_id for row in rows if row.thread_id is not None}:
        measure_thread_again(db, thread_id)


def measure_thread_again(db: sqlite3.Connection, thread_id: str) -> None:
    """Make a thread's sums from the events that it has left."""
    db.execute("DELETE FROM threads WHERE thread_id = ?", (thread_id,))
    left = db.execute(
        f"SELECT {_COLUMNS} FROM events WHERE thread_id = ? ORDER BY timestamp, id",  # noqa: S608 - names from Row
        (thread_id,),
    )
    rows = map(Row._make, left)
    first = next(rows, None)
    if first is None:
        return
    group = _Group(first)
    for row in (first, *rows):
        group.take(row, _measures(row, 1))
    db.execute(_ADD_TO_THREAD, group.as_thread())


def _measure_user_again(db: sqlite3.Connection, user_id: str) -> None:
    """Its counts were subtracted; its first and last moments cannot be."""
    query = "SELECT min(timestamp), max(timestamp) FROM events WHERE user_id = ?"
    first_at, last_at = db.execute(query, (user_id,)).fetchone()
    if first_at is None:
        db.execute("DELETE FROM users WHERE user_id = ?", (user_id,))
        return
    update = "UPDATE users SET first_at = ?, last_at = ? WHERE user_id = ?"
    db.execute(update, (first_at, last_at, user_id))


def to_bucket(latency_s: float) -> int:
    """Return the latency's bucket: bucket b is around `LATENCY_STEP` ** b milliseconds."""
    return max(0, round(math.log(max(latency_s * 1000, 1), LATENCY_STEP)))


def from_bucket(bucket: int) -> float:
    """Return the latency, in seconds, that a bucket stands for."""
    return float(LATENCY_STEP**bucket) / 1000


class _Group:
    """The rows of one user or of one thread."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._assistant_id: str | None = None
        self._prompt: Row | None = None
        self._first_at = self._last_at = row.timestamp
        self._measures: list[float] = [0] * len(MEASURES)

    def take(self, row: Row, measures: list[tuple[int, float]]) -> None:
        self._first_at = min(self._first_at, row.timestamp)
        self._last_at = max(self._last_at, row.timestamp)
        for index, amount in measures:
            self._measures[index] += amount
        self._assistant_id = row.assistant_id or self._assistant_id
        asked = row.kind == kinds.PROMPT and row.text
        if asked and (self._prompt is None or row.timestamp < self._prompt.timestamp):
            self._prompt = row

    def as_user(self) -> tuple[object, ...]:
        return (self._row.user_id, self._first_at, self._last_at, *self._measures)

    def as_thread(self) -> tuple[object, ...]:
        text = self._prompt.text if self._prompt else None
        return (
            self._row.thread_id,
            self._row.user_id,
            self._assistant_id,
            " ".join(text[: 4 * TITLE_CHARS].split())[:TITLE_CHARS] if text else None,
            self._first_at,
            self._last_at,
            *self._measures,
        )


def _measures(row: Row, sign: int) -> list[tuple[int, float]]:
    """Return what one event adds, as (which of `MEASURES`, how much); most add to few of them."""
    added: list[tuple[int, float]] = [(_AT["events"], sign)]
    counted = _COUNTED_KINDS.get(row.kind)
    if counted is not None:
        added.append((counted, sign))
    if row.tokens:
        added.append((_AT["tokens"], sign * row.tokens))
    if row.cost_usd:
        added.append((_AT["cost_usd"], sign * row.cost_usd))
    return added


def _periods(timestamp: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("day", timestamp[:10]), ("hour", timestamp[:13])


def _sum(sums: _Sums, key: tuple[object, ...], measures: list[tuple[int, float]]) -> None:
    held = sums.setdefault(key, [0] * len(MEASURES))
    for index, amount in measures:
        held[index] += amount


def _flat(sums: _Sums) -> Iterator[tuple[object, ...]]:
    return ((*key, *values) for key, values in sums.items())
