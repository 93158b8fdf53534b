"""The threads of a run: one worker that encodes, and lanes that deliver."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from trubrics_instrument._base.shield import shield

from .lane import Lane
from .transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .options import SenderOptions
    from .outbox import Encoded
    from .run import Run

CORE = 2
# Source: CPython 3.10 to 3.14, `_threadmodule.c`.
_NO_ROOM = "can't start new thread"
CHUNK = 100
TICK_S = 0.02
# A look that finds nothing costs the app more than the worker: it takes the interpreter away.
GLANCE_S = 0.1
ALWAYS_LINGER_S = 0.01
IDLE_S = 10.0
SLOW_S = 0.02
AFTER_FAULT_S = 1.0


class Crew:
    """Starts the threads, and does their work in line where none can be had.

    The worker never waits for the host, and the app never waits for the worker.

    Attributes:
        lacks_room: Whether the system had no room for the last thread that was to start.
    """

    def __init__(self, run: Run, options: SenderOptions) -> None:
        self._run = run
        self._options = options
        self._stopped = False
        # `always` promises that all but the last 50 ms are on disk, should the process be killed.
        most_s = ALWAYS_LINGER_S if options.spool == "always" else options.flush_interval_s
        self._linger_s = min(options.flush_interval_s, most_s)
        self.lacks_room = False
        self._threads: list[threading.Thread] = []  # the first lane, the worker, more lanes
        self._lanes: list[Lane] = []

    def start(self) -> bool:
        """Start the first lane and the worker, if they are not there; return whether they are.

        The worker comes last: what it finds in the queue it can bring on. Who was interrupted the
        last time may have begun none.
        """
        self._threads = [one for one in self._threads if one.ident is not None]
        if not self._threads:
            self._add_lane(forever=True)
        if len(self._threads) == 1:
            self._thread(self._work, "trubrics-worker")
        return len(self._threads) >= CORE

    def is_alive(self) -> bool:
        """Tell whether the threads that a run cannot do without are at work."""
        return len(self._threads) >= CORE and all(
            thread.is_alive() for thread in self._threads[:CORE]
        )

    def is_me(self) -> bool:
        """Tell whether the caller is one of the threads."""
        return threading.current_thread() in self._threads

    def is_ready(self) -> bool:
        """Tell whether the next step takes events: the outbox, or the disk."""
        self._measure()
        return self._run.outbox.has_room() or self._run.keeper.is_diverting()

    def step(self, wait_s: float, timeout_s: float) -> None:
        """Do a piece of the work on the calling thread, because the threads are gone."""
        if not self._lanes:
            self._lanes.append(self._new_lane())
        self._run.encoder.move(CHUNK)
        self._lanes[0].step(wait_s, timeout_s)

    def stop(self, timeout_s: float) -> None:
        """End the threads, and wait for those that are not in a request."""
        self._stopped = True
        self._run.bell.ring()
        self._run.outbox.close()
        if self.is_me():
            return
        deadline = self._options.clock() + timeout_s
        for thread in self._threads:
            with suppress(RuntimeError):  # it has not begun
                thread.join(max(0.0, deadline - self._options.clock()))

    def _thread(self, target: Callable[[], None], name: str) -> bool:
        before = [*self._threads[:CORE], *_alive(self._threads[CORE:])]
        try:
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads = [*before, thread]  # first: Ctrl-C may come once it runs
            thread.start()
        except RuntimeError as error:
            # Not news: an interpreter that ends, or that is a subinterpreter and has no daemons.
            self.lacks_room = _NO_ROOM in str(error)
            self._threads = before
            return False
        return True

    def _add_lane(self, *, forever: bool) -> None:
        lane = self._new_lane()
        self._lanes.append(lane)
        if not self._thread(lambda: self._drive(lane, forever=forever), "trubrics-lane"):
            self._lanes.remove(lane)

    def _hire(self) -> None:
        """Open one more connection when no request failed, but the host is slower than the app."""
        run = self._run
        # None are left when a sender closes while the worker is still at it.
        if not 0 < len(self._lanes) < self._options.max_connections or run.outbox.gate.failures:
            return
        if run.outbox.waiting() < self._options.max_batch:
            return
        if run.outbox.gate.silent_for_s() > SLOW_S:
            self._add_lane(forever=False)

    def _new_lane(self) -> Lane:
        run = self._run
        transport = Transport(self._options)
        return Lane(self._options, run.outbox, run.tally, transport, self._settled)

    def _drive(self, lane: Lane, *, forever: bool) -> None:
        """Deliver until the end; a lane that was added for a rush goes when it finds no work."""
        try:
            while not self._stopped:
                with shield("delivering", own_thread=True) as guard:
                    if not lane.step(IDLE_S) and not forever:
                        return
                if guard.failed:
                    time.sleep(AFTER_FAULT_S)
        finally:
            self._lanes.remove(lane)
            lane.close()

    def _work(self) -> None:
        while not self._stopped:
            with shield("encoding", own_thread=True) as guard:
                self._turn()
            if guard.failed:
                self._run.bell.sleep(AFTER_FAULT_S)

    def _settled(self, events: Sequence[Encoded]) -> None:
        self._run.keeper.settled(events)
        self._run.bell.ring()

    def _turn(self) -> None:
        run = self._run
        self._tend()
        if not run.queue:
            self._sleep(run.keeper.nap_s())
            return
        self._linger()
        while run.queue and self.is_ready():
            run.encoder.move(CHUNK)
            self._tend()
        if run.queue:
            run.bell.sleep(TICK_S)

    def _tend(self) -> None:
        run = self._run
        self._measure()
        with run.encoder.lock:
            run.keeper.tend()
        self._hire()
        run.make_room()
        run.refusals.own_up()
        held = bool(run.queue or run.outbox.waiting() or run.outbox.in_flight())
        run.keeper.warn_of_blackout(holds_events=held or bool(run.keeper.parked()))

    def _measure(self) -> None:
        self._run.keeper.measure(len(self._run.queue) * self._run.encoder.mean_bytes)

    def _sleep(self, nap_s: float) -> None:
        run = self._run
        run.asleep = True
        if not run.queue and not self._stopped:
            run.bell.sleep(nap_s)
        run.asleep = False

    def _linger(self) -> None:
        """Give the first event of a batch some company."""
        run, clock = self._run, self._options.clock
        until = clock() + self._linger_s
        while len(run.queue) < min(self._options.max_batch, run.room):
            left = until - clock()
            if left <= 0 or run.hurrying or self._stopped:
                return
            run.bell.sleep(min(left, GLANCE_S))


def _alive(threads: list[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threads if thread.is_alive()]
