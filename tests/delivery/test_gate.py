"""What is known of the host decides when it is asked again; the clock stands still meanwhile."""

from __future__ import annotations

import pytest

from tests.delivery.faulty_server import FaultyServer
from trubrics_instrument._delivery import SenderOptions
from trubrics_instrument._delivery.gate import ISOLATING_PER_MINUTE, Gate
from trubrics_instrument._delivery.lane import Lane
from trubrics_instrument._delivery.outbox import Encoded, Outbox
from trubrics_instrument._delivery.retry import Action, Answer
from trubrics_instrument._delivery.tally import Tally
from trubrics_instrument._delivery.transport import Transport


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def gate_at(clock: Clock) -> Gate:
    """Return a gate without chance: it is shut for as long as can be."""
    options = SenderOptions("http://127.0.0.1:9", None, clock=clock, chance=lambda: 1.0)
    return Gate(options)


def test_a_second_failure_takes_nothing_from_the_wait_that_the_first_asked_for() -> None:
    """Of two requests on their way, one is told to wait 20 s, and the other gets no answer."""
    gate = gate_at(Clock())
    gate.failed(Action.RETRY, Answer(429, retry_after="20"))
    gate.failed(Action.RETRY, Answer(None))
    assert gate.wait_s(in_flight=False) == 22.0


def test_a_success_on_its_way_takes_nothing_from_the_wait_that_the_host_asked_for() -> None:
    """Until then the host counts as in trouble; the next success is the end of it."""
    clock = Clock()
    gate = gate_at(clock)
    gate.failed(Action.RETRY, Answer(429, retry_after="20"))
    gate.passed()
    told = [(gate.wait_s(in_flight=False), gate.failures)]
    clock.now_s += 22.0
    gate.passed()
    told.append((gate.wait_s(in_flight=False), gate.failures))
    assert told == [(22.0, 1), (0.0, 0)]


def test_who_waits_shortens_no_wait_that_the_host_asked_for_before() -> None:
    """Another request, which got no answer, has failed since."""
    clock = Clock()
    gate = gate_at(clock)
    gate.failed(Action.RETRY, Answer(429, retry_after="20"))
    gate.failed(Action.RETRY, Answer(None))
    clock.now_s += 1.5
    gate.hurry()
    assert gate.wait_s(in_flight=False) == 20.5


def test_one_request_at_a_time_finds_out_whether_a_failing_host_is_back() -> None:
    """Others wait for how it fares; with a host that is well nobody waits."""
    clock = Clock()
    gate = gate_at(clock)
    well = gate.wait_s(in_flight=True)
    gate.failed(Action.RETRY, Answer(503))
    clock.now_s += 0.5
    assert (well, gate.wait_s(in_flight=True), gate.wait_s(in_flight=False)) == (0.0, None, 0.0)


def test_trouble_is_as_old_as_its_first_failure() -> None:
    """And over with the first success."""
    clock = Clock()
    gate = gate_at(clock)
    ages: list[float] = []
    for _ in range(3):
        gate.failed(Action.RETRY, Answer(503))
        ages.append(gate.in_trouble_for_s())
        clock.now_s += 2.0
    gate.passed()
    assert [*ages, gate.in_trouble_for_s()] == [0.0, 2.0, 4.0, 0.0]


def test_silence_is_as_old_as_the_oldest_request() -> None:
    """Whatever the others get; and once it has failed, trouble is as old as it was."""
    clock = Clock()
    gate = gate_at(clock)
    gate.asks("one")
    clock.now_s += 2.0
    gate.asks("other")
    ages = [gate.silent_for_s()]
    gate.passed()
    gate.rests("other")
    ages.append(gate.silent_for_s())
    clock.now_s += 2.0
    gate.failed(Action.RETRY, Answer(None))
    gate.rests("one")
    assert [*ages, gate.silent_for_s(), gate.in_trouble_for_s()] == [2.0, 2.0, 0.0, 4.0]


def test_each_request_of_a_batch_has_a_time_of_its_own() -> None:
    """A host that takes one event a request is not silent, though a batch takes long."""
    clock = Clock()
    gate = gate_at(clock)
    for _ in range(3):
        gate.asks("one")
        clock.now_s += 1.0
    assert gate.silent_for_s() == 1.0


def test_nobody_is_silent_who_was_asked_nothing() -> None:
    """After an answer, however long no event comes."""
    clock = Clock()
    with FaultyServer() as server:
        options = SenderOptions(server.url, None, clock=clock)
        outbox, transport = Outbox(options), Transport(options)
        lane = Lane(options, outbox, Tally(options), transport, lambda _: None)
        outbox.add([Encoded(0, "key", b'{"event_id": "1"}')])
        assert lane.step(0.0)
        lane.close()
    clock.now_s += 10.0
    assert outbox.gate.silent_for_s() == 0.0


@pytest.mark.parametrize(
    ("action", "answer", "after_s", "expected"),
    [
        (Action.RETRY, Answer(503), 1.0, 3.0),
        (Action.RETRY, Answer(503), 1.5, 0.0),
        (Action.RETRY, Answer(503, retry_after="20"), 1.5, 20.5),
        (Action.RETRY, Answer(503, retry_after="0"), 1.5, 0.0),
        (Action.PROBE, Answer(401), 1.5, 478.5),
    ],
)
def test_who_waits_shortens_our_own_pauses_only(
    action: Action, answer: Answer, after_s: float, expected: float
) -> None:
    """Not what the host asks for, not a look at a wrong set-up, and not within a second."""
    clock = Clock()
    gate = gate_at(clock)
    for _ in range(3):
        gate.failed(Action.RETRY, Answer(503))
    gate.failed(action, answer)
    clock.now_s += after_s
    gate.hurry()
    assert gate.wait_s(in_flight=False) == expected


def test_isolation_has_its_budget_anew_each_minute() -> None:
    """64 requests, and 64 more from the next minute on."""
    clock = Clock()
    gate = gate_at(clock)
    allowed: list[int] = []
    for pause_s in (59.9, 0.1, 0.0):
        allowed.append(sum(gate.may_isolate() for _ in range(2 * ISOLATING_PER_MINUTE)))
        clock.now_s += pause_s
    assert allowed == [ISOLATING_PER_MINUTE, 0, ISOLATING_PER_MINUTE]


def test_a_late_refusal_of_a_large_request_makes_no_batch_larger() -> None:
    """Several are on their way when the host first says that one is too large."""
    gate = gate_at(Clock())
    for size_bytes in (1000, 5000):
        gate.shrink(size_bytes)
    assert gate.max_bytes == 500
