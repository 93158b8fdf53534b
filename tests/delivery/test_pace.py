"""The worker gives the interpreter back where somebody waits for it, and nowhere else."""

from __future__ import annotations

import time

import pytest

from trubrics_instrument._delivery import SenderOptions
from trubrics_instrument._delivery.encoder import APP_S, LANES_S, PAUSE_S, Pace
from trubrics_instrument._delivery.outbox import NOT_OURS, Encoded, Outbox

OPTIONS = SenderOptions("http://127.0.0.1:9", None)
TRIES = 50


def _paused(pace: Pace, accepted: int, worked_s: float) -> bool:
    """Work for so long, and tell whether a pause follows."""
    until = time.perf_counter() + worked_s
    while time.perf_counter() < until:
        pass
    started = time.perf_counter()
    pace.keep(accepted)
    return time.perf_counter() - started >= PAUSE_S


def test_a_pause_for_an_app_that_tracks() -> None:
    """What was accepted before the chunk began counts: an app that waits accepts nothing more."""
    pace = Pace(Outbox(OPTIONS))
    assert all(_paused(pace, accepted, APP_S) for accepted in range(1, TRIES))


@pytest.mark.parametrize(("accepted", "worked_s"), [(1, LANES_S), (2, 0.0)])
def test_no_pause_for_nobody(accepted: int, worked_s: float) -> None:
    """Neither where nothing came and nothing is sent, nor just after a pause."""
    tried: list[bool] = []
    for _ in range(TRIES):  # the machine may make a pause of its own
        pace = Pace(Outbox(OPTIONS))
        pace.keep(1)
        tried.append(_paused(pace, accepted, worked_s))
    assert False in tried


def test_a_pause_for_a_lane_in_its_request() -> None:
    """It takes the interpreter several times in each."""
    outbox = Outbox(OPTIONS)
    outbox.add([Encoded(NOT_OURS, "key", b"{}")])
    assert outbox.take(0.0)
    pace = Pace(outbox)
    pace.keep(1)
    assert all(_paused(pace, 1, LANES_S) for _ in range(TRIES))
