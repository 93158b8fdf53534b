"""The one thread that changes the database: jobs that wait together share a transaction."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_JOBS_PER_COMMIT = 64
_T = TypeVar("_T")


class BusyError(Exception):
    """More is waiting to be written than may be held in memory; come back later."""


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    size_bytes: int


class Writer:
    """Runs jobs on one connection, in order; a job is done when its transaction is on disk.

    The thread starts with the first job, so that a server which forks after it built the app
    has none to lose.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._closing = False

    def submit(self, work: Callable[[sqlite3.Connection], _T], size_bytes: int = 0) -> Future[_T]:
        """Queue a job; its result comes with the commit.

        Raises:
            BusyError: `size_bytes` more would be too much to hold.
        """
        job = _Job(work, Future(), size_bytes)
        with self._changed:
            if self._waiting_bytes and self._waiting_bytes + size_bytes > MAX_WAITING_BYTES:
                raise BusyError("too much is waiting to be written")
            self._waiting_bytes += size_bytes
            self._jobs.append(job)
            self._start()
            self._changed.notify()
        return cast("Future[_T]", job.future)

    def close(self, timeout_s: float = 10.0) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive() and self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="trubrics-collector", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        db = self._connect()
        try:
            while jobs := self._take():
                _commit(db, jobs)
        finally:
            db.close()

    def _take(self) -> list[_Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            count = min(len(self._jobs), MAX_JOBS_PER_COMMIT)
            jobs = [self._jobs.popleft() for _ in range(count)]
            self._waiting_bytes -= sum(job.size_bytes for job in jobs)
        return jobs


def _commit(db: sqlite3.Connection, jobs: list[_Job]) -> None:
    try:
        results = _run_together(db, jobs)
    except Exception as error:
        if len(jobs) == 1:
            jobs[0].future.set_exception(error)
            return
        # Each alone, so that the one which cannot be done fails alone.
        for job in jobs:
            _commit(db, [job])
        return
    for job, result in zip(jobs, results, strict=True):
        job.future.set_result(result)


def _run_together(db: sqlite3.Connection, jobs: list[_Job]) -> list[object]:
    db.execute("BEGIN IMMEDIATE")
    try:
        results = [job.work(db) for job in jobs]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return results
