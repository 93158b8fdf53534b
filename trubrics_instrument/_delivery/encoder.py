"""The step from accepted items to encoded events."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from .encode import encode
from .options import Skip
from .outbox import EVENT_OVERHEAD_BYTES, Encoded

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from .options import Prepare
    from .outbox import Outbox
    from .tally import Tally


class Encoder:
    """The step from the queue to the outbox, taken by one thread at a time.

    An item leaves the queue only once it stands in the outbox, so that at any moment, and
    whatever thread dies, each item is in one of the two.

    Attributes:
        lock: Held while a chunk moves.
        drained: How many items have left the queue.
        mean_bytes: What one item takes in memory, a moving estimate.
    """

    def __init__(
        self, queue: deque[object], outbox: Outbox, tally: Tally, prepare: Prepare, run_id: str
    ) -> None:
        self.lock = threading.Lock()
        self.drained = 0
        self.mean_bytes = 2048.0
        self._queue = queue
        self._outbox = outbox
        self._tally = tally
        self._prepare = prepare
        self._run_id = run_id

    def move(self, limit: int) -> int:
        """Move up to `limit` items to the outbox; return how many left the queue."""
        with self.lock:
            number = min(limit, len(self._queue))
            made = (self._encode(self._queue[at], self.drained + at) for at in range(number))
            events = [event for event in made if event is not None]
            self._outbox.add(events)
            for _ in range(number):
                self._queue.popleft()
            self.drained += number
            self._estimate(events)
        return number

    def _encode(self, item: object, ordinal: int) -> Encoded | None:
        try:
            made = self._prepare(item, f"{self._run_id}-{ordinal}")
            if isinstance(made, Skip):
                self._tally.skip(made.reason)
                return None
            return Encoded(ordinal, made.key, encode(made.body), None)
        except Exception as error:
            self._tally.skip("prepare failed")
            text = "An event could not be prepared (%s) and was dropped."
            self._tally.say(logging.WARNING, "prepare failed", text, type(error).__name__)
            return None

    def _estimate(self, events: Sequence[Encoded]) -> None:
        if not events:
            return
        mean = sum(len(event.body) for event in events) / len(events)
        # An item's Python objects take about its JSON and this much more.
        fresh = mean + 3 * EVENT_OVERHEAD_BYTES
        self.mean_bytes = max(fresh, 0.8 * self.mean_bytes + 0.2 * fresh)
