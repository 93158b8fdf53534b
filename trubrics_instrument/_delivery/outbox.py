"""Encoded events in memory, waiting or in flight: the one meeting point of the threads."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from .gate import Gate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from .options import SenderOptions

READY_BATCHES = 8
LOOK_AHEAD = 400
EVENT_OVERHEAD_BYTES = 300


@dataclass(eq=False, slots=True)
class Encoded:
    """An event that is ready to be sent; compared by identity.

    Attributes:
        ordinal: Its place among what this process accepted; NOT_OURS for an adopted one.
        key: Events with the same key keep their order.
        body: The event as JSON.
        place: When it was encoded, in microseconds since the epoch, later than any before it.
        row: Its row in the spool, if it has one.
        file: The number of the spool's file that has this row.
        replayed: Whether it was claimed from the spool.
    """

    ordinal: int
    key: str
    body: bytes
    place: int = 0
    row: int | None = None
    replayed: bool = False
    file: int = 0


NOT_OURS = 1 << 62


class Outbox:
    """Hands batches to the lanes so that events with one key never overtake each other.

    Attributes:
        changed: The lock of everything in here, the gate included; lanes wait on it for work.
        settled: The same lock; who flushes waits on it.
        gate: Whether a request may be made.
        bytes: An estimate of the memory held.
    """

    def __init__(self, options: SenderOptions) -> None:
        lock = threading.Lock()
        self.changed = threading.Condition(lock)
        self.settled = threading.Condition(lock)
        self.gate = Gate(options)
        self.bytes = 0
        self._options = options
        self._closed = False
        self._waiting: deque[Encoded] = deque()
        self._flying: dict[Encoded, None] = {}
        self._flying_keys: dict[str, int] = {}

    def add(self, events: Sequence[Encoded]) -> None:
        """Append events that were accepted later than all that wait."""
        with self.changed:
            self._waiting.extend(events)
            self.bytes += _bytes(events)
            self._call()

    def take(self, timeout_s: float) -> list[Encoded]:
        """Return the next batch, now in flight; empty when there was none to be had in time."""
        deadline = self._options.clock() + timeout_s
        with self.changed:
            while True:
                pause = self._pause_s()
                if pause == 0.0:
                    batch = self._pick()
                    if batch:
                        self._call()
                        return batch
                left = deadline - self._options.clock()
                if left <= 0 or self._closed:
                    return []
                self.changed.wait(min(left, pause) if pause else left)

    def settle(self, events: Iterable[Encoded]) -> None:
        """Let go of events in flight that were delivered or given up."""
        with self.changed:
            self._land(events)
            self._call()
            self.settled.notify_all()

    def give_back(self, events: Sequence[Encoded]) -> None:
        """Put events in flight back to the front, where they were."""
        with self.changed:
            still_ours = self._land(events)
            self._waiting.extendleft(reversed(still_ours))
            self.bytes += _bytes(still_ours)
            self._call()
            self.settled.notify_all()

    def seize(self, *, in_flight: bool) -> list[Encoded]:
        """Take everything that waits away from the lanes, on demand what is in flight too."""
        with self.changed:
            taken = self._land(list(self._flying)) if in_flight else []
            taken.extend(self._waiting)
            self.bytes -= _bytes(self._waiting)
            self._waiting.clear()
            self.settled.notify_all()
            return taken

    def close(self) -> None:
        """Let no lane wait any longer."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
            self.settled.notify_all()

    def waiting(self) -> int:
        """Return how many events wait for a connection."""
        return len(self._waiting)

    def in_flight(self) -> int:
        """Return how many events are in a request now."""
        return len(self._flying)

    def has_room(self) -> bool:
        """Tell whether it takes more for the lanes to have something to do."""
        most = READY_BATCHES * self._options.max_batch
        return len(self._waiting) < most and self.bytes < self._options.max_memory_bytes / 4

    def risks_any(self) -> bool:
        """Tell whether some of what waits is in memory alone."""
        with self.changed:
            return any(event.row is None for event in self._waiting)

    def oldest(self) -> int:
        """Return the lowest ordinal held; the lock must be held."""
        held = chain(self._flying, self._waiting)
        return min((event.ordinal for event in held), default=NOT_OURS)

    def _call(self) -> None:
        """Call one idle lane if there is work; it calls the next when it leaves some.

        All of them at once would only wait for each other, and for the interpreter.
        """
        if self._waiting:
            self.changed.notify()

    def _pause_s(self) -> float | None:
        if not self._waiting:
            return None
        return self.gate.wait_s(in_flight=bool(self._flying))

    def _pick(self) -> list[Encoded]:
        """Move a batch to the air, passing over the keys that are there already."""
        batch: list[Encoded] = []
        passed: list[Encoded] = []
        size = 2
        while self._waiting and len(batch) < self._options.max_batch and len(passed) < LOOK_AHEAD:
            event = self._waiting.popleft()
            if event.key in self._flying_keys:
                passed.append(event)
                continue
            size += len(event.body) + 1
            if batch and size > self.gate.max_bytes:
                self._waiting.appendleft(event)
                break
            batch.append(event)
        self._waiting.extendleft(reversed(passed))
        flying, keys = self._flying, self._flying_keys
        for event in batch:
            flying[event] = None
            keys[event.key] = keys.get(event.key, 0) + 1
        return batch

    def _land(self, events: Iterable[Encoded]) -> list[Encoded]:
        flying, keys = self._flying, self._flying_keys
        landed = [event for event in events if event in flying]
        for event in landed:
            del flying[event]
            keys[event.key] -= 1
            if not keys[event.key]:
                del keys[event.key]
        self.bytes -= _bytes(landed)
        return landed


def _bytes(events: Collection[Encoded]) -> int:
    return sum([len(event.body) for event in events]) + len(events) * EVENT_OVERHEAD_BYTES
