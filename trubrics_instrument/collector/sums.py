"""The sums beside the events: added to when events come, subtracted from when they go."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeVar

from trubrics_instrument.collector import rows as kinds
from trubrics_instrument.collector.rows import Row
from trubrics_instrument.collector.schema import MEASURES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

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
_HOUR = len("2026-11-22T13")
_DAY = len("2026-11-22")
_Key = tuple[Any, ...]
_K = TypeVar("_K")


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
    hours: dict[_Key, list[float]] = {}
    latencies: dict[_Key, int] = {}
    user_days: dict[_Key, _Group] = {}
    threads: dict[str, _Group] = {}
    for row in rows:
        measures = _measures(row, sign)
        hour, model = row.timestamp[:_HOUR], row.assistant_id or ""
        _increase(hours.setdefault((hour, model), [0] * len(MEASURES)), measures)
        if row.kind == kinds.GENERATION and row.latency_s is not None:
            key = (hour, model, to_bucket(row.latency_s))
            latencies[key] = latencies.get(key, 0) + sign
        _group(user_days, (row.user_id, row.timestamp[:_DAY]), row).take(row, measures)
        if row.thread_id is not None:
            _group(threads, row.thread_id, row).take(row, measures)
    db.executemany(_ADD_TO_MODEL_SUM, _by_grain(hours))
    db.executemany(_ADD_TO_LATENCY, _by_grain({key: [n] for key, n in latencies.items()}))
    db.executemany(_ADD_TO_USER_DAY, [(*k, *group.measures) for k, group in user_days.items()])
    db.executemany(_ADD_TO_USER, _users(user_days.values()))
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
    """The rows of one thread, or of one user on one day."""

    def __init__(self, row: Row) -> None:
        self.user_id = row.user_id
        self.first_at = self.last_at = row.timestamp
        self.measures: list[float] = [0] * len(MEASURES)
        self._thread_id = row.thread_id
        self._assistant_id: str | None = None
        self._prompt: Row | None = None

    def take(self, row: Row, measures: list[tuple[int, float]]) -> None:
        timestamp = row.timestamp
        if timestamp < self.first_at:
            self.first_at = timestamp
        elif timestamp > self.last_at:
            self.last_at = timestamp
        _increase(self.measures, measures)
        self._assistant_id = row.assistant_id or self._assistant_id
        if row.kind == kinds.PROMPT and row.text:
            prompt = self._prompt
            if prompt is None or timestamp < prompt.timestamp:
                self._prompt = row

    def as_thread(self) -> tuple[object, ...]:
        text = self._prompt.text if self._prompt else None
        return (
            self._thread_id,
            self.user_id,
            self._assistant_id,
            " ".join(text[: 4 * TITLE_CHARS].split())[:TITLE_CHARS] if text else None,
            self.first_at,
            self.last_at,
            *self.measures,
        )


def _group(groups: dict[_K, _Group], key: _K, row: Row) -> _Group:
    group = groups.get(key)
    if group is None:
        group = groups[key] = _Group(row)
    return group


def _users(days: Iterable[_Group]) -> list[tuple[object, ...]]:
    """Return a row of `users` for each user of whom there are days."""
    users: dict[str, list[_Group]] = {}
    for day in days:
        users.setdefault(day.user_id, []).append(day)
    return [
        (
            user_id,
            min(day.first_at for day in own),
            max(day.last_at for day in own),
            *(sum(amounts) for amounts in zip(*(day.measures for day in own), strict=True)),
        )
        for user_id, own in users.items()
    ]


def _by_grain(hours: dict[_Key, list[float]]) -> list[tuple[object, ...]]:
    """Return the rows of every hour, and of the days that the hours make."""
    days: dict[_Key, list[float]] = {}
    for (hour, *others), amounts in hours.items():
        key = (hour[:_DAY], *others)
        held = days.get(key)
        days[key] = amounts if held is None else list(map(operator.add, held, amounts))
    return [
        (grain, *key, *amounts)
        for grain, sums in (("hour", hours), ("day", days))
        for key, amounts in sums.items()
    ]


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


def _increase(held: list[float], measures: list[tuple[int, float]]) -> None:
    for index, amount in measures:
        held[index] += amount
