"""Whether a request may be made now: not for a while after trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .retry import BATCH_ENDPOINT, SINGLE_ENDPOINT, Action, asked_s, delay_s

if TYPE_CHECKING:
    from .options import SenderOptions
    from .retry import Answer

HURRY_S = 1.0
ISOLATING_PER_MINUTE = 64
MINUTE_S = 60.0


class Gate:
    """The state of the host as we know it; guarded by the outbox's lock.

    Attributes:
        failures: Failed requests in a row.
        open_at_s: No request before this moment of the options' clock.
        failing_since_s: When the first request that failed began; None when all is well.
        last_trouble_s: When a request last failed; None before the first failure.
        passed_at_s: When a request last passed; before the first one, the start.
        endpoint: `publish_events`, or `publish_event` once the host turned out to lack the former.
        max_bytes: The largest batch, learnt from 413.
    """

    def __init__(self, options: SenderOptions) -> None:
        self._options = options
        self.failures = 0
        self.open_at_s = 0.0
        self.failing_since_s: float | None = None
        self.last_trouble_s: float | None = None
        self.passed_at_s = options.clock()
        self._asked_at_s: dict[object, float] = {}
        self._may_hurry = False
        self._asked_until_s = 0.0
        self._isolating_since_s = 0.0
        self._isolating = 0
        self.endpoint = BATCH_ENDPOINT
        self.max_bytes = options.max_batch_bytes

    def wait_s(self, *, in_flight: bool) -> float | None:
        """Return how long to wait before a request; None while another one tries the host out."""
        if self.failures and in_flight:
            return None
        return max(0.0, self.open_at_s - self._options.clock())

    def asks(self, who: object) -> None:
        """Note that a request begins; its answer is due until this one asks again, or rests."""
        self._asked_at_s[who] = self._options.clock()

    def rests(self, who: object) -> None:
        """Note that this one waits for no answer any longer."""
        self._asked_at_s.pop(who, None)

    def passed(self) -> None:
        """Note that the host took a request, or refused it for the events' sake."""
        self.passed_at_s = self._options.clock()
        if self.passed_at_s < self._asked_until_s:
            return  # it was on its way when the host asked for a pause
        self.failures = 0
        self.open_at_s = 0.0
        self.failing_since_s = None

    def failed(self, action: Action, answer: Answer) -> float:
        """Note a failure that is the host's; return how long the gate stays shut."""
        now = self._options.clock()
        self.failures += 1
        self.last_trouble_s = now
        if self.failing_since_s is None:
            self.failing_since_s = now - self.silent_for_s()
        chance, wall_s = self._options.chance(), self._options.wall_clock()
        wait = delay_s(action, answer, self.failures, chance, wall_s)
        self.open_at_s = max(self.open_at_s, now + wait)
        self._asked_until_s = max(self._asked_until_s, now + asked_s(answer, chance, wall_s))
        self._may_hurry = action is Action.RETRY
        return wait

    def hurry(self) -> None:
        """Try again now, because somebody waits; never against the host's own word."""
        trouble = self.last_trouble_s
        if self._may_hurry and trouble is not None and self._options.clock() - trouble > HURRY_S:
            self.open_at_s = self._asked_until_s

    def may_isolate(self) -> bool:
        """Keep a host that refuses everything from being asked about each event at once."""
        now = self._options.clock()
        if now - self._isolating_since_s >= MINUTE_S:
            self._isolating_since_s, self._isolating = now, 0
        self._isolating += 1
        return self._isolating <= ISOLATING_PER_MINUTE

    def in_trouble_for_s(self) -> float:
        """Return how long the host has been failing; 0 when it is well."""
        since = self.failing_since_s
        return 0.0 if since is None else self._options.clock() - since

    def silent_for_s(self) -> float:
        """Return how long the oldest request has been waiting for its answer; 0 without any.

        Looks at a copy: who calls this may be in a finaliser, and takes no lock.
        """
        now = self._options.clock()
        return now - min([*self._asked_at_s.values()], default=now)

    def use_singles(self) -> None:
        """Send one event a request from now on."""
        self.endpoint = SINGLE_ENDPOINT

    def shrink(self, failed_bytes: int) -> None:
        """Remember that a request of this size was too large."""
        self.max_bytes = min(self.max_bytes, failed_bytes // 2)
