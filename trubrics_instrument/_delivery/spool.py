"""Events on disk, shared by the processes of one host and key: rows with owners and leases."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .spool_file import SpoolFile, Unavailable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from .options import SenderOptions
    from .outbox import Encoded
    from .tally import Tally

WRITER_BITS = 12
WRITERS = 1 << WRITER_BITS
MAKE_ROOM_ROWS = 100
MICRO = 1_000_000


class Row(NamedTuple):
    """A row that this process has claimed."""

    id: int
    key: str
    body: bytes


class Spool:
    """One process's access to the spool; every method is one transaction, or `Unavailable`.

    Attributes:
        file: The file underneath.
        owner: This process among the owners; 0 before it needed to be one.
    """

    def __init__(self, options: SenderOptions, tally: Tally, *, usable: bool = True) -> None:
        self.file = SpoolFile(options, tally, usable=usable and options.spool != "off")
        self.owner = 0
        self._options = options
        self._tally = tally
        self._leased_in = 0
        self._renew_at_s = 0.0
        self._last_place = 0
        self._in_hand: set[int] = set()  # rows that were claimed, and not settled yet

    def write(self, events: Sequence[Encoded], *, keep: bool) -> None:
        """Store events that are not stored yet, in hand (`keep`) or for whoever comes.

        Those that are stored already are left to whoever comes, too, in the same transaction.
        """

        def insert(db: sqlite3.Connection) -> tuple[list[bytes], list[tuple[Encoded, int]], int]:
            self._keep_lease(db)
            fresh = [event for event in events if not self.holds(event)]
            lost = self._make_room(db, sum(len(event.body) for event in fresh))
            owner = self.owner if keep else None
            rows = [(self._new_row(event), owner, event.key, event.body) for event in fresh]
            db.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
            if not keep:
                free = [(event.row,) for event in events if self.holds(event)]
                db.executemany("UPDATE event SET owner = NULL WHERE id = ?", free)
                if self._in_hand.issubset(event.row for event in events):
                    db.execute("DELETE FROM replay WHERE owner = ?", (self.owner,))
            stored = [(event, row[0]) for event, row in zip(fresh, rows)]  # noqa: B905 - made from each other
            return lost, stored, self.file.number

        lost, stored, number = self.file.transact(insert)
        self._in_hand.difference_update([event.row for event in events if event.row is not None])
        for event, row in stored:
            event.row, event.file = row, number
        self._tally.drop(lost, "spool_full")

    def holds(self, event: Encoded) -> bool:
        """Tell whether an event is on disk: it was stored, and in the file that is there."""
        return event.row is not None and event.file == self.file.number

    def remove(self, rows: Iterable[int]) -> None:
        """Delete rows whose events are settled."""
        ids = [(row,) for row in rows]
        self.file.transact(lambda db: db.executemany("DELETE FROM event WHERE id = ?", ids))
        self._in_hand.difference_update(row for (row,) in ids)

    def claim(self, limit: int) -> list[Row]:
        """Take the oldest waiting rows in hand; none while another process replays."""
        oldest_s = self._options.wall_clock() - self._options.spool_age_s

        def take(db: sqlite3.Connection) -> tuple[list[Row], list[bytes]]:
            self._keep_lease(db)
            _adopt(db, self.owner, self._options.wall_clock())
            replaying = db.execute("SELECT owner FROM replay").fetchone()
            if replaying is not None and replaying[0] != self.owner:
                return [], []
            old = _delete(db, "id < ?", (int(oldest_s * MICRO) << WRITER_BITS,))
            rows = _oldest(db, limit, self._options.max_batch_bytes)
            mine = [(self.owner, row.id) for row in rows]
            db.executemany("UPDATE event SET owner = ? WHERE id = ?", mine)
            db.execute("DELETE FROM replay")
            if rows:
                db.execute("INSERT INTO replay VALUES (1, ?)", (self.owner,))
            return rows, old

        rows, old = self.file.transact(take)
        self._in_hand.update(row.id for row in rows)
        self._tally.drop(old, "too_old")
        return rows

    def has_mine(self) -> bool:
        """Tell whether rows that this process wrote are still there."""
        mine = f"SELECT 1 FROM event WHERE id % {WRITERS} = ? LIMIT 1"  # noqa: S608 - a number
        writer = (self.owner % WRITERS,)
        return self.file.transact(lambda db: db.execute(mine, writer).fetchone() is not None)

    def is_mine(self, row: int) -> bool:
        """Tell whether this process wrote the row."""
        return row % WRITERS == self.owner % WRITERS

    def renew(self) -> None:
        """Keep the lease on what is in hand."""
        self.file.transact(self._keep_lease)

    def close(self) -> None:
        """Leave: the rows in hand are anybody's from now on."""

        def leave(db: sqlite3.Connection) -> None:
            db.execute("UPDATE event SET owner = NULL WHERE owner = ?", (self.owner,))
            db.execute("DELETE FROM replay WHERE owner = ?", (self.owner,))
            db.execute("DELETE FROM owner WHERE id = ?", (self.owner,))

        if self.file.is_open():
            with contextlib.suppress(Unavailable):
                self.file.transact(leave)
        self.file.close()

    def _new_row(self, event: Encoded) -> int:
        """Return the event's row id: microseconds << 12 | the writer, so that rows sort by time."""
        now = int(self._options.wall_clock() * MICRO)
        place = event.place or max(now, self._last_place + 1)
        self._last_place = max(place, self._last_place)
        return place << WRITER_BITS | self.owner % WRITERS

    def _keep_lease(self, db: sqlite3.Connection) -> None:
        """Be among the owners, for `lease_s` from now."""
        now = self._options.wall_clock()
        if self._leased_in == self.file.openings and now < self._renew_at_s:
            return
        lease = (node_name(), os.getpid(), now + self._options.lease_s)
        if self.owner:
            db.execute("INSERT OR REPLACE INTO owner VALUES (?, ?, ?, ?)", (self.owner, *lease))
        else:
            insert = "INSERT INTO owner (node, pid, until_s) VALUES (?, ?, ?)"
            self.owner = db.execute(insert, lease).lastrowid or 0
        self._leased_in = self.file.openings
        self._renew_at_s = now + self._options.lease_s / 3

    def _make_room(self, db: sqlite3.Connection, coming_bytes: int) -> list[bytes]:
        """Delete the oldest waiting rows as the quota demands; return their bodies."""
        oldest = "id IN (SELECT id FROM event WHERE owner IS NULL ORDER BY id LIMIT ?)"
        lost: list[bytes] = []
        while _used_bytes(db) + coming_bytes > self._options.spool_quota_bytes:
            more = _delete(db, oldest, (MAKE_ROOM_ROWS,))
            if not more:
                break
            lost += more
        return lost


def node_name() -> str:
    """Return where this process's pid means something: the host and its pid namespace."""
    try:
        return f"{os.uname().nodename} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, AttributeError):  # not Linux: macOS has no namespaces, Windows no uname
        return os.environ.get("COMPUTERNAME", "")


def _adopt(db: sqlite3.Connection, me: int, now_s: float) -> None:
    """Free the rows of owners that are gone."""
    owners = db.execute("SELECT id, node, pid, until_s FROM owner WHERE id <> ?", (me,)).fetchall()
    for owner, node, pid, until_s in owners:
        if until_s >= now_s and not (node == node_name() and _is_gone(pid)):
            continue
        db.execute("UPDATE event SET owner = NULL WHERE owner = ?", (owner,))
        db.execute("DELETE FROM replay WHERE owner = ?", (owner,))
        db.execute("DELETE FROM owner WHERE id = ?", (owner,))


def _oldest(db: sqlite3.Connection, limit: int, most_bytes: int) -> list[Row]:
    rows: list[Row] = []
    size = 0
    select = "SELECT id, key, body FROM event WHERE owner IS NULL ORDER BY id LIMIT ?"
    for row in db.execute(select, (limit,)):
        rows.append(Row(*row))
        size += len(rows[-1].body)
        if size >= most_bytes:
            break
    return rows


def _is_gone(pid: int) -> bool:
    """Tell whether there is no such process here, so that its lease need not be waited for."""
    if os.name != "posix":  # os.kill(pid, 0) would end the process on Windows
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _delete(db: sqlite3.Connection, which: str, values: tuple[int, ...]) -> list[bytes]:
    where = f"owner IS NULL AND {which}"
    bodies = [body for (body,) in db.execute(f"SELECT body FROM event WHERE {where}", values)]  # noqa: S608 - our own conditions
    if bodies:
        db.execute(f"DELETE FROM event WHERE {where}", values)  # noqa: S608 - our own conditions
    return bodies


def _used_bytes(db: sqlite3.Connection) -> int:
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
