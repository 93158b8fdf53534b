"""When events go to disk and when they come back: the policy between encoder, outbox and spool."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from trubrics_instrument._base.folders import is_there

from .outbox import NOT_OURS, Encoded
from .spool_file import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .options import SenderOptions
    from .outbox import Outbox
    from .spool import Row, Spool
    from .tally import Tally

TROUBLE_S = 1.0
CALM_S = 60.0
CHECK_S = 2.0
BLACKOUT_S = 60.0
SOON_S = 0.1
FOREVER_S = 3600.0
MAX_KEYS = 20_000
TOO_FULL = 0.75
ENOUGH = 0.5


class Keeper:
    """Decides for each event between memory and disk.

    An event whose key has events waiting on disk goes to disk as well: it must not overtake
    them. `place` and `tend` are called under the encoder's lock, `settled` by any lane; `park` is
    also called at the exit, without the lock: for events that no lane has any longer.

    Attributes:
        closing: Whether the process ends: then everything goes to disk.
    """

    def __init__(self, options: SenderOptions, outbox: Outbox, spool: Spool, tally: Tally) -> None:
        now = options.clock()
        spread_s = options.chance() * options.replay_spread_s
        self.closing = False
        self._options = options
        self._outbox = outbox
        self._gate = outbox.gate
        self._spool = spool
        self._tally = tally
        self._overflowing = False
        self._lock = threading.Lock()
        self._parked: Counter[str] = Counter()
        self._file = 0
        self._spilling = False
        self._leftover_rows: list[int] = []
        self._replay_at_s = now + spread_s
        self._limited_until_s = now + spread_s + CALM_S
        self._renew_at_s = now
        self._check_at_s = now
        self._held_since_s: float | None = None

    def place(self, events: Sequence[Encoded]) -> None:
        """Bring fresh events to memory or disk, in order."""
        if not events:
            return
        if self.is_diverting():
            self.park(events)
            return
        parked = self._parked
        if parked:
            self.park([event for event in events if event.key in parked])
            events = [event for event in events if event.key not in parked]
        if self._options.spool == "always" and events:
            self._store(events)
        self._outbox.add(events)

    def is_diverting(self) -> bool:
        """Tell whether new events go to disk."""
        if not self._spool.file.is_usable():
            return False
        in_trouble = self._gate.in_trouble_for_s() > TROUBLE_S
        is_stuck = self._is_silent() and not self._outbox.has_room()
        many = len(self._parked) > MAX_KEYS
        return in_trouble or is_stuck or self._overflowing or self.closing or many

    def park(self, events: Sequence[Encoded]) -> None:
        """Leave events on disk for whoever comes; in memory where the disk fails."""
        try:
            self._spool.write(events, keep=False)
        except Unavailable:
            self._outbox.add(events)
            return
        self._count_gone()
        if not self._parked:
            self._replay_at_s = min(self._replay_at_s, self._options.clock())
        self.note(events)

    def note(self, events: Sequence[Encoded]) -> None:
        """Take note that events are on disk, for whoever comes."""
        with self._lock:
            self._parked.update(event.key for event in events if not event.replayed)

    def settled(self, events: Sequence[Encoded]) -> None:
        """Delete what was delivered or given up from the disk."""
        rows = [event.row for event in events if event.row is not None]
        if not rows:
            return
        try:
            self._spool.remove(rows)
        except Unavailable:
            self._leftover_rows.extend(rows)
        with self._lock:
            for event in events:
                if event.replayed and self._spool.is_mine(event.row or 0):
                    self._unpark(event.key)

    def measure(self, queued_bytes: float) -> None:
        """Find out whether memory fills up; that is over when it is half empty."""
        share = (self._outbox.bytes + queued_bytes) / self._options.max_memory_bytes
        self._overflowing = share > (ENOUGH if self._overflowing else TOO_FULL)

    def tend(self) -> None:
        """Do what is due: spill, replay, keep the lease."""
        now = self._options.clock()
        if not self._spool.file.is_usable():
            return
        self._spill()
        self._save()
        try:
            self._replay(now)
            self._keep_house(now)
        except Unavailable:
            return

    def hurry(self) -> None:
        """Somebody waits: try now rather than after a random while."""
        with self._outbox.changed:
            self._gate.hurry()
            self._outbox.changed.notify_all()
        if self._parked:
            self._replay_at_s = min(self._replay_at_s, self._options.clock())

    def nap_s(self) -> float:
        """Return how long nothing will be due."""
        if self._parked or self._leftover_rows or self._gate.failures:
            return SOON_S
        if self._outbox.waiting() and self._outbox.in_flight():
            return SOON_S  # the host may owe an answer for too long
        if self._outbox.waiting() or self._outbox.in_flight():
            return min(CHECK_S, self._options.lease_s / 3)
        if self._spool.file.is_usable() and is_there(self._spool.file.path):
            return max(SOON_S, self._replay_at_s - self._options.clock())
        return FOREVER_S

    def parked(self) -> int:
        """Return how many events of this process wait on disk."""
        with self._lock:
            return sum(self._parked.values())

    def holds_any(self) -> bool:
        """Tell whether events of this process wait on disk, or are on their way there."""
        return self._spilling or self.parked() > 0

    def warn_of_blackout(self, *, holds_events: bool) -> None:
        """Say so when events were accepted, and none got through for a minute."""
        now = self._options.clock()
        if not holds_events:
            self._held_since_s = None
            return
        if self._held_since_s is None:
            self._held_since_s = now
        since = max(self._held_since_s, self._gate.passed_at_s)
        if now - since >= BLACKOUT_S:
            text = "No event has got through for %d s (%s). Events are kept; see stats()."
            error = self._tally.last_error or "no answer"
            self._tally.say(logging.WARNING, "blackout", text, now - since, error)

    def _store(self, events: Sequence[Encoded]) -> None:
        try:
            self._spool.write(events, keep=True)
        except Unavailable:
            return

    def _is_silent(self) -> bool:
        """Tell whether an answer is so long due that it may never come; a slow host is well."""
        return self._gate.silent_for_s() > TROUBLE_S

    def _spill(self) -> None:
        """Bring to disk what waits in memory for a host that is in trouble, or fills it."""
        filled = self._overflowing and self._outbox.bytes > self._options.max_memory_bytes / 4
        if self._gate.in_trouble_for_s() <= TROUBLE_S and not filled:
            return
        if not self._may_go() and self._outbox.waiting():
            self._take_over(self.park)

    def _may_go(self) -> bool:
        """Tell whether a lane would be let through to the host now."""
        with self._outbox.changed:
            return self._gate.wait_s(in_flight=bool(self._outbox.in_flight())) == 0.0

    def _save(self) -> None:
        """Have what waits for a silent host on disk as well, should the process be killed."""
        if self._is_silent() and self._outbox.risks_any():
            self._take_over(self._keep)

    def _take_over(self, act: Callable[[Sequence[Encoded]], None]) -> None:
        """Do something with all that waits, while no lane can take it."""
        self._spilling = True
        try:
            act(self._outbox.seize(in_flight=False))
        finally:
            self._spilling = False

    def _keep(self, events: Sequence[Encoded]) -> None:
        self._store(events)
        self._outbox.add(events)

    def _replay(self, now: float) -> None:
        if now < self._replay_at_s or self._overflowing or self.closing:
            return
        if not self._may_go() or self._outbox.waiting() >= self._options.max_batch:
            return
        if not self._parked and not is_there(self._spool.file.path):
            self._replay_at_s = now + self._options.look_s
            return
        rows = self._spool.claim(self._options.max_batch)
        if not rows:
            self._spool.file.tidy()
        self._replay_at_s = now + self._pause_after(rows, now)
        file = self._spool.file.number
        self._outbox.add(
            [Encoded(NOT_OURS, key, body, 0, row, True, file) for row, key, body in rows]
        )

    def _pause_after(self, rows: Sequence[Row], now: float) -> float:
        """Return the pause before the next rows: after an outage, nobody storms the host."""
        if not rows:
            return CHECK_S if self._parked else self._options.look_s
        trouble = self._gate.last_trouble_s
        if trouble is not None and now - trouble < CALM_S:
            return self._options.replay_gap_s
        if now < self._limited_until_s and not all(self._spool.is_mine(row.id) for row in rows):
            return self._options.replay_gap_s
        return 0.0

    def _keep_house(self, now: float) -> None:
        if self._leftover_rows:
            rows = self._leftover_rows[:]
            self._spool.remove(rows)
            del self._leftover_rows[: len(rows)]
        if not self._spool.file.is_open():
            return
        if now >= self._renew_at_s:
            self._renew_at_s = now + self._options.lease_s / 3
            self._spool.renew()
        if self._parked and now >= self._check_at_s:
            self._check_at_s = now + CHECK_S
            has_mine = self._spool.has_mine()
            self._count_gone()
            if not has_mine:  # another process has replayed them
                with self._lock:
                    self._parked.clear()

    def _count_gone(self) -> None:
        """Count what waited in a file that somebody has removed, or that was set aside."""
        with self._lock:
            if self._file == self._spool.file.number:
                return
            self._file = self._spool.file.number
            gone = sum(self._parked.values())
            self._parked.clear()
        if gone:
            self._tally.lose("spool_gone", gone)

    def _unpark(self, key: str) -> None:
        self._parked[key] -= 1
        if self._parked[key] <= 0:
            del self._parked[key]
