"""However a process ends, what it tracked arrives: at once, or from the next process."""

from __future__ import annotations

import logging
import signal
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from math import inf
from typing import TYPE_CHECKING, cast

import pytest

from tests.delivery.children import COUNT, prepare
from tests.delivery.faulty_server import (
    FaultyServer,
    Mood,
    Reply,
    Request,
    hang,
    refuse,
    reset,
    take,
)
from tests.delivery.processes import Child, restart, run
from tests.delivery.senders import sending, wait_until
from tests.interleaving import meanwhile
from trubrics_instrument._delivery import Outgoing, lifecycle
from trubrics_instrument._delivery import run as run_room

if TYPE_CHECKING:
    from pathlib import Path


ALL = Counter(range(COUNT))
WITH_NEXT = Counter(range(COUNT + 1))


def test_exit_at_once_delivers_everything_quickly(tmp_path: Path) -> None:
    """A program that falls off its end right after tracking loses nothing."""
    with FaultyServer() as server:
        ended = run("exit_at_once", server, "auto", tmp_path)
        assert (ended.code, Counter(server.numbers())) == (0, ALL)
        assert not list(tmp_path.iterdir()), "all was well, so nothing went to disk"


def test_the_last_events_go_over_the_connection_that_is_there(tmp_path: Path) -> None:
    """It is closed after that, and not left to the end of the interpreter, which would warn."""
    with FaultyServer() as server:
        ended = run("exit_after_a_flush", server, "auto", tmp_path)
        assert (ended.code, ended.errors, Counter(server.numbers())) == (0, "", WITH_NEXT)
        assert len({one.connection for one in server.requests}) == 1


class Impatient:
    """A sender at whose end somebody presses Ctrl-C, until there is nothing to wait for."""

    def __init__(self) -> None:
        self.spent: list[float] = []

    def close_at_exit(self, spent_s: float) -> None:
        """Be interrupted."""
        self.spent.append(spent_s)
        if spent_s != inf:
            raise KeyboardInterrupt


def test_a_second_interrupt_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a host any more, but each sender brings what it has to disk."""
    senders = [Impatient(), Impatient()]
    monkeypatch.setattr(lifecycle, "_all", cast("list[lifecycle.Mortal]", senders))
    with pytest.raises(KeyboardInterrupt):
        lifecycle._close_all()
    assert [one.spent[1:] or one.spent for one in senders] == [[inf], [inf]]
    assert senders[0].spent[0] < inf


def test_who_waits_for_ever() -> None:
    """It is as long as Python can wait."""
    with FaultyServer() as server, sending(server) as sender:
        sender.put(1)
        assert sender.flush(inf)
        sender.put(2)
        assert sender.shutdown(inf)
        assert server.numbers() == [1, 2]


def test_sys_exit_in_a_thread_delivers_everything(tmp_path: Path) -> None:
    """A thread that tracks and ends with sys.exit loses nothing."""
    with FaultyServer() as server:
        ended = run("exit_in_thread", server, "auto", tmp_path)
        assert (ended.code, Counter(server.numbers())) == (0, ALL)


def test_tracking_for_the_first_time_at_exit_delivers_everything(tmp_path: Path) -> None:
    """An event of an atexit handler arrives, though some Pythons start no thread by then."""
    with FaultyServer() as server:
        ended = run("track_at_exit", server, "auto", tmp_path)
        assert (ended.code, Counter(server.numbers())) == (0, ALL)


def test_nothing_is_imported_or_started_for_the_exit(tmp_path: Path) -> None:
    """Some Pythons can do neither by then."""
    with FaultyServer() as server:
        ended = run("tell_what_the_exit_needs", server, "auto", tmp_path)
        assert (ended.code, ended.output) == (0, "modules: [], threads: []\n")
        assert Counter(server.numbers()) == ALL


def test_no_signal_is_handled() -> None:
    """The app's signals are its own."""
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    with FaultyServer() as server, sending(server) as sender:
        sender.put(1)
        assert sender.flush(5)
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_a_flush_does_the_work_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything arrives, in order, by the thread that waits."""

    def refuse_to_start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with FaultyServer() as server, sending(server) as sender:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_to_start)
            for n in range(COUNT):
                sender.put(n)
        assert sender.flush(10)
        assert server.numbers() == list(range(COUNT))


@pytest.mark.parametrize("number", [1, 2])
def test_threads_that_could_not_be_started_are_tried_again(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first lane, or the worker: with an event a second later, and that is said once."""
    shift, start, tries = [0.0], threading.Thread.start, count(1)

    def start_few(thread: threading.Thread) -> None:
        if thread.name.startswith("trubrics-") and next(tries) >= number:
            raise RuntimeError("can't start new thread")
        start(thread)

    with (
        FaultyServer() as server,
        sending(server, clock=lambda: time.monotonic() / 100 + shift[0]) as sender,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_few)
            for n in range(10):
                assert sender.put(n)
            shift[0] += 1.0
            assert sender.put(10)
        assert (next(tries), sender.stats().last_error) == (number + 2, "no thread can be started")
        assert sender.put(11)
        assert server.numbers() == []
        shift[0] += 1.0
        assert sender.put(12)
        server.wait_for(13)
        assert server.numbers() == list(range(13))
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert sender.put(13)
        server.wait_for(14)


def test_a_flush_tries_again_to_start_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits need not wait for another event."""
    shift = [0.0]

    def refuse_to_start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = _ours()
    with (
        FaultyServer() as server,
        sending(server, clock=lambda: time.monotonic() + shift[0]) as sender,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_to_start)
            sender.put(1)
        shift[0] += 1.0
        assert sender.flush(10)
        assert (server.numbers(), len(_ours() - before)) == ([1], 2)


def test_a_connection_that_found_no_thread_is_opened_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not count among those that there may be."""
    start, tries = threading.Thread.start, count(1)

    def start_all_but_one(thread: threading.Thread) -> None:
        if thread.name == "trubrics-lane" and next(tries) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    def own_key(item: object, event_id: str) -> Outgoing:
        return Outgoing(event_id, {"event_id": event_id, "n": item})

    monkeypatch.setattr(threading.Thread, "start", start_all_but_one)
    with (
        FaultyServer(lambda _: Reply(pause_s=0.1)) as server,
        sending(server, own_key, max_batch=10, max_connections=2) as sender,
    ):
        for n in range(200):
            sender.put(n)
        server.wait_until(lambda: len({one.connection for one in server.requests}) == 2)


def test_sigterm_with_a_handler_delivers_everything(tmp_path: Path) -> None:
    """A SIGTERM that ends in sys.exit runs the exit hook."""
    with FaultyServer() as server:
        with Child("exit_on_sigterm", server, "auto", tmp_path) as child:
            child.wait_for_line()
            child.signal(signal.SIGTERM)
            assert child.end().code == 0
        assert Counter(server.numbers()) == ALL


def test_sigterm_without_a_handler_a_moment_later_loses_nothing(tmp_path: Path) -> None:
    """No hook runs then; the linger is short enough that all has left before."""
    with FaultyServer() as server:
        with Child("announce_and_wait", server, "auto", tmp_path) as child:
            child.wait_for_line()
            time.sleep(0.3)  # the scenario itself: a process is stopped 0.3 s after its last event
            child.signal(signal.SIGTERM)
            assert child.end().code == -signal.SIGTERM
        assert Counter(server.numbers()) == ALL


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_strict_survives_a_kill_right_after_put(tmp_path: Path, number: int) -> None:
    """What `put` returned True for is on disk: the next process delivers it."""
    with FaultyServer(hang) as server:
        with Child("announce_and_wait", server, "strict", tmp_path) as child:
            child.wait_for_line()
            child.signal(number)
            assert child.end().code == -number
        server.mood = take
        restart(server, "strict", tmp_path, COUNT + 1)
        # What the killed one was sending may be taken only now, and so twice.
        assert set(server.numbers()) == set(WITH_NEXT)


def test_always_survives_a_kill_but_for_the_last_50_ms(tmp_path: Path) -> None:
    """What was tracked 50 ms before SIGKILL is on disk."""
    with FaultyServer(hang) as server:
        with Child("announce_and_wait", server, "always", tmp_path) as child:
            child.wait_for_line()
            time.sleep(0.5)  # the promise is 50 ms; the rest is for a machine that is busy
            child.signal(signal.SIGKILL)
            child.end()
        server.mood = take
        restart(server, "always", tmp_path, COUNT + 1)
        assert Counter(server.numbers()) == WITH_NEXT


def test_what_waits_for_a_silent_host_survives_a_kill(tmp_path: Path) -> None:
    """A request that gets no answer for a second is enough; only what it carries is lost."""
    with FaultyServer(hang) as server:
        with Child("announce_and_wait", server, "auto", tmp_path) as child:
            child.wait_for_line()
            server.wait_until(lambda: bool(server.requests))
            wait_until(lambda: _on_disk(tmp_path) == COUNT - _asked(server), 5.0)
            child.signal(signal.SIGKILL)
            child.end()
        lost = Counter(event["n"] for request in server.requests for event in request.events)
        server.mood = take
        restart(server, "auto", tmp_path, COUNT - _asked(server) + 1)
        assert Counter(server.numbers()) == WITH_NEXT - lost


def _on_disk(folder: Path) -> int:
    """Return how many events are in the spool there."""
    rows = 0
    for path in folder.glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as db, suppress(sqlite3.OperationalError):
            rows += db.execute("SELECT count(*) FROM event").fetchone()[0]
    return rows


def _asked(server: FaultyServer) -> int:
    """Return how many events came with requests."""
    return sum(len(request.events) for request in server.requests)


def test_always_waits_for_no_company(tmp_path: Path) -> None:
    """However long the first event of a batch may wait, it is on disk soon."""
    with (
        FaultyServer() as server,
        sending(server, spool="always", spool_dir=str(tmp_path), flush_interval_s=3600.0) as sender,
    ):
        sender.put(1)
        server.wait_for(1)


@pytest.mark.parametrize("spool", ["auto", "always", "strict"])
@pytest.mark.parametrize("mood", [hang, reset, None], ids=["hangs", "resets", "down"])
def test_exit_with_a_host_in_trouble_keeps_everything(
    tmp_path: Path, spool: str, mood: Mood | None
) -> None:
    """The exit takes 3.5 s at most, and the next process delivers all of it."""
    with FaultyServer(mood or take) as server:
        if mood is None:
            server.down()
        ended = run("exit_at_once", server, spool, tmp_path)
        assert ended.code == 0
        assert ended.exit_took_s < 3.5 + 0.5, "its budget, and the interpreter's own end"
        assert not server.events
        assert f"were not delivered to {server.url} (" in ended.errors
        if mood is None:
            server.up()
        server.mood = take
        restart(server, spool, tmp_path, COUNT + 1)
        assert Counter(server.numbers()) == WITH_NEXT


def test_an_exit_after_an_outage_says_what_waits(tmp_path: Path) -> None:
    """Also where it was said before that the host takes no events."""
    with FaultyServer() as server:
        server.down()
        ended = run("exit_after_an_outage", server, "auto", tmp_path)
        assert "The host takes no events" in ended.errors
        assert f"wait on disk for the next run: {COUNT}." in ended.errors


def test_shutdown_against_a_hanging_host_is_bounded(tmp_path: Path) -> None:
    """`shutdown(3)` returns after 3 s and leaves everything to the next process."""
    with FaultyServer(hang) as server:
        ended = run("shut_down", server, "auto", tmp_path)
        assert float(ended.output) < 3.5
        server.mood = take
        restart(server, "auto", tmp_path, COUNT + 1)
        assert Counter(server.numbers()) == WITH_NEXT


def test_two_senders_share_the_budget_of_the_exit(tmp_path: Path) -> None:
    """An app with two projects does not take twice as long to end."""
    with FaultyServer(hang) as server:
        assert run("exit_with_two_senders", server, "auto", tmp_path).exit_took_s < 3.5 + 0.5
        assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_without_a_spool_the_loss_at_exit_is_bounded_in_time(tmp_path: Path) -> None:
    """`off` promises nothing but not to hang."""
    with FaultyServer(hang) as server:
        assert run("exit_at_once", server, "off", tmp_path).exit_took_s < 3.5 + 0.5
        assert not list(tmp_path.iterdir())


def test_a_worker_that_outlives_the_lanes_hires_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A sender closes while events are still being prepared: nothing fails, nothing is begun.

    Nor does it take events again: nobody would deliver them.
    """
    reached, may_go_on = threading.Event(), threading.Event()

    def held_up(item: object, event_id: str) -> Outgoing:
        reached.set()
        assert may_go_on.wait(10)
        return prepare(item, event_id)

    with FaultyServer() as server, sending(server, held_up, max_batch=1) as sender:
        before = _ours()
        for n in range(10):
            sender.put(n)
        assert reached.wait(10)
        started = _ours() - before
        assert not sender.shutdown(0.1)
        assert not sender.shutdown(0.1)  # nor does it count anything twice
        may_go_on.set()
        for thread in started:
            thread.join(10)
        assert _ours() <= before
        assert not sender.put(10)
        assert sender.stats().dropped == {"stuck_at_exit": 10, "closed": 1}
        assert "stuck_at_exit" in caplog.text


def test_who_closes_beside_another_waits_for_them() -> None:
    """Both are told whether all of it arrived."""
    reached, may_go_on = threading.Event(), threading.Event()

    def held_up(item: object, event_id: str) -> Outgoing:
        reached.set()
        assert may_go_on.wait(10)
        return prepare(item, event_id)

    with (
        FaultyServer() as server,
        sending(server, held_up) as sender,
        ThreadPoolExecutor(2) as pool,
    ):
        sender.put(1)
        assert reached.wait(10)
        told = [pool.submit(sender.shutdown, 20) for _ in range(2)]
        wait_until(lambda: not sender.put(2))
        may_go_on.set()
        assert [one.result(20) for one in told] == [True, True]


def test_a_shutdown_that_is_interrupted_loses_nothing(tmp_path: Path) -> None:
    """Ctrl-C ends the wait for a host that hangs; the exit brings to disk what is left."""
    with FaultyServer(hang) as server:
        with Child("be_interrupted", server, "auto", tmp_path) as child:
            child.wait_for_line()
            server.wait_until(lambda: bool(server.requests))
            child.signal(signal.SIGINT)
            assert child.end().code == 0
        server.mood = take
        restart(server, "auto", tmp_path, COUNT + 1)
        assert Counter(server.numbers()) == WITH_NEXT


@pytest.mark.parametrize("step", range(16))
def test_while_the_sender_starts(step: int) -> None:
    """A finaliser tracks, or another thread does: both events arrive, and the crew starts once."""
    told: list[bool] = []
    before = _ours()
    with FaultyServer() as server, sending(server) as sender:
        with meanwhile(run_room, step, lambda: told.append(sender.put(2))):
            told.append(sender.put(1))
        crew = _ours() - before
        server.wait_for(len(told))
        assert (told, len(crew)) == ([True] * len(told), 2)


@pytest.mark.parametrize("step", range(16))
def test_closed_while_the_sender_starts(step: int) -> None:
    """What comes after the end is refused, also where the end comes in the middle of the start."""
    with FaultyServer() as server, sending(server) as sender:
        closed: list[bool] = []
        with meanwhile(run_room, step, lambda: closed.append(sender.shutdown(5))):
            sender.put(1)
        assert closed or sender.shutdown(5)  # it starts in fewer steps
        assert not sender.put(2)
        assert 2 not in server.numbers()
        assert sender.stats().dropped["closed"] >= 1


def test_a_callback_that_closes_beside_the_app() -> None:
    """The worker waits for nobody: who closes waits for the worker."""
    reached, may_go_on = threading.Event(), threading.Event()

    def closing(item: object, event_id: str) -> Outgoing:
        reached.set()
        assert may_go_on.wait(10)
        sender.shutdown(30)
        return prepare(item, event_id)

    with (
        FaultyServer() as server,
        sending(server, closing) as sender,
        ThreadPoolExecutor(1) as pool,
    ):
        sender.put(1)
        assert reached.wait(10)
        told = pool.submit(sender.shutdown, 30)
        wait_until(lambda: not sender.put(2))
        may_go_on.set()
        assert told.result(20)


@pytest.mark.parametrize("call", ["flush", "shutdown"])
def test_a_callback_that_waits_for_its_own_thread(call: str) -> None:
    """The worker calls `before_send`, which would wait for the worker: it is told so at once."""
    told: list[bool] = []

    def calling(item: object, event_id: str) -> Outgoing:
        told.append(getattr(sender, call)(60.0))
        return prepare(item, event_id)

    with FaultyServer() as server, sending(server, calling) as sender:
        sender.put(1)
        wait_until(lambda: told == [False])


def test_without_a_disk_the_end_waits_for_a_host_in_trouble() -> None:
    """It may be well again in time, and nothing else takes the events."""
    replies = [refuse(503)]

    def mood(request: Request) -> Reply:
        return (replies.pop() if replies else take)(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        sender.put(1)
        assert sender.shutdown(10)
        assert (server.numbers(), len(server.requests)) == ([1], 2)


def _ours() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith("trubrics-")}
