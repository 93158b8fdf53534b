"""The sender: takes events in a microsecond, and sees to it that they arrive."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from . import lifecycle

if TYPE_CHECKING:
    from .options import Prepare, SenderOptions, SenderStats
    from .run import Run

GRACE_S = 0.5
RETIRING_S = 60.0

_inherited: list[Run] = []  # a child neither uses nor closes what its parent has open


class Sender:
    """Delivers items to one host with one key; see `docs/explanation/delivery.md`."""

    def __init__(self, options: SenderOptions, prepare: Prepare) -> None:
        self._options = options
        self._prepare = prepare
        self._strict = options.spool == "strict"
        # uWSGI forks without telling Python; elsewhere `register_at_fork` saves a system call.
        self._forks_unseen = "uwsgi" in sys.modules or not hasattr(os, "register_at_fork")
        self._run = self._new_run()
        lifecycle.enlist(self)

    @property
    def run_id(self) -> str:
        """The first part of this process's event ids."""
        return self._run.run_id

    def put(self, item: object) -> bool:
        """Accept an item, or return False when there is no room or the sender is closed.

        Takes no lock and logs nothing once the worker runs: a finaliser may call it.
        """
        run = self._run
        if self._forks_unseen and run.pid != os.getpid():
            self.begin_in_child()
            run = self._run
        # There is no room before the first item, either: `admit` starts the threads.
        if self._strict or len(run.queue) >= run.room:
            if run.is_outdated():
                run = self._run = self._new_run(disk=run.disk)
            return run.admit(item)
        run.queue.append(item)
        if run.asleep:
            run.asleep = False
            run.bell.ring()
        return True

    def start(self) -> None:
        """Start the threads before the first event, to deliver what waits on disk."""
        self._current().start()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything accepted so far is delivered; False when time ran out."""
        return self._current().flush(timeout_s)

    async def aflush(self, timeout_s: float) -> bool:
        """Wait as `flush` does, without blocking the event loop.

        On a thread of its own: those that the loop lends may all be at work for the app. Where
        there is no room for one, nobody can wait, and nobody knows that all is delivered.
        """
        with suppress(RuntimeError):
            if asyncio._get_running_loop() is None and "trio" in sys.modules:
                trio = sys.modules["trio"]
                alone = trio.CapacityLimiter(1)
                done: bool = await trio.to_thread.run_sync(self.flush, timeout_s, limiter=alone)
                return done
            return await self._flushed(asyncio.get_running_loop(), timeout_s)
        return False

    async def _flushed(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> bool:
        """Flush on a thread that is no daemon: a subinterpreter may have none."""
        arrived: asyncio.Future[bool] = loop.create_future()

        def wait() -> None:
            all_arrived = False
            try:
                all_arrived = self.flush(timeout_s)
            finally:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(_settle, arrived, all_arrived)

        threading.Thread(target=wait, name="trubrics-flush").start()
        return await arrived

    def shutdown(self, timeout_s: float) -> bool:
        """Deliver what is left, within the time; return whether all of it arrived."""
        all_arrived = self._current().close(timeout_s)
        lifecycle.dismiss(self)  # not before: who is interrupted leaves the rest to the exit
        return all_arrived

    def retire(self) -> None:
        """Deliver what it holds and end: after a minute what is left goes to disk, if there is one.

        Nobody hands it anything any longer, but for who found it just before.
        """
        time.sleep(GRACE_S)
        run = self._current()
        while not (run.flush(RETIRING_S) or run.closed or run.spool.file.is_usable()):
            pass
        self.shutdown(self._options.exit_timeout_s)

    def stats(self) -> SenderStats:
        """Return how it fared so far in this process."""
        return self._current().stats()

    def close_at_exit(self, spent_s: float = 0.0) -> None:
        """Deliver what is left within what others have left of the exit's budget."""
        self._current().close(max(0.0, self._options.exit_timeout_s - spent_s))

    def before_fork(self) -> bool:
        """Let go of what a child must not inherit; return whether `after_fork` is due."""
        return self._run.spool.file.before_fork()

    def after_fork(self) -> None:
        """Go on in the parent."""
        self._run.spool.file.after_fork()

    def begin_in_child(self) -> None:
        """Start from nothing in a forked child: the parent delivers what it accepted."""
        _inherited.append(self._run)
        self._run = self._new_run(disk=not self._run.spool.file.is_open())

    def _current(self) -> Run:
        if self._run.pid != os.getpid():
            self.begin_in_child()
        return self._run

    def _new_run(self, *, disk: bool = True) -> Run:
        # Imports requests: not at package import (180 ms), nor later (impossible at exit).
        from .run import Run  # noqa: PLC0415

        return Run(self._options, self._prepare, disk=disk)


def _settle(future: asyncio.Future[bool], result: bool) -> None:
    """Set a result that somebody still waits for."""
    if not future.done():
        future.set_result(result)
