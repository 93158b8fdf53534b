"""The collector's SQLite database: who may open it, how events get in, how pages read it."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._base.folders import make_private
from trubrics_instrument.collector import sums
from trubrics_instrument.collector.log import Log
from trubrics_instrument.collector.rows import COLUMNS, Row
from trubrics_instrument.collector.schema import (
    ForeignDatabaseError,
    create_events,
    create_search,
    drop_indexes,
    gather_words,
    prepare,
    renew_sums,
)
from trubrics_instrument.collector.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future

logger = logging.getLogger(__name__)

_INSERT = (
    f"INSERT INTO events (id, {COLUMNS}) "  # noqa: S608 - the names are ours
    f"VALUES (?, {', '.join('?' * len(Row._fields))})"
)
_READER_CACHE_MIB = 64
_WRITER_CACHE_MIB = 256
_BACKFILL_ROWS = 10_000
_MANY_EVENTS = 200_000  # that takes some seconds
INDEXED_AT_ONCE = 10_000
_MOST_INDEXED_AT_ONCE = 50_000  # more than can come in with one commit, so that it never lags on
_LOOKED_UP_AT_ONCE = 500  # SQLite takes 999 values in a statement where it takes least


class Added(NamedTuple):
    """What became of the rows of one request."""

    stored: int
    duplicates: int


def fill_sums(db: sqlite3.Connection) -> None:
    """Make the sums from the events that are there; the text index follows by itself."""
    renew_sums(db)
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    if newest > _MANY_EVENTS:
        logger.warning("An older file of %s events is brought up to date …", f"{newest:,}")
    cursor = db.execute(f"SELECT id, {COLUMNS} FROM events ORDER BY id")  # noqa: S608 - as above
    while chunk := cursor.fetchmany(_BACKFILL_ROWS):
        sums.add(db, {event_id: Row._make(values) for event_id, *values in chunk})


STEPS = (create_events, create_search, gather_words, drop_indexes, fill_sums)


class Store:
    """One database file; any number of readers, and this process's one writer.

    Raises:
        ForeignDatabaseError: The file is something else, or a newer version's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # Its user has named it, so it may be a link.
        make_private(self.path.resolve())
        try:
            self._prepare()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, ForeignDatabaseError) as error:
            raise ForeignDatabaseError(f"{self.path} is not used: {error}") from error
        self._log = Log(self.path, self._connect)
        self.writer = Writer(partial(self._connect, _WRITER_CACHE_MIB), insert, self._follow)

    def add(self, rows: Sequence[Row], size_bytes: int = 0) -> Future[Added]:
        """Store the rows, each `event_id` once; done means on disk."""
        return self.writer.add(rows, size_bytes)

    def empty_log(self) -> None:
        """Move the write-ahead log into the file and clear it, so that deleted text is gone."""
        self._log.clear()

    def catch_up(self) -> None:
        """Let the index of words follow events that an earlier process left behind."""
        self.writer.submit(lambda _: None)

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Give a connection that sees one moment of the database, and cannot change it."""
        with closing(self._connect()) as db:
            db.execute("PRAGMA query_only = 1")
            db.execute("BEGIN")
            yield db

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        self.writer.close()
        self._log.wait()

    def _follow(self, db: sqlite3.Connection, idle: bool) -> bool:
        self._log.tend(db)
        return index_some(db, idle)

    def _prepare(self) -> None:
        with closing(self._connect()) as db:
            prepare(db, STEPS)
            db.execute("PRAGMA journal_mode = WAL")

    def _connect(self, cache_mib: int = _READER_CACHE_MIB) -> sqlite3.Connection:
        # A page is read by whichever thread is free: one connection each, never two at a time.
        db = sqlite3.connect(
            self.path,
            timeout=30,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        try:
            # NORMAL: in WAL mode a killed process loses nothing that it had committed.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = -{cache_mib * 1024}")
            db.execute("PRAGMA wal_autocheckpoint = 0")  # see log.py
            db.execute("PRAGMA journal_size_limit = 0")
        except sqlite3.Error:
            db.close()
            raise
        db.row_factory = sqlite3.Row
        return db


def insert(db: sqlite3.Connection, batches: Sequence[Sequence[Row]]) -> list[Added]:
    """Insert the rows whose `event_id` is new, and add them to the sums.

    What many requests brought is written together: a page of the file that they all change is
    then changed once.
    """
    known = _known(db, [row.event_id for rows in batches for row in rows if row.event_id])
    new = [_without(known, rows) for rows in batches]
    every = dict(enumerate(chain.from_iterable(new), start=_next_id(db)))
    db.executemany(_INSERT, [(event_id, *row) for event_id, row in every.items()])
    sums.add(db, every)
    return [Added(len(a), len(rows) - len(a)) for a, rows in zip(new, batches, strict=True)]


def index_some(db: sqlite3.Connection, idle: bool) -> bool:
    """Add the next texts to the index of words, and return whether it can go on.

    Large steps cost a fraction of small ones; when there is nothing else to do, any will do.
    """
    (through,) = db.execute("SELECT through FROM indexed").fetchone()
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    if newest - through < (1 if idle else INDEXED_AT_ONCE):
        return False
    until = min(newest, through + _MOST_INDEXED_AT_ONCE)
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(
            "INSERT INTO search (rowid, text) SELECT id, text FROM events "
            "WHERE id > ? AND id <= ? AND text IS NOT NULL",
            (through, until),
        )
        db.execute("UPDATE indexed SET through = ?", (until,))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return bool(until < newest)


def _next_id(db: sqlite3.Connection) -> int:
    """Return the id after the last one ever given, even if that event was deleted."""
    query = "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'events'"
    (next_id,) = db.execute(query).fetchone()
    return int(next_id)


def _known(db: sqlite3.Connection, event_ids: Sequence[str]) -> set[str]:
    """Return which of these events are there already."""
    known: set[str] = set()
    for at in range(0, len(event_ids), _LOOKED_UP_AT_ONCE):
        some = event_ids[at : at + _LOOKED_UP_AT_ONCE]
        marks = ", ".join("?" * len(some))
        query = f"SELECT event_id FROM events WHERE event_id IN ({marks})"  # noqa: S608 - marks
        known.update(row[0] for row in db.execute(query, some))
    return known


def _without(known: set[str], rows: Sequence[Row]) -> list[Row]:
    """Return the rows that are not known yet; from then on they are."""
    new: list[Row] = []
    for row in rows:
        if row.event_id is not None:
            if row.event_id in known:
                continue
            known.add(row.event_id)
        new.append(row)
    return new
