"""The file of a spool: where it lies, how it is opened, and what happens when the disk fails."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trubrics_instrument._base.folders import make_private, state_folder

from .set_aside import aside, forget

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .options import SenderOptions
    from .tally import Tally

T = TypeVar("T")

BUSY_S = 1.0
FORK_S = 0.2
LAST_S = 0.5
SULK_S = 60.0
TRY_AGAIN_S = 0.05
# owner.node: where the pid means something; owner.until_s: the lease's end.
# event.id: see Spool._new_row; event.owner: who has it in hand, NULL when it waits.
# replay: the one process that replays, so that rows of one key cannot overtake each other.
SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS owner (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, pid INTEGER NOT NULL,
    until_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, owner INTEGER, key TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS replay (one INTEGER PRIMARY KEY, owner INTEGER NOT NULL);
"""
# As a script: up to Python 3.11 `execute` makes one step of the first, which is one page.
GIVE_BACK = "PRAGMA incremental_vacuum{}; PRAGMA wal_checkpoint(TRUNCATE);"
_PAGES = "(1000)"  # 4 MB at a time: whoever writes meanwhile waits


class Unavailable(Exception):  # noqa: N818 - a state of the disk, nobody's mistake
    """The disk does not take or give events now; memory has to do."""


def directory(spool_dir: str | None) -> Path:
    """Return the folder of the spools: the given one, or one in the user's state directory."""
    return Path(spool_dir).expanduser() if spool_dir else state_folder()


def spool_path(spool_dir: str | None, host: str, api_key: str | None) -> Path:
    """Return the file for this host and key; neither can be read from its name."""
    name = hashlib.sha256(f"{host.rstrip('/')}\n{api_key or ''}".encode()).hexdigest()[:16]
    return directory(spool_dir) / f"{name}.sqlite"


def connect(path: Path, host: str, timeout_s: float = BUSY_S) -> sqlite3.Connection:
    """Open the spool, made if need be, readable for this user only.

    Raises:
        OSError: It cannot be made, or it is a link, or somebody else's.
        sqlite3.Error: It is no spool, or the disk fails.
    """
    make_private(path)
    db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")  # prompts are personal data
        db.executescript(SCHEMA)
        if db.execute("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
            raise sqlite3.DatabaseError("it may keep what is deleted")  # noqa: TRY301
        db.execute("INSERT OR IGNORE INTO about VALUES ('host', ?)", (host,))
    except BaseException:
        db.close()
        raise
    return db


class SpoolFile:
    """A connection that is opened when needed, used by one thread at a time, and may fail.

    Attributes:
        path: The SQLite file.
        openings: How often it was opened; what was written before may be gone since.
        number: How many files there have been under this path: what was written into an earlier
            one is gone, removed by somebody or set aside.
    """

    def __init__(self, options: SenderOptions, tally: Tally, *, usable: bool) -> None:
        own = spool_path(options.spool_dir, options.host, options.api_key)
        self.path = options.spool_path or own
        self.openings = 0
        self.number = 0
        self._options = options
        self._tally = tally
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._sulking_until_s = 0.0 if usable else float("inf")
        self._give_up_at_s: float | None = None

    def is_usable(self) -> bool:
        """Tell whether the disk is worth a try now."""
        return self._options.clock() >= self._sulking_until_s

    def is_open(self) -> bool:
        """Tell whether there is a connection, to a file that is still there."""
        return self._db is not None and _identity(self.path) == self._identity

    def hurry(self, deadline_s: float) -> None:
        """Wait for others until the process ends, and for a moment if that is now."""
        self._give_up_at_s = max(deadline_s, self._options.clock() + LAST_S)

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in one transaction; others that are at it are waited for a second in all.

        Raises:
            Unavailable: The disk failed; it is left alone for a minute, with one line in the log.
        """
        if not self.is_usable():
            raise Unavailable
        until_s = self._give_up_at_s or self._options.clock() + BUSY_S
        with self._held(self._left_s(until_s)):
            try:
                there = _identity(self.path)
                if self._db is not None and there != self._identity:
                    self._disconnect()  # SQLite would write on into a file without a name
                    self._identity = None  # the next one may get its inode
                try:
                    return self._attempt(work, until_s)
                except sqlite3.DatabaseError as error:
                    if type(error) is not sqlite3.DatabaseError:
                        raise
                    self._set_aside(there)
                    return self._attempt(work, until_s)
            except Exception as error:  # also what no disk says: an id or a name it cannot hold
                self._sulk(error)
        raise Unavailable

    def tidy(self) -> None:
        """Give some pages of deleted rows back to the disk, the log's too; forget old damage."""
        forget(self.path, self._options.wall_clock() - self._options.spool_age_s)
        with contextlib.suppress(Unavailable), self._held():
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.executescript(GIVE_BACK.format(_PAGES))

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        with contextlib.suppress(Unavailable), self._held():
            self._disconnect()

    def before_fork(self) -> bool:
        """Close the connection and keep the lock across a fork; False if that took too long.

        A child that inherits an open connection inherits SQLite's idea of the file's locks.
        Source: sqlite.org, "How To Corrupt An SQLite Database File", 2.6.
        """
        if self._holder == threading.get_ident() or not self._lock.acquire(timeout=FORK_S):
            return False
        self._disconnect()
        return True

    def after_fork(self) -> None:
        """Let go of the lock, in the parent."""
        self._lock.release()

    @contextlib.contextmanager
    def _held(self, timeout_s: float = BUSY_S) -> Generator[None]:
        me = threading.get_ident()
        # A finaliser that tracks can run in the middle of a transaction of its own thread.
        if self._holder == me or not self._lock.acquire(timeout=timeout_s):
            raise Unavailable
        self._holder = me
        try:
            yield
        finally:
            self._holder = None
            self._lock.release()

    def _attempt(self, work: Callable[[sqlite3.Connection], T], until_s: float) -> T:
        if self._db is None:
            self._db = self._connect(until_s)
            self._recognise()
        db = self._db
        db.execute(f"PRAGMA busy_timeout = {int(self._left_s(until_s) * 1000)}")
        db.execute("BEGIN IMMEDIATE")
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        return result

    def _connect(self, until_s: float) -> sqlite3.Connection:
        """Connect, patiently: the first ones to come switch to WAL under an exclusive lock."""
        self.openings += 1
        while True:
            try:
                return connect(self.path, self._options.host, self._left_s(until_s))
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or self._left_s(until_s) <= TRY_AGAIN_S:
                    raise
            time.sleep(TRY_AGAIN_S)

    def _left_s(self, until_s: float) -> float:
        return max(0.0, until_s - self._options.clock())

    def _recognise(self) -> None:
        before, self._identity = self._identity, _identity(self.path)
        if self._identity != before:
            self.number += 1

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _set_aside(self, damaged: tuple[int, int] | None) -> None:
        """Move a file that is no database out of the way, for a human to look at."""
        self._disconnect()
        if damaged is None or _identity(self.path) != damaged:
            return  # another process has done so, and begun a new one
        place = aside(self.path, self._options.wall_clock(), damaged[1])
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.path.replace(place)
        text = "The spool was no database; it is set aside as %s, and a new one begun."
        self._tally.say(logging.WARNING, "spool corrupt", text, place)

    def _sulk(self, error: Exception) -> None:
        self._disconnect()
        busy = "locked" in str(error)
        self._sulking_until_s = self._options.clock() + (TRY_AGAIN_S if busy else SULK_S)
        text = (
            "The spool cannot be used (%s: %s); events stay in memory for now. "
            "TRUBRICS_SPOOL_DIR can name another folder."
        )
        self._tally.say(logging.WARNING, "spool", text, type(error).__name__, error)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one under the same path; None if there is none."""
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino
