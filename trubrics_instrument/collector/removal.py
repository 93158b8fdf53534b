"""Taking events out again: a person's, when they ask for it, and those that are too old."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING

from trubrics_instrument.collector import sums
from trubrics_instrument.collector.fields import to_timestamp
from trubrics_instrument.collector.rows import COLUMNS, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument.collector.store import Store

logger = logging.getLogger(__name__)

TIDY_EVERY_S = 3600
EVENTS_PER_STEP = 2_000
_PAGES_PER_MERGE = 500
_OF_USER = f"SELECT e.id FROM {sums.OF_USER}"  # noqa: S608 - not a value
_BEFORE = "SELECT id FROM events WHERE timestamp < :before"


def delete_user(store: Store, user_id: str) -> int:
    """Delete every event of a user, and return how many there were."""
    return _delete(store, _OF_USER, {"user_id": user_id})


def delete_before(store: Store, timestamp: str) -> int:
    """Delete every event before a moment, and return how many there were."""
    return _delete(store, _BEFORE, {"before": timestamp})


async def keep_tidy(store: Store, retention: timedelta) -> None:
    """Delete what is too old, now and every hour, until cancelled."""
    while True:
        oldest = to_timestamp(datetime.now(timezone.utc) - retention)
        try:
            deleted = await asyncio.to_thread(delete_before, store, oldest)
        except sqlite3.Error as error:
            logger.warning("Old events were not deleted: %s", error)
        else:
            logger.info("%d events were older than %s", deleted, retention)
        await asyncio.sleep(TIDY_EVERY_S)


def _delete(store: Store, which: str, values: Mapping[str, str]) -> int:
    """Delete step by step, so that events which arrive meanwhile need not wait long.

    What was said is overwritten in the file, and merged out of the index of words.
    """
    deleted = 0
    work = partial(_delete_some, which=which, values=values)
    while step := store.writer.submit(work).result():
        deleted += step
    if deleted:
        _merge_index(store)
        store.empty_log()
    return deleted


def _delete_some(db: sqlite3.Connection, which: str, values: Mapping[str, str]) -> int:
    db.execute("PRAGMA secure_delete = ON")
    found = db.execute(
        f"SELECT id, {COLUMNS} FROM events WHERE id IN ({which} LIMIT :most)",  # noqa: S608 - one of two
        {**values, "most": EVENTS_PER_STEP},
    ).fetchall()
    db.executemany("DELETE FROM events WHERE id = ?", [(event["id"],) for event in found])
    sums.subtract(db, {event_id: Row._make(values) for event_id, *values in found})
    db.execute("PRAGMA secure_delete = OFF")
    return len(found)


def _merge_index(store: Store) -> None:
    """Merge the index of words into one part, as deleted words stay in the older ones until then.

    Source: sqlite.org/fts5.html, "merge": a negative number starts it, further calls go on with
    it, and one that had nothing left to do makes less than two changes. In steps, as above.
    """
    pages = -_PAGES_PER_MERGE
    while store.writer.submit(partial(_merge_some, pages=pages)).result():
        pages = _PAGES_PER_MERGE


def _merge_some(db: sqlite3.Connection, pages: int) -> bool:
    before = db.total_changes
    db.execute("PRAGMA secure_delete = ON")
    db.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (pages,))
    db.execute("PRAGMA secure_delete = OFF")
    return db.total_changes - before > 1
