"""A sender's life in one process: everything that a forked child must not share with its parent."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from . import lifecycle
from .bell import Bell
from .crew import Crew
from .encoder import Encoder, Maker, Pace
from .keeper import Keeper
from .options import SenderStats
from .outbox import Encoded, Outbox
from .spool import Spool
from .spool_file import Unavailable
from .tally import Refusals, Tally

if TYPE_CHECKING:
    from .options import Prepare, SenderOptions

CHUNK = 500
PAUSES = 1000
PAUSE_S = 0.0002
GLANCE_S = 0.1
LAST_WORDS_S = 0.1
AGAIN_S = 1.0
_NO_THREAD = (
    "No thread can be started. Events are kept, and delivered by flush(), by the end of the "
    "process, or by threads once there can be some."
)


class Run:
    """The queue and those who empty it.

    Attributes:
        pid: The process that it belongs to.
        disk: Whether it may use the disk.
        run_id: 12 hex digits, the first part of each event id.
        queue: Accepted items.
        room: How long the queue may get; negative before the threads run and after the end, so
            that `put` has a single comparison to make.
        asleep: Whether the worker waits for the bell.
    """

    def __init__(self, options: SenderOptions, prepare: Prepare, *, disk: bool = True) -> None:
        self.pid = os.getpid()
        self.disk = disk
        self._made_with = threading.Lock
        self.run_id = os.urandom(6).hex()
        self.queue: deque[object] = deque()
        self.room = -1
        self.asleep = False
        self.bell = Bell()
        self.closed = False
        self.hurrying = 0
        self.tally = Tally(options)
        self.refusals = Refusals(self.tally)
        self.outbox = Outbox(options)
        self.spool = Spool(options, self.tally, usable=disk)
        self.keeper = Keeper(options, self.outbox, self.spool, self.tally)
        self._make = Maker(prepare, self.tally, self.run_id)
        self.encoder = Encoder(
            self.queue,
            self.keeper,
            self.tally,
            self._make,
            pace=Pace(self.outbox),
            wall_clock=options.wall_clock,
        )
        self._options = options
        self._crew = Crew(self, options)
        self._lock = threading.Lock()
        self._in_vain_at = -1
        self._closing = threading.Lock()
        self._all_arrived: bool | None = None
        self._unstarted = [-math.inf]  # when threads may be tried; empty while somebody does
        self._securing: list[bool] = []

    def is_outdated(self) -> bool:
        """Whether gevent has put other locks in the place of those it has, before the first event.

        A worker of gunicorn's does so after its master has loaded the app (`--preload`).
        """
        return self._made_with is not threading.Lock and self.room < 0 and not self.queue

    def admit(self, item: object) -> bool:
        """Decide on an item that found no room, or no threads, or is strict."""
        if self.closed:
            self.refusals.too_late()
            return False
        if self.room < 0:
            self.start()
        if self._is_full():
            self._give_way()
        if self._is_full(len(self._securing)):
            self.refusals.no_room()
            return False
        if self._options.spool == "strict":
            item = self._secure(item)
            if self.closed and not (isinstance(item, Encoded) and item.row is not None):
                self.refusals.too_late()
                return False
        self.queue.append(item)
        self.bell.ring()
        return True

    def _give_way(self) -> None:
        """Let the worker have the interpreter for a moment, if that is all that it lacks.

        A burst outruns the worker by ten to one. Where the host is what it waits for, a pause
        would only slow the app.
        """
        drained = self.encoder.drained
        if drained == self._in_vain_at:
            return
        self.bell.ring()
        for _ in range(PAUSES):
            if not self._crew.is_ready():
                return
            time.sleep(PAUSE_S)
            if not self._is_full():
                return
        self._in_vain_at = drained

    def _is_full(self, more: int = 0) -> bool:
        """Tell whether the queue takes no item, beside so many that are on their way to it."""
        room = self._room() if self.room < 0 and not self.closed else self.room
        return len(self.queue) + more >= room

    def _room(self) -> int:
        left = self._options.max_memory_bytes - self.outbox.bytes
        return max(0, int(left / self.encoder.mean_bytes))

    def make_room(self) -> None:
        """Set the queue's bound to what is left of the memory bound."""
        if self.closed:
            return
        self.room = self._room()
        if self.closed:  # meanwhile
            self.room = -1

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that was accepted before the call is settled."""
        timeout_s = min(timeout_s, threading.TIMEOUT_MAX)
        deadline = self._options.clock() + timeout_s
        if self._crew.is_me():
            return False  # a callback on the worker would wait for itself
        barrier = self.encoder.accepted()
        if self.queue:
            self.start()
        with self._lock:
            self.hurrying += 1
        self.keeper.hurry()
        try:
            return self._wait(barrier, deadline)
        finally:
            with self._lock:
                self.hurrying -= 1

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left within the time, leave the rest on disk, end the threads."""
        timeout_s = min(timeout_s, threading.TIMEOUT_MAX)
        deadline = self._options.clock() + timeout_s
        self.closed = True
        self.room = -1
        # Somebody else may be at it; who was interrupted, by Ctrl-C, has left it undone.
        if not self._closing.acquire(timeout=0 if self._crew.is_me() else timeout_s):
            return False
        try:
            if self._all_arrived is None:
                all_arrived = self.flush(timeout_s)
                self.spool.file.hurry(deadline)
                if not all_arrived:
                    self._leave_rest()
                self._crew.stop(LAST_WORDS_S)
                self.spool.close()
                self._all_arrived = all_arrived
        finally:
            self._closing.release()
        return self._all_arrived

    def stats(self) -> SenderStats:
        """Return the counters as they stand."""
        queued = len(self.queue)  # first: what moves on meanwhile is still to be seen
        with self.outbox.changed:
            held = self.outbox.waiting() + self.outbox.in_flight()
            held_bytes = self.outbox.bytes
        counts, dropped, last_error = self.tally.read()
        return SenderStats(
            accepted=self.encoder.accepted(),
            delivered=counts["delivered"],
            dropped=dropped | self.refusals.by_reason(),
            queued=queued + held,
            queued_bytes=held_bytes + int(queued * self.encoder.mean_bytes),
            spooled=self.keeper.parked(),
            requests=counts["requests"],
            retries=counts["retries"],
            duplicates_possible=counts["duplicates_possible"],
            last_error=last_error,
        )

    def start(self) -> None:
        """Start the threads; where none can be had, try again, at most once a second."""
        if self.closed:
            return
        due_s: float | None = None
        try:
            with contextlib.suppress(IndexError):  # somebody is at it, or they are started
                due_s = self._unstarted.pop()  # no lock: a finaliser may come in between
            now = self._options.clock()
            if due_s is not None and now >= due_s:
                due_s = now + AGAIN_S
                if self._start_threads():
                    due_s = None
        finally:  # Ctrl-C may come at any moment
            if due_s is not None:
                self._unstarted.append(due_s)

    def _start_threads(self) -> bool:
        lifecycle.hook_exit()
        if self._crew.start():
            self.make_room()
            return True
        self.tally.fail("no thread can be started")
        if self._crew.lacks_room:
            self.tally.say(logging.WARNING, "threads", _NO_THREAD)
        return False

    def _secure(self, item: object) -> object:
        """Return the item as an event that is on disk already, if the disk takes it."""
        self._securing.append(True)
        try:
            made = self._make(item)
            if isinstance(made, Encoded):
                with contextlib.suppress(Unavailable):
                    self.spool.write([made], keep=True)
            return made
        finally:
            self._securing.pop()

    def _wait(self, barrier: int, deadline: float) -> bool:
        settled = self.outbox.settled
        self.bell.ring()
        while True:
            with settled:
                if self._is_settled(barrier):
                    return True
                left = deadline - self._options.clock()
                if left <= 0 or self._is_vain():
                    return False
                if self._crew.is_alive():
                    settled.wait(min(left, GLANCE_S))
                    continue
            self._crew.step(min(left, GLANCE_S), left)

    def _is_vain(self) -> bool:
        """Tell whether an exit should not wait: the host is in trouble, and the disk is there."""
        return self.closed and bool(self.outbox.gate.failures) and self.spool.file.is_usable()

    def _is_settled(self, barrier: int) -> bool:
        if self.encoder.drained < barrier or self.outbox.oldest() < barrier:
            return False
        return not self.keeper.holds_any()

    def _leave_rest(self) -> None:
        """Bring what is left to disk on the closing thread: the worker may be anywhere."""
        self.keeper.closing = True
        while self.encoder.move(CHUNK):
            pass
        self.keeper.park(self.outbox.seize(in_flight=True))
        left = self.outbox.seize(in_flight=True)
        self.keeper.note([event for event in left if self.spool.holds(event)])
        lost = [event for event in left if not self.spool.holds(event)]
        self.tally.drop([event.body for event in lost], "undelivered_at_exit")
        if self.queue:
            self.tally.lose("stuck_at_exit", len(self.queue))
        self._say_what_waits()

    def _say_what_waits(self) -> None:
        """Say it to who runs a short program, which ends before trouble is worth a line."""
        waiting = self.keeper.parked()
        if waiting:
            text = "Events that were not delivered to %s (%s) wait on disk for the next run: %d."
            why = self.tally.read()[2] or "no answer"
            self.tally.say(logging.WARNING, "waits", text, self._options.host, why, waiting)
