"""The one thread that changes the database: jobs that wait together share a transaction."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import deque
from concurrent.futures import Future
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trubrics_instrument.collector.rows import Row

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_JOBS_PER_COMMIT = 64
_T = TypeVar("_T")


class BusyError(Exception):
    """More is waiting to be written than may be held in memory; come back later."""


class _Job(NamedTuple):
    """What to write: rows, or else whatever `work` does."""

    rows: Sequence[Row]
    work: Callable[[sqlite3.Connection], Any] | None
    future: Future[Any]
    size_bytes: int


class Writer:
    """Does jobs on one connection, in order; a job is done when its transaction is on disk.

    The thread starts with the first job, so that a server which forks after it built the app
    has none to lose.

    Args:
        connect: Opens the database.
        insert: Writes the rows of one job after another, and returns what became of each.
        follow: Work that follows from the jobs and may come later: called after each commit with
            whether no job waits, returns whether to call again soon.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        insert: Callable[[sqlite3.Connection, Sequence[Sequence[Row]]], Sequence[object]],
        follow: Callable[[sqlite3.Connection, bool], bool],
    ) -> None:
        self._connect = connect
        self._insert = insert
        self._follow = follow
        self._behind = False
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._closing = False

    def submit(self, work: Callable[[sqlite3.Connection], _T]) -> Future[_T]:
        """Queue a job of its own; its result comes with the commit."""
        future: Future[_T] = Future()
        self._put(_Job((), work, future, 0))
        return future

    def add(self, rows: Sequence[Row], size_bytes: int) -> Future[Any]:
        """Queue rows; what became of them comes with the commit.

        Raises:
            BusyError: `size_bytes` more would be too much to hold.
        """
        future: Future[Any] = Future()
        self._put(_Job(rows, None, future, size_bytes))
        return future

    def close(self, timeout_s: float = 10.0) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _put(self, job: _Job) -> None:
        with self._changed:
            if self._waiting_bytes and self._waiting_bytes + job.size_bytes > MAX_WAITING_BYTES:
                raise BusyError("too much is waiting to be written")
            self._waiting_bytes += job.size_bytes
            self._jobs.append(job)
            self._start()
            self._changed.notify()

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive() and self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="trubrics-collector", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        while not self._closing or self._jobs:
            jobs = self._take()
            try:
                db = db or self._connect()
            except sqlite3.Error as error:
                for job in jobs:
                    job.future.set_exception(error)
                continue
            self._commit(db, jobs)
            self._catch_up(db)
        if db is not None:
            db.close()

    def _catch_up(self, db: sqlite3.Connection) -> None:
        try:
            self._behind = self._follow(db, not self._jobs)
        except sqlite3.Error as error:
            # The next job brings the next try.
            self._behind = False
            logger.warning("The index of words does not follow: %s", error)

    def _take(self) -> list[_Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing or self._behind)
            count = min(len(self._jobs), MAX_JOBS_PER_COMMIT)
            jobs = [self._jobs.popleft() for _ in range(count)]
            self._waiting_bytes -= sum(job.size_bytes for job in jobs)
        # Whoever asked may have gone away meanwhile; from here on that makes no difference.
        return [job for job in jobs if job.future.set_running_or_notify_cancel()]

    def _commit(self, db: sqlite3.Connection, jobs: list[_Job]) -> None:
        if not jobs:
            return
        try:
            results = self._write_together(db, jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            # Each alone, so that the one which cannot be done fails alone.
            for job in jobs:
                self._commit(db, [job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)

    def _write_together(self, db: sqlite3.Connection, jobs: list[_Job]) -> list[object]:
        db.execute("BEGIN IMMEDIATE")
        try:
            results = list(self._results(db, jobs))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return results

    def _results(self, db: sqlite3.Connection, jobs: list[_Job]) -> Iterator[object]:
        for work, alike in groupby(jobs, lambda job: job.work):
            if work is None:
                yield from self._insert(db, [job.rows for job in alike])
            else:
                yield from (work(db) for _ in alike)
