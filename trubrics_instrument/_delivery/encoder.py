"""The step from accepted items to encoded events."""

from __future__ import annotations

import logging
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

from .encode import encode, text_of
from .options import Skip
from .outbox import NOT_OURS, Encoded

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence

    from .keeper import Keeper
    from .options import Prepare
    from .outbox import Outbox
    from .tally import Tally

# What an item's Python objects take besides the text that its JSON holds too.
OBJECTS_BYTES = 900
# Until the first item was seen: so much that a burst of large ones cannot pass unmeasured.
FIRST_GUESS_BYTES = 16_384.0
STUCK_S = 1.0
APP_S = 0.0002
LANES_S = 0.002
PAUSE_S = 0.00005


class Encoder:
    """The step from the queue to the keeper, taken by one thread at a time.

    An item leaves the queue only once it stands in memory or on disk, so that at any moment,
    whatever thread dies, each item is in one of the places.

    Attributes:
        lock: Held while a chunk moves.
        drained: How many items have left the queue.
        mean_bytes: What one item takes in memory, a moving estimate.
    """

    def __init__(
        self,
        queue: deque[object],
        keeper: Keeper,
        tally: Tally,
        make: Maker,
        *,
        pace: Pace,
        wall_clock: Callable[[], float],
    ) -> None:
        self.lock = threading.Lock()
        self.drained = 0
        self.mean_bytes = FIRST_GUESS_BYTES
        self._queue = queue
        self._keeper = keeper
        self._tally = tally
        self._make = make
        self._pace = pace
        self._wall_clock = wall_clock
        self._place = 0
        self._leaving = threading.RLock()  # a finaliser of what leaves may ask, too

    def accepted(self) -> int:
        """Return how many items were accepted by now, those in the queue among them."""
        with self._leaving:
            return self.drained + len(self._queue)

    def move(self, limit: int) -> int:
        """Move up to `limit` items on; return how many left the queue.

        0, too, when the other thread is stuck in the app's part of the work.
        """
        if not self.lock.acquire(timeout=STUCK_S):
            return 0
        try:
            number = min(limit, len(self._queue))
            self._place = max(self._place, int(self._wall_clock() * 1_000_000))
            events: list[Encoded] = []
            for at in range(number):
                event = self._encoded(at)
                if event is not None:
                    events.append(event)
                self._pace.keep(self.drained + len(self._queue))
            self._keeper.place(events)
            with self._leaving:
                for _ in range(number):
                    self._queue.popleft()
                self.drained += number
            self._estimate(events)
        finally:
            self.lock.release()
        return number

    def _encoded(self, at: int) -> Encoded | None:
        item = self._queue[at]
        made = item if isinstance(item, (Encoded, Skip)) else self._make(item)
        if isinstance(made, Skip):
            self._tally.skip(made.reason)
            return None
        self._place += 1
        made.ordinal = self.drained + at
        made.place = self._place
        return made

    def _estimate(self, events: Sequence[Encoded]) -> None:
        if not events:
            return
        fresh = sum([len(event.body) for event in events]) / len(events) + OBJECTS_BYTES
        known = fresh if self.mean_bytes == FIRST_GUESS_BYTES else self.mean_bytes
        self.mean_bytes = max(fresh, 0.8 * known + 0.2 * fresh)


class Pace:
    """Gives the interpreter back now and then, to an app that tracks and to lanes that deliver.

    A thread that wants the interpreter waits 5 ms for one that does not let go: the app would
    feel that in each thousandth call of a burst, and a lane four times in each request. A sleep
    of nothing does not help, because the sleeper is back before the other has woken up.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._accepted = 0
        self._paused_s = 0.0

    def keep(self, accepted: int) -> None:
        """Make a pause if it is time for one; so many items were accepted by now."""
        worked_s = time.perf_counter() - self._paused_s
        if worked_s < APP_S:
            return
        if accepted > self._accepted or (worked_s > LANES_S and self._outbox.in_flight()):
            self._accepted = accepted
            time.sleep(PAUSE_S)
            self._paused_s = time.perf_counter()


class Maker:
    """Makes an item an event, on the worker or inside a `put` that is strict; never raises."""

    def __init__(self, prepare: Prepare, tally: Tally, run_id: str) -> None:
        self._prepare = prepare
        self._tally = tally
        self._run_id = run_id
        self._numbers = count()

    def __call__(self, item: object) -> Encoded | Skip:
        """Return the event, or why there is none."""
        try:
            made = self._prepare(item, f"{self._run_id}-{next(self._numbers)}")
            if isinstance(made, Skip):
                return made
            return Encoded(NOT_OURS, text_of(made.key), encode(made.body))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the app's `before_send` may call `sys.exit`
            text = "An event was dropped, because before_send failed (%s)."
            self._tally.say(logging.WARNING, "prepare_failed", text, type(error).__name__)
            return Skip("prepare_failed")
