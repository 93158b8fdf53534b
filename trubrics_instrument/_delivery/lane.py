"""One connection: takes a batch, posts it, does what the answer calls for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from .retry import BATCH_ENDPOINT, SINGLE_ENDPOINT, Action, decide, named_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .options import SenderOptions
    from .outbox import Encoded, Outbox
    from .retry import Answer
    from .tally import Tally
    from .transport import Transport

WORTH_A_WARNING = 3
_PAGE = (
    "No event gets through: a web page answers (%s) for %s. Log in to the network, or check host "
    "(TRUBRICS_HOST) and its proxies. Events are kept; next try in %.1f s."
)


class Part(NamedTuple):
    """Some of a batch, in order.

    Attributes:
        events: What to send.
        suspect: Whether it is known to hold an event that the host refuses.
        left: Whether it is the left half of a suspect; if it passes, the right half is to blame.
    """

    events: Sequence[Encoded]
    suspect: bool = False
    left: bool = False


class Lane:
    """Delivers batches over one transport, from whichever thread calls `step`."""

    def __init__(
        self,
        options: SenderOptions,
        outbox: Outbox,
        tally: Tally,
        transport: Transport,
        settled: Callable[[Sequence[Encoded]], None],
    ) -> None:
        self._options = options
        self._outbox = outbox
        self._gate = outbox.gate
        self._tally = tally
        self._transport = transport
        self._settled = settled

    def step(self, wait_s: float, timeout_s: float | None = None) -> bool:
        """Deliver one batch, if there is one within `wait_s`; return whether there was.

        Args:
            wait_s: How long to wait for a batch.
            timeout_s: A tighter bound on the request than the options', for an exit.
        """
        batch = self._outbox.take(wait_s)
        if not batch:
            return False
        try:
            self._deliver(batch, timeout_s)
        finally:
            self._outbox.give_back(batch)  # whatever was not settled
            with self._outbox.changed:
                self._gate.rests(self)
        return True

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _deliver(self, batch: Sequence[Encoded], timeout_s: float | None) -> None:
        """Work the batch off as a stack of parts, the leftmost on top, so that order is kept."""
        stack = [Part(batch)]
        while stack and self._may_go_on():
            part = stack.pop()
            if self._gate.endpoint == SINGLE_ENDPOINT and len(part.events) > 1:
                stack.extend(Part([event]) for event in reversed(part.events))
            elif part.suspect and len(part.events) > 1:
                stack.extend(_halves(part))
            elif not self._attempt(part, timeout_s, stack):
                return

    def _attempt(self, part: Part, timeout_s: float | None, stack: list[Part]) -> bool:
        """Post a part and push what follows from the answer; return False to stop for now."""
        endpoint = self._gate.endpoint
        bodies = [event.body for event in part.events]
        answer = self._post(bodies, endpoint, timeout_s)
        action = decide(answer, endpoint)
        if answer.error or action is not Action.DONE:
            self._tally.fail(str(answer))
        if action is Action.DONE:
            self._delivered(part, stack)
            return True
        if action is Action.SINGLES:
            self._use_singles()
            stack.append(part)
            return True
        if action is Action.HALVE:
            self._halve(part, stack)
            return True
        if action is Action.ISOLATE and self._may_isolate():
            self._isolate(part, answer, stack)
            return True
        self._hold(action, answer)
        return False

    def _post(self, bodies: Sequence[bytes], endpoint: str, timeout_s: float | None) -> Answer:
        with self._outbox.changed:
            self._gate.asks(self)
        try:
            return self._transport.post(bodies, endpoint, self._timeouts(timeout_s))
        finally:
            self._tally.count("requests")

    def _delivered(self, part: Part, stack: list[Part]) -> None:
        self._host_is_well()
        self._tally.count("delivered", len(part.events))
        self._settle(part.events)
        if part.left:
            stack[-1] = stack[-1]._replace(suspect=True)

    def _halve(self, part: Part, stack: list[Part]) -> None:
        self._host_is_well()
        if len(part.events) == 1:
            self._drop(part.events, "too_large")
            return
        with self._outbox.changed:
            self._gate.shrink(sum(len(event.body) + 1 for event in part.events))
        stack.extend(half._replace(left=False) for half in _halves(part))

    def _isolate(self, part: Part, answer: Answer, stack: list[Part]) -> None:
        self._host_is_well()
        if len(part.events) == 1:
            self._drop(part.events, "rejected")
            return
        named = set(named_events(answer.body, len(part.events)))
        if not named:
            stack.append(part._replace(suspect=True))
            return
        refused = [event for index, event in enumerate(part.events) if index in named]
        others = [event for index, event in enumerate(part.events) if index not in named]
        self._drop(refused, "rejected")
        if others:
            stack.append(Part(others))

    def _may_go_on(self) -> bool:
        """Tell whether no other lane has got an answer meanwhile that shuts the gate."""
        with self._outbox.changed:
            return self._gate.wait_s(in_flight=False) == 0.0

    def _may_isolate(self) -> bool:
        with self._outbox.changed:
            return self._gate.may_isolate()

    def _hold(self, action: Action, answer: Answer) -> None:
        """Shut the gate for a while; the events stay ours."""
        with self._outbox.changed:
            wait_s = self._gate.failed(action, answer)
            failures = self._gate.failures
        self._tally.count("retries")
        if answer.maybe_taken:
            self._tally.count("duplicates_possible")
        if action is Action.PROBE:
            text = "No event gets through (%s): %s. Events are kept; next look in %d s."
            self._tally.say(logging.ERROR, "set-up", text, answer, _advice(answer), wait_s)
        elif answer.is_page:
            self._tally.say(logging.WARNING, "page", _PAGE, answer, self._options.host, wait_s)
        elif failures >= WORTH_A_WARNING:
            text = "The host takes no events (%s). They are kept; next try in %.1f s."
            self._tally.say(logging.WARNING, "trouble", text, answer, wait_s)

    def _host_is_well(self) -> None:
        with self._outbox.changed:
            self._gate.passed()

    def _settle(self, events: Sequence[Encoded]) -> None:
        self._settled(events)
        self._outbox.settle(events)

    def _drop(self, events: Sequence[Encoded], reason: str) -> None:
        self._tally.drop([event.body for event in events], reason)
        self._settle(events)

    def _use_singles(self) -> None:
        with self._outbox.changed:
            self._gate.use_singles()
        text = "The host has no %s; events go one by one to %s."
        self._tally.say(logging.INFO, "singles", text, BATCH_ENDPOINT, SINGLE_ENDPOINT)

    def _timeouts(self, timeout_s: float | None) -> tuple[float, float]:
        connect_s, read_s = self._options.connect_timeout_s, self._options.read_timeout_s
        if timeout_s is None:
            return connect_s, read_s
        return min(connect_s, timeout_s), min(read_s, timeout_s)


def _halves(part: Part) -> tuple[Part, Part]:
    """Return the right and the left half, as they go onto the stack."""
    middle = len(part.events) // 2
    return Part(part.events[middle:]), Part(part.events[:middle], left=True)


def _advice(answer: Answer) -> str:
    if answer.status in (401, 403):
        return "check api_key (TRUBRICS_API_KEY), a project's write-only key"
    if answer.status in (404, 405):
        return "check host (TRUBRICS_HOST), the URL before /publish_events"
    if answer.status in range(300, 400):
        return "check host (TRUBRICS_HOST); redirects are not followed"
    return "check host (TRUBRICS_HOST), and what stands between here and there"
