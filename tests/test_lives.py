"""`configure()`, `shutdown()` and `stats()`, again and again and beside each other."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.children import prepare
from tests.delivery.faulty_server import FaultyServer, refuse, take
from tests.delivery.senders import sending, wait_until
from tests.interleaving import meanwhile
from tests.sink import Sink
from trubrics_instrument import _public, _runtime, configure, flush, shutdown, stats, track
from trubrics_instrument._delivery import (
    Sender,
    SenderOptions,
    Senders,
    Skip,
    crew,
    lifecycle,
    run,
    sender,
    senders,
)
from trubrics_instrument._delivery.leftovers import leftovers
from trubrics_instrument._events import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

OPTIONS = SenderOptions("http://127.0.0.1:9", None, spool="off")


@pytest.mark.parametrize("step", range(60))
def test_shutdown_beside_configure(step: int, sink: Sink) -> None:
    """It is as if one had come after the other; what was accepted arrives, the next one opens."""
    _is_in_one_of_two_orders(sink, _runtime, step, _configure(sink), lambda: shutdown(5))


@pytest.mark.parametrize("step", range(8))
def test_configure_beside_shutdown(step: int, sink: Sink) -> None:
    """So it is the other way round."""
    _is_in_one_of_two_orders(sink, _public, step, lambda: shutdown(5), _configure(sink))


@pytest.mark.parametrize("step", range(12))
def test_two_threads_need_the_same_sender(step: int) -> None:
    """They get the same, and no other is left open."""
    all_senders, told = Senders(), list[Sender | None]()
    others = len(lifecycle._all)
    with meanwhile(senders, step, lambda: told.append(all_senders.get(OPTIONS, prepare))):
        told.append(all_senders.get(OPTIONS, prepare))
    assert told == all_senders.every() * len(told)
    assert len(lifecycle._all) - others == 1
    all_senders.every()[0].shutdown(1)


@pytest.mark.parametrize("step", range(12))
def test_the_end_comes_while_a_sender_is_built(step: int) -> None:
    """None is left open."""
    all_senders = Senders()
    others = len(lifecycle._all)

    def end() -> None:
        all_senders.closed = True
        for one in all_senders.every():
            one.shutdown(1)

    with meanwhile(senders, step, end):
        all_senders.get(OPTIONS, prepare)
    if not all_senders.closed:  # it is built in fewer steps
        end()
    assert len(lifecycle._all) - others == 0


@pytest.mark.parametrize("step", range(20))
def test_stats_beside_the_worker(step: int) -> None:
    """What moves on at that moment is accepted once, and waits."""
    moving = run.Run(OPTIONS, prepare)
    moving.queue.append(1)
    worker = threading.Thread(target=moving.encoder.move, args=(1,))

    def move() -> None:
        worker.start()
        worker.join(0.05)  # it may have to wait for a lock

    with meanwhile(run, step, move):
        told = moving.stats()
    assert told.accepted == 1 <= told.queued
    if worker.ident is not None:  # there are as many steps
        worker.join(5)
    moving.close(0)


@pytest.mark.parametrize("module", [run, crew, threading], ids=["run", "crew", "threading"])
@pytest.mark.parametrize("step", range(0, 45, 3))
def test_ctrl_c_while_the_threads_are_started(module: ModuleType, step: int) -> None:
    """They are started a while later, and there are no more of them than there should be."""
    quick: dict[str, Any] = {"clock": lambda: 50 * time.monotonic(), "max_connections": 1}
    others, numbers = _ours(), itertools.count()

    def arrives() -> bool:
        started.put(next(numbers))
        return bool(server.taken)

    def interrupted() -> None:
        with suppress(KeyboardInterrupt), meanwhile(module, step, _press_ctrl_c):
            started.put(next(numbers))

    with FaultyServer() as server, sending(server, **quick) as started:
        # On a thread of its own, which may keep what was being handled when the trace broke in.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(interrupted).result()
        wait_until(arrives)
        new = [one.name for one in _ours() if one not in others]
        assert sorted(new) == ["trubrics-lane", "trubrics-worker"]


def test_stats_while_an_item_leaves() -> None:
    """It is counted, too, where its end takes a while."""
    ends, is_told = threading.Event(), threading.Event()

    class Item:
        def __del__(self) -> None:
            ends.set()
            is_told.wait(0.1)

    moving = run.Run(OPTIONS, lambda _item, _event_id: Skip("invalid"))
    moving.queue.append(Item())
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(moving.encoder.move, 1)
        assert ends.wait(5)
        assert moving.stats().accepted == 1
        is_told.set()
        assert moved.result(5) == 1
    moving.close(0)


def test_the_same_again_is_the_same_sender(sink: Sink) -> None:
    """A script may configure at each run; so is an observer's own destination kept."""
    _configure(sink)()
    own = _runtime.destination(api_key="own", host=None)
    assert _runtime.emit(Event("Prompt", "u", 0.0), own)
    before, others = _runtime.senders(), len(lifecycle._all)
    for _ in range(5):
        _configure(sink)()
        assert _runtime.emit(Event("Prompt", "u", 0.0), own)
    assert (_runtime.senders(), len(lifecycle._all), len(before)) == (before, others, 2)


def test_senders_that_are_replaced_end(sink: Sink) -> None:
    """All arrives, all is counted, also what an observer sends elsewhere, and one of each is left.

    A forked child counts anew.
    """
    others, threads = len(lifecycle._all) - 1, len(_ours())
    own = _runtime.destination(api_key="own", host=None)
    for n in range(5):
        configure(host=sink.host, on_drop=lambda _events, _reason: None)
        assert track("Tracked", {"n": n}, user_id="ada")
        assert _runtime.emit(Event("Prompt", "u", 0.0), own)
    assert stats().accepted == 10
    wait_until(lambda: len(_runtime.senders()) == 2)
    assert flush(5)
    told = stats()
    assert len(lifecycle._all) - others == 2
    wait_until(lambda: len(_ours()) - threads <= 4)
    assert (told.accepted, told.delivered, told.queued, told.dropped) == (10, 10, 0, {})
    assert (len(sink.events), told.requests) == (10, len(sink.requests))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        assert stats() == _public.Stats()


def test_a_configuration_with_another_host_ends_the_sender_to_the_one_before(sink: Sink) -> None:
    """What it holds still goes there; who configures that host again gets another sender."""
    with Sink() as other:
        track("One", user_id="ada")
        configure(host=other.host, flush_interval_s=0.0)
        track("Two", user_id="ada")
        _configure(sink)()
        track("Three", user_id="ada")
        wait_until(lambda: len(_runtime.senders()) == 1)
        assert flush(5)
        assert stats().delivered == 3
        arrived = [[event["event"] for event in one.events] for one in (sink, other)]
        assert (sorted(arrived[0]), arrived[1]) == (["One", "Three"], ["Two"])


def test_a_sender_that_is_replaced_while_its_host_is_in_trouble(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while its events go to disk, for whoever comes."""
    monkeypatch.setattr(sender, "RETIRING_S", 0.2)
    sink.refuse("/publish_events", 503)
    chosen: dict[str, Any] = {"host": sink.host, "spool": "auto", "spool_dir": str(tmp_path)}
    configure(**chosen)
    track("One", user_id="ada")
    sink.wait_for_requests(1)
    configure(**chosen, on_drop=lambda _events, _reason: None)
    wait_until(lambda: len(_runtime.senders()) == 1)
    assert [one.events for one in leftovers(str(tmp_path)).spools] == [1]
    told = stats()
    assert (told.accepted, told.dropped, told.queued, told.spooled) == (1, {}, 0, 0)


def test_a_sender_that_is_replaced_keeps_its_events_where_no_disk_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on until its host is well."""
    monkeypatch.setattr(sender, "RETIRING_S", 0.2)
    options: dict[str, Any] = {"exit_timeout_s": 0.0, "chance": lambda: 1.0}
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, **options) as replaced,
        ThreadPoolExecutor(1) as pool,
    ):
        replaced.put(1)
        ended = pool.submit(replaced.retire)
        server.wait_until(lambda: len(server.requests) == 3)
        server.mood = take
        ended.result(20)
        assert (server.numbers(), replaced.stats().dropped, replaced.put(2)) == ([1], {}, False)


def _press_ctrl_c() -> None:
    raise KeyboardInterrupt


def _ours() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("trubrics-")]


def _configure(sink: Sink) -> Callable[[], None]:
    return lambda: configure(host=sink.host, flush_interval_s=0.0)


def _is_in_one_of_two_orders(
    sink: Sink, module: ModuleType, step: int, call: Callable[[], object], act: Callable[[], object]
) -> None:
    others = len(lifecycle._all) - 1
    told = [track("Before", user_id="ada")]
    with meanwhile(module, step, act):
        call()
    told.append(track("Between", user_id="ada"))
    were_open = len(lifecycle._all) - others
    _configure(sink)()
    told.append(track("After", user_id="ada"))
    assert flush(5)
    assert (told[0], told[2], were_open) == (True, True, told[1])
    assert len(sink.events) == sum(told)
