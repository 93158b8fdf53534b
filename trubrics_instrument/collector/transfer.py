"""What was collected, as a file; and such a file, taken in."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.collector.rows import COLUMNS, Row, to_properties
from trubrics_instrument.collector.sums import OF_USER
from trubrics_instrument.collector.validate import InvalidBodyError, read_event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from trubrics_instrument._events import WireEvent
    from trubrics_instrument.collector.store import Store

ROWS_PER_STEP = 500
_IS_OF_USER = f"id IN (SELECT e.id FROM {OF_USER})"  # noqa: S608 - not a value
# A spreadsheet takes such a cell for a formula, and whoever wrote the prompt wrote the formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Imported(NamedTuple):
    """What became of the lines of a file; `refused` has each line's number and what is wrong."""

    stored: int
    duplicates: int
    refused: tuple[tuple[int, str], ...]


def to_wire(event: sqlite3.Row) -> WireEvent:
    """Return a stored event as `publish_event` took it."""
    row = Row(**{name: event[name] for name in Row._fields})
    return {
        "user_id": row.user_id,
        "event": row.event,
        "timestamp": row.timestamp,
        "properties": to_properties(row),
    }


def select(db: sqlite3.Connection, *, user_id: str = "", since: str = "") -> Iterator[sqlite3.Row]:
    """Yield the events in the order in which they came, of one user or from one day on."""
    offered = ((_IS_OF_USER, user_id), ("timestamp >= :since", since))
    conditions = " AND ".join(["1", *(condition for condition, value in offered if value)])
    return iter(
        db.execute(
            f"SELECT id, {COLUMNS} FROM events WHERE {conditions} ORDER BY id",  # noqa: S608 - ours
            {"user_id": user_id, "since": since},
        )
    )


def write_jsonl(events: Iterable[sqlite3.Row]) -> Iterator[str]:
    """Write each event as one line, in its form on the wire."""
    for event in events:
        yield json.dumps(to_wire(event), ensure_ascii=False) + "\n"


def write_csv(events: Iterable[sqlite3.Row]) -> Iterator[str]:
    """Write each event as one record, with the table's columns, safe to open in a spreadsheet."""
    yield _record(Row._fields)
    for event in events:
        yield _record(_as_cell(event[name]) for name in Row._fields)


def _as_cell(value: object) -> object:
    """Return a value as a spreadsheet shows it, and takes it for no formula."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if is_formula else value


def read_jsonl(store: Store, lines: Iterable[bytes]) -> Imported:
    """Store the events of a file that has one on each line; importing it again adds nothing."""
    stored = duplicates = 0
    refused: list[tuple[int, str]] = []
    seen: Counter[bytes] = Counter()
    waiting: list[Row] = []

    def store_waiting() -> None:
        nonlocal stored, duplicates
        added = store.add(waiting.copy()).result()
        stored, duplicates = stored + added.stored, duplicates + added.duplicates
        waiting.clear()

    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            waiting += [_with_event_id(row, line, seen) for row in read_event(line)]
        except InvalidBodyError as error:
            refused.append((number, _in_words(error)))
        if len(waiting) >= ROWS_PER_STEP:
            store_waiting()
    store_waiting()
    return Imported(stored, duplicates, tuple(refused))


def _with_event_id(row: Row, line: bytes, seen: Counter[bytes]) -> Row:
    """An event without an id gets one that follows from its line, and from how often that came."""
    if row.event_id is not None:
        return row
    digest = hashlib.sha256(line.strip()).digest()[:16]
    seen[digest] += 1
    return row._replace(event_id=f"import-{digest.hex()}-{seen[digest]}")


def _in_words(error: InvalidBodyError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'][1:])) or 'line'}: {problem['msg']}"
        for problem in error.detail
    )


def _record(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()
