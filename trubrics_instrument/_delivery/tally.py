"""What is counted and what is said: every event has a fate, every trouble one line a minute."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .options import SenderOptions

logger = logging.getLogger("trubrics_instrument")

QUIET_S = 60.0


class Tally:
    """Counts, and says what is worth saying; takes its own lock only, and logs outside of it."""

    def __init__(self, options: SenderOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._said_at_s: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.last_error: str | None = None

    def count(self, what: str, number: int = 1) -> None:
        """Add to one of the plain counters of `SenderStats`."""
        with self._lock:
            self.counts[what] += number

    def skip(self, reason: str, number: int = 1) -> None:
        """Count events that were not to be sent, or were refused."""
        with self._lock:
            self.dropped[reason] += number

    def lose(self, reason: str, number: int) -> None:
        """Count events that were given up, and say so."""
        self.skip(reason, number)
        self.say(
            logging.WARNING, reason, "Events were dropped (%s): %d. See stats().", reason, number
        )

    def drop(self, bodies: Iterable[bytes], reason: str) -> None:
        """Count events that were given up, say so, and hand them to `on_drop`."""
        given_up = list(bodies)
        if not given_up:
            return
        self.lose(reason, len(given_up))
        if self._options.on_drop is None:
            return
        try:
            self._options.on_drop([json.loads(body) for body in given_up], reason)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            kind = type(error).__name__
            self.say(logging.WARNING, "on_drop", "on_drop raised %s; it is ignored.", kind)

    def fail(self, error: str) -> None:
        """Remember the last failure; never content, never the key."""
        with self._lock:
            self.last_error = error

    def read(self) -> tuple[Counter[str], dict[str, int], str | None]:
        """Return copies of the counters, the drops by reason, and the last failure."""
        with self._lock:
            return Counter(self.counts), dict(self.dropped), self.last_error

    def say(self, level: int, reason: str, text: str, *values: object) -> None:
        """Log a line, at most one for each reason and minute."""
        now = self._options.clock()
        with self._lock:
            last = self._said_at_s.get(reason)
            if last is not None and now - last < QUIET_S:
                return
            self._said_at_s[reason] = now
        with suppress(Exception):  # a log handler of the app's that raises
            logger.log(level, text, *values)


class Refusals:
    """Counts what `put` refuses; that may run in a finaliser, so no lock, and no log."""

    def __init__(self, tally: Tally) -> None:
        self._queue_full = 0
        self._closed = 0
        self._tally = tally
        self._full = count(1)
        self._late = count(1)
        self._owned_up = 0

    def no_room(self) -> None:
        """Count an event for which there was no room."""
        self._queue_full = next(self._full)

    def too_late(self) -> None:
        """Count an event that came after the end."""
        self._closed = next(self._late)

    def by_reason(self) -> dict[str, int]:
        """Return how many there were."""
        counts = {"queue_full": self._queue_full, "closed": self._closed}
        return {reason: number for reason, number in counts.items() if number}

    def own_up(self) -> None:
        """Say that memory was full; on the worker."""
        if self._queue_full > self._owned_up:
            self._owned_up = self._queue_full
            text = "Memory is full: the newest events are refused (%d so far). See stats()."
            self._tally.say(logging.WARNING, "queue_full", text, self._owned_up)
