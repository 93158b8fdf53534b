"""The write-ahead log: moved into the file beside the writer, which would wait for the disk."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

MOVED_AT_BYTES = 160 * 1024 * 1024  # large: the same pages change again and again
_WAITED_FOR_AT = 4  # times that size
_MOST_PASSES = 8
_LITTLE_PAGES = 2_000
_CLEARED_WITHIN_S = 60.0
_AGAIN_AFTER_S = 0.02  # SQLite itself does not wait for whoever is moving it


class Log:
    """Looks after the log of one database file.

    SQLite by itself moves it within the commit that makes it too long. Here a thread does that
    while the writer goes on, pass after pass, until little is left; the writer moves the rest
    between two transactions, as nothing may be added then. The next one starts the log anew.

    Args:
        path: The database.
        connect: Opens it.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._file = path.with_name(f"{path.name}-wal")
        self._connect = connect
        self._thread: threading.Thread | None = None
        self._moved_bytes = 0

    def tend(self, db: sqlite3.Connection) -> None:
        """Move the log if it is long; for the writer, between two of its transactions."""
        size_bytes = self._size_bytes()
        if size_bytes < self._moved_bytes:
            self._moved_bytes = 0  # it was started anew, which it is not while a reader needs it
        waiting_bytes = size_bytes - self._moved_bytes
        if self._thread is None:
            if waiting_bytes > MOVED_AT_BYTES:
                self._thread = self._start()
            return
        if waiting_bytes > _WAITED_FOR_AT * MOVED_AT_BYTES:
            self._thread.join()  # the disk is slower than what comes in
        if not self._thread.is_alive():
            self._thread = None
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._moved_bytes = size_bytes

    def clear(self) -> None:
        """Move all of it and leave nothing in it, as soon as nobody reads or moves it."""
        deadline = time.monotonic() + _CLEARED_WITHIN_S
        with closing(self._connect()) as db:
            while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    logger.warning("What was deleted is in %s while the file is read", self._file)
                    return
                time.sleep(_AGAIN_AFTER_S)

    def wait(self) -> None:
        """Wait until nothing is being moved."""
        if self._thread is not None:
            self._thread.join()

    def _size_bytes(self) -> int:
        try:
            return self._file.stat().st_size
        except FileNotFoundError:  # it comes with the first transaction
            return 0

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._move, name="trubrics-collector-log", daemon=True)
        thread.start()
        return thread

    def _move(self) -> None:
        try:
            with closing(self._connect()) as db:
                before = 0
                for _ in range(_MOST_PASSES):
                    _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    if pages - before < _LITTLE_PAGES:
                        return
                    before = pages
        except sqlite3.Error as error:
            logger.warning("The write-ahead log was not moved: %s", error)
