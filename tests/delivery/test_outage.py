"""An outage costs nothing: events wait on disk or in memory, and return in order, without storm."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest
import requests

from tests.delivery.faulty_server import FaultyServer, Reply, Request, hang, refuse, take
from tests.delivery.senders import sending, wait_until
from trubrics_instrument._base.shield import faults, set_strict, shield
from trubrics_instrument._delivery import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
R = TypeVar("R")

OUTAGE_S = 10.0
RATE = 0.02


def _live_through(server: FaultyServer, spool: str, spool_dir: Path) -> Counter[int]:
    """Track 50 events a second for 12 s, of which the host is in trouble for the first 10."""
    end = threading.Event()
    with sending(server, spool=spool, spool_dir=str(spool_dir)) as sender:
        started = time.monotonic()
        for n in range(600):
            assert sender.put(n)
            end.wait(max(0.0, started + n * RATE - time.monotonic()))
            if n == OUTAGE_S / RATE:
                if server.mood is take:
                    server.up()
                server.mood = take
        assert sender.flush(20)
        assert sender.stats().dropped == {}
        return Counter(server.numbers())


@pytest.mark.timeout(90)
def test_ten_seconds_of_outage_lose_and_double_nothing(tmp_path: Path) -> None:
    """A closed port, a 503 and no answer: all arrives exactly once, in order, disk or not."""
    moods = {"down": take, "503": refuse(503), "hang": hang}

    def scenario(name: str) -> None:
        kind, spool = name.split("-")
        with FaultyServer(moods[kind]) as server:
            if kind == "down":
                server.down()
            assert _live_through(server, spool, tmp_path / name) == Counter(range(600))
            for key in range(10):
                same = [n for n in server.numbers() if n % 10 == key]
                assert same == sorted(same), name

    names = ["down-auto", "503-auto", "503-always", "503-strict", "503-off"]
    names += ["hang-auto", "hang-off"]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(scenario, names))


def test_trouble_of_over_a_second_brings_events_to_disk(tmp_path: Path) -> None:
    """In `auto` nothing is written before, and memory is nearly empty after."""
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, spool="auto", spool_dir=str(tmp_path)) as sender,
    ):
        for n in range(500):
            sender.put(n)
        server.wait_until(lambda: len(server.requests) == 1)
        assert not list(tmp_path.iterdir())
        wait_until(lambda: sender.stats().spooled == 500)
        assert sender.stats().queued <= 100
        server.mood = take
        assert sender.flush(20)
        assert sender.stats().spooled == 0
        assert Counter(server.numbers()) == Counter(range(500))
        assert set(server.taken.values()) == {1}


def test_a_host_that_is_merely_slow_gets_everything_at_its_full_rate(tmp_path: Path) -> None:
    """Over all connections, in order, and each event once, though much of it is on disk as well."""
    spool = {"spool": "auto", "spool_dir": str(tmp_path)}
    with (
        FaultyServer(lambda _: Reply(pause_s=1.2)) as server,
        sending(server, _many_keys, max_batch=20, **spool) as sender,
    ):
        started = time.monotonic()
        for n in range(400):
            sender.put(n)
        assert sender.flush(30)
        took_s = time.monotonic() - started
        assert took_s < 20 * 1.2 / 2, "two connections would take as long"
        assert set(server.taken.values()) == {1}
        for key in range(100):
            assert [n for n in server.numbers() if n % 100 == key] == list(range(key, 400, 100))
        stats = sender.stats()
        assert (stats.delivered, stats.retries, stats.dropped) == (400, 0, {})
        assert _rows(tmp_path) == 0


def test_replay_after_an_outage_is_no_storm_and_starves_nobody(tmp_path: Path) -> None:
    """Old events come back at most ten batches a second; a new one need not wait for them."""
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, _own_key, spool="auto", spool_dir=str(tmp_path)) as sender,
    ):
        for n in range(3000):
            sender.put(n)
        wait_until(lambda: sender.stats().spooled == 3000)
        server.mood = take
        server.wait_for(100, 30)
        sender.put(5000)
        server.wait_until(lambda: 5000 in server.numbers())
        assert len(server.taken) < 2000, "it came before the old ones were through"
        server.wait_for(3001, 30)
        good = [request.at_s for request in server.requests if len(request.events) == 100][-29:]
        assert good[-1] - good[0] > 0.09 * (len(good) - 1)
        assert set(server.taken.values()) == {1}


def test_processes_that_start_together_do_not_look_together(tmp_path: Path) -> None:
    """A new process looks for what others left after its own random share of the spread."""
    spool = {"spool": "auto", "spool_dir": str(tmp_path)}
    with FaultyServer(refuse(503)) as server:
        with sending(server, _own_key, **spool) as sender:
            for n in range(10):
                sender.put(n)
        server.mood = take
        began = time.monotonic()
        late = {"replay_spread_s": 2.0, "chance": lambda: 0.5}
        with sending(server, _own_key, **spool, **late) as sender:
            sender.start()
            server.wait_for(10)
        came = [request.at_s - began for request in server.requests if request.at_s > began]
        assert [at_s >= 1.0 for at_s in came] == [True]


def test_replay_stops_at_the_first_failure(tmp_path: Path) -> None:
    """A host that falters again is left alone, and the rows stay."""
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, _own_key, spool="auto", spool_dir=str(tmp_path)) as sender,
    ):
        for n in range(500):
            sender.put(n)
        wait_until(lambda: sender.stats().spooled == 500)
        faltering = [take, refuse(503, {"Retry-After": "30"})]

        def mood(request: Request) -> Reply:
            return (faltering.pop(0) if faltering else take)(request)

        server.mood = mood
        server.wait_until(lambda: not faltering, 20)
        count = len(server.requests)
        wait_until(lambda: sender.stats().queued == 0)
        assert len(server.requests) == count
        assert len(server.taken) == 100
        assert sender.stats().spooled == 400


def test_memory_is_bounded_while_the_host_hangs_and_the_newest_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a disk the bound in bytes holds; what is refused is counted, and said once."""
    with (
        FaultyServer(hang) as server,
        sending(server, _big, max_memory_bytes=1024 * 1024) as sender,
    ):
        taken = int(sender.put("x" * 20_000))
        server.wait_until(lambda: len(server.requests) == 1)
        for _ in range(199):
            taken += sender.put("x" * 20_000)
        stats = sender.stats()
        assert 10 < taken < 200
        assert stats.dropped == {"queue_full": 200 - taken}
        assert stats.accepted == taken
        assert stats.queued_bytes < 1.2 * 1024 * 1024
        wait_until(lambda: bool(caplog.records))
        (line,) = [one for one in caplog.records if "refused" in one.getMessage()]
        assert (line.name, line.levelno) == ("trubrics_instrument", logging.WARNING)


def test_a_worker_that_is_stuck_costs_the_app_one_pause() -> None:
    """Once memory is full, and a pause has not helped, each event is refused at once."""
    may_go_on = threading.Event()

    def stuck(item: object, event_id: str) -> Outgoing:
        assert may_go_on.wait(60)
        return _own_key(item, event_id)

    with FaultyServer() as server, sending(server, stuck, max_memory_bytes=2**15) as sender:
        started = time.monotonic()
        taken = sum(sender.put(n) for n in range(202))
        took_s = time.monotonic() - started
        may_go_on.set()
        assert (taken, sender.stats().dropped) == (2, {"queue_full": 200})
        assert took_s < 20, "a pause for each would take 40 s at least"


def test_a_batch_does_not_wait_for_company_that_finds_no_room() -> None:
    """Where fewer events than a batch fill memory, the first leaves with those that are there."""
    with (
        FaultyServer() as server,
        sending(server, _own_key, max_memory_bytes=2**15, flush_interval_s=3600.0) as sender,
    ):
        assert [sender.put(n) for n in range(2)] == [True, True]
        server.wait_for(2)


@pytest.mark.parametrize("spool", ["auto", "off"])
def test_a_burst_far_beyond_the_pace_of_the_worker_is_taken_whole(
    tmp_path: Path, spool: str
) -> None:
    """20,000 events at once are no reason to refuse any: they fit into memory."""
    with (
        FaultyServer() as server,
        sending(server, _own_key, spool=spool, spool_dir=str(tmp_path)) as sender,
    ):
        sender.put(0)
        server.wait_for(1)
        assert all(sender.put(n) for n in range(1, 20_000))
        assert sender.flush(60)
        assert len(server.taken) == 20_000
        assert not list(tmp_path.iterdir())


def test_memory_that_fills_up_spills_to_disk(tmp_path: Path) -> None:
    """A host that only hangs is not in trouble yet, but memory is: nothing is refused."""
    at_once_s = 5.0  # and not after 10 s, when the host's silence becomes trouble
    slow_clock = {"clock": lambda: time.monotonic() / 10}
    with (
        FaultyServer(hang) as server,
        sending(
            server,
            _big,
            spool="auto",
            spool_dir=str(tmp_path),
            max_memory_bytes=8 * 1024 * 1024,
            **slow_clock,
        ) as sender,
    ):
        for n in range(600):
            assert sender.put("x" * 20_000), n
            wait_until(lambda: sender.stats().queued_bytes < 7 * 1024 * 1024, at_once_s)
        wait_until(lambda: sender.stats().spooled > 200, at_once_s)
        assert sender.stats().dropped == {}


def test_a_minute_without_any_success_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Accepted, and none got through for 60 s: one WARNING, without content or key."""
    shift = [0.0]
    with (
        FaultyServer(hang) as server,
        sending(server, clock=lambda: time.monotonic() + shift[0]) as sender,
    ):
        sender.put(1)
        server.wait_until(lambda: len(server.requests) == 1)
        for _ in range(3):
            shift[0] += 25.0
            sender.put(2)
        wait_until(lambda: bool(caplog.records))
        (record,) = caplog.records
        assert (record.levelno, record.name) == (logging.WARNING, "trubrics_instrument")
        assert "No event has got through for 75 s" in record.getMessage()


def _own_key(item: object, event_id: str) -> Outgoing:
    return Outgoing(str(item), {"event_id": event_id, "n": item})


def _many_keys(item: int, event_id: str) -> Outgoing:
    return Outgoing(str(item % 100), {"event_id": event_id, "n": item})


def _rows(folder: Path) -> int:
    (path,) = folder.glob("*.sqlite")
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM event").fetchone()[0]
    return count


def _big(item: object, event_id: str) -> Outgoing:
    return Outgoing("one", {"event_id": event_id, "n": 0, "text": item})


class _Ends(BaseException):
    """What ends threads, as `sys.exit` does, and a test framework's way to fail."""


def _ending(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, which ends whatever thread calls it first."""
    calls = count()

    def ends(*args: P.args, **kwargs: P.kwargs) -> R:
        if next(calls) == 0:
            raise _Ends
        return function(*args, **kwargs)

    return ends


def test_what_ends_threads_ends_no_lane() -> None:
    """An app's session, or a test that blocks the network for all: the sender tries again."""

    class Session(requests.Session):
        send = _ending(requests.Session.send)

    set_strict(strict=False)
    with FaultyServer(take) as server, sending(server, session=Session()) as sender:
        assert sender.put(1)
        wait_until(lambda: server.numbers() == [1])
    assert faults() == {"delivering": 1}


def test_what_ends_threads_ends_no_worker() -> None:
    """Nor does it cost an event, where it strikes between the queue and the lanes."""
    set_strict(strict=False)
    clock = _ending(time.time)
    with FaultyServer(take) as server, sending(server, wall_clock=clock) as sender:
        assert sender.put(1)
        wait_until(lambda: server.numbers() == [1])
    assert faults() == {"encoding": 1}


class GreenletExit(BaseException):
    """What gevent raises in a greenlet that is to end; a thread is one where it has patched."""


def test_gevent_ends_even_a_thread_of_ours() -> None:
    """Who kills all greenlets waits for them: what refused to end would stop the app."""
    set_strict(strict=False)
    with pytest.raises(GreenletExit), shield("delivering", own_thread=True):
        raise GreenletExit
    assert faults() == {}
