"""The sums beside the events: added to when events come, subtracted from when they go."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeVar

from trubrics_instrument.collector import placing
from trubrics_instrument.collector import rows as kinds
from trubrics_instrument.collector.buckets import to_bucket
from trubrics_instrument.collector.rows import COLUMNS, Row
from trubrics_instrument.collector.schema import MEASURES, USER_MEASURES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

TITLE_CHARS = 160
_ANONYMOUS = "anon-"
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


def _upsert(
    table: str,
    keys: tuple[str, ...],
    others: str = "",
    updates: str = "",
    measures: tuple[str, ...] = MEASURES,
) -> str:
    columns = ", ".join((*keys, *filter(None, [others]), *measures))
    marks = ", ".join("?" * (columns.count(",") + 1))
    adding = ", ".join(f"{name} = {name} + excluded.{name}" for name in measures)
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({marks}) "  # noqa: S608 - names from this file
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}{adding}"
    )


_SPAN = "first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at), "
_ADD_TO_THREAD = _upsert(
    "threads",
    ("thread_id",),
    "user_id, assistant_id, title, first_at, last_at",
    # Who signs in during a conversation is whose it is.
    f"user_id = CASE WHEN user_id GLOB '{_ANONYMOUS}*' THEN excluded.user_id ELSE user_id END, "
    "assistant_id = coalesce(excluded.assistant_id, assistant_id), "
    "title = CASE WHEN excluded.first_at < first_at THEN coalesce(excluded.title, title) "
    "ELSE coalesce(title, excluded.title) END, " + _SPAN,
)
_ADD_TO_USER = _upsert("users", ("user_id",), "first_at, last_at", _SPAN)
_ADD_TO_MODEL_SUM = _upsert("model_sums", ("grain", "period", "assistant_id"))
_ADD_TO_USER_SUM = _upsert("user_sums", ("grain", "period", "user_id"), measures=USER_MEASURES)
_ADD_TO_LATENCY = _upsert(
    "latencies", ("grain", "period", "assistant_id", "bucket"), measures=("events",)
)
# Where a user's events are, by the hours in which they were there. An index of all the events by
# their user would cost more with every event than this does when somebody's are asked for.
OF_USER = """
(SELECT DISTINCT period FROM model_sums WHERE grain = 'hour') h
CROSS JOIN user_sums u ON u.grain = 'hour' AND u.period = h.period AND u.user_id = :user_id
CROSS JOIN events e INDEXED BY events_by_time
    ON e.timestamp >= u.period AND e.timestamp < u.period || '~' AND e.user_id = :user_id
"""
_END_HOUR = """
SELECT period FROM model_sums m WHERE grain = 'hour' AND EXISTS (
    SELECT 1 FROM user_sums WHERE grain = 'hour' AND period = m.period AND user_id = :user_id
) ORDER BY period {order} LIMIT 1
"""
_END_IN_HOUR = """
SELECT timestamp FROM events INDEXED BY events_by_time
WHERE timestamp >= :hour AND timestamp < :hour || '~' AND user_id = :user_id
ORDER BY timestamp {order} LIMIT 1
"""


def add(db: sqlite3.Connection, events: Mapping[int, Row]) -> None:
    """Add events, by their ids, to the sums."""
    _count(db, events.values(), 1)
    _add_to_threads(db, {**events, **placing.place(db, events)})


def subtract(db: sqlite3.Connection, events: Mapping[int, Row]) -> None:
    """Subtract events that are no longer there."""
    rows = events.values()
    _count(db, rows, -1)
    periods = {("day", row.timestamp[:_DAY]) for row in rows}
    periods |= {("hour", row.timestamp[:_HOUR]) for row in rows}
    for table in ("model_sums", "user_sums", "latencies"):
        empty = f"DELETE FROM {table} WHERE grain = ? AND period = ? AND events <= 0"  # noqa: S608 - one of three
        db.executemany(empty, periods)
    gone: dict[str, _Group] = {}
    for row in rows:
        _group(gone, row.user_id, row).take(row, [])
    for group in gone.values():
        _measure_user_again(db, group)
    _subtract_from_threads(db, events)


def _add_to_threads(db: sqlite3.Connection, events: Mapping[int, Row]) -> None:
    threads: dict[str, _Group] = {}
    for row in events.values():
        if row.thread_id is not None:
            _group(threads, row.thread_id, row).take(row, _measures(row, 1))
    db.executemany(_ADD_TO_THREAD, [group.as_thread() for group in threads.values()])
    db.executemany(
        "INSERT INTO thread_events SELECT number, ?, ? FROM threads WHERE thread_id = ?",
        _in_threads(events),
    )


def _subtract_from_threads(db: sqlite3.Connection, events: Mapping[int, Row]) -> None:
    released = placing.release(db, events)
    left = {**events, **released}
    db.executemany(
        "DELETE FROM thread_events WHERE timestamp = ? AND event = ? "
        "AND number = (SELECT number FROM threads WHERE thread_id = ?)",
        _in_threads(left),
    )
    for thread_id in {row.thread_id for row in left.values() if row.thread_id is not None}:
        _measure_thread_again(db, thread_id)
    # Feedback whose answer alone is gone may be for another one of the same name.
    loose = {
        event_id: row._replace(thread_id=None)
        for event_id, row in released.items()
        if event_id not in events
    }
    _add_to_threads(db, placing.place(db, loose))


def _in_threads(events: Mapping[int, Row]) -> list[tuple[str, int, str]]:
    return [
        (row.timestamp, event_id, row.thread_id)
        for event_id, row in events.items()
        if row.thread_id is not None
    ]


def _count(db: sqlite3.Connection, rows: Iterable[Row], sign: int) -> None:
    models: dict[_Key, list[float]] = {}
    latencies: dict[_Key, list[float]] = {}
    user_hours: dict[_Key, list[float]] = {}
    users: dict[str, _Group] = {}
    for row in rows:
        measures = _measures(row, sign)
        hour, model = row.timestamp[:_HOUR], row.assistant_id or ""
        _increase(models.setdefault((hour, model), [0] * len(MEASURES)), measures)
        if row.kind == kinds.GENERATION and row.latency_s is not None:
            latencies.setdefault((hour, model, to_bucket(row.latency_s)), [0])[0] += sign
        _increase(user_hours.setdefault((hour, row.user_id), [0] * len(MEASURES)), measures)
        _group(users, row.user_id, row).take(row, measures)
    db.executemany(_ADD_TO_MODEL_SUM, _by_grain(models))
    db.executemany(_ADD_TO_LATENCY, _by_grain(latencies))
    db.executemany(_ADD_TO_USER_SUM, _by_grain(user_hours, len(USER_MEASURES)))
    db.executemany(_ADD_TO_USER, [group.as_user() for group in users.values()])


def _measure_thread_again(db: sqlite3.Connection, thread_id: str) -> None:
    """Make a thread's sums from the events that it has left; it keeps its number."""
    query = "SELECT number FROM threads WHERE thread_id = ?"
    (number,) = db.execute(query, (thread_id,)).fetchone()
    db.execute("DELETE FROM threads WHERE number = ?", (number,))
    left = db.execute(
        f"SELECT {COLUMNS} FROM events WHERE id IN "  # noqa: S608 - names from Row
        "(SELECT event FROM thread_events WHERE number = ?) ORDER BY timestamp, id",
        (number,),
    )
    rows = (Row._make(values)._replace(thread_id=thread_id) for values in left)
    first = next(rows, None)
    if first is None:
        return
    group = _Group(first)
    for row in (first, *rows):
        group.take(row, _measures(row, 1))
    db.execute(_ADD_TO_THREAD, group.as_thread())
    db.execute("UPDATE threads SET number = ? WHERE thread_id = ?", (number, thread_id))


def _measure_user_again(db: sqlite3.Connection, gone: _Group) -> None:
    """Their counts were subtracted; their first and last moments cannot be, if these went."""
    user_id = gone.user_id
    if db.execute("DELETE FROM users WHERE user_id = ? AND events <= 0", (user_id,)).rowcount:
        return
    query = "SELECT first_at, last_at FROM users WHERE user_id = ?"
    first_at, last_at = db.execute(query, (user_id,)).fetchone()
    if gone.first_at <= first_at:
        first_at = _find_end(db, user_id, "ASC")
    if gone.last_at >= last_at:
        last_at = _find_end(db, user_id, "DESC")
    update = "UPDATE users SET first_at = ?, last_at = ? WHERE user_id = ?"
    db.execute(update, (first_at, last_at, user_id))


def _find_end(db: sqlite3.Connection, user_id: str, order: str) -> str:
    values = {"user_id": user_id}
    (values["hour"],) = db.execute(_END_HOUR.format(order=order), values).fetchone()
    (timestamp,) = db.execute(_END_IN_HOUR.format(order=order), values).fetchone()
    return str(timestamp)


class _Group:
    """The rows of one thread, or of one user."""

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
        if self.user_id.startswith(_ANONYMOUS):
            self.user_id = row.user_id
        _increase(self.measures, measures)
        self._assistant_id = row.assistant_id or self._assistant_id
        if row.kind == kinds.PROMPT and row.text:
            prompt = self._prompt
            if prompt is None or timestamp < prompt.timestamp:
                self._prompt = row

    def as_user(self) -> tuple[object, ...]:
        return (self.user_id, self.first_at, self.last_at, *self.measures)

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


def _by_grain(
    hours: dict[_Key, list[float]], width: int = len(MEASURES)
) -> list[tuple[object, ...]]:
    """Return the rows of every hour, and of the days that the hours make, of so many measures."""
    days: dict[_Key, list[float]] = {}
    for (hour, *others), amounts in hours.items():
        key = (hour[:_DAY], *others)
        held = days.get(key)
        days[key] = amounts if held is None else list(map(operator.add, held, amounts))
    return [
        (grain, *key, *amounts[:width])
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
    if row.cost_usd is not None:
        added += [(_AT["priced"], sign), (_AT["cost_usd"], sign * row.cost_usd)]
    return added


def _increase(held: list[float], measures: list[tuple[int, float]]) -> None:
    for index, amount in measures:
        held[index] += amount
