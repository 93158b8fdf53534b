"""`configure()`, `shutdown()` and `stats()`, again and again and beside each other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.delivery.children import prepare
from tests.interleaving import meanwhile
from trubrics_instrument import _public, _runtime, configure, flush, shutdown, track
from trubrics_instrument._delivery import (
    Sender,
    SenderOptions,
    Senders,
    Skip,
    lifecycle,
    run,
    senders,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.sink import Sink

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
    """What moves on at that moment is counted once."""
    moving = run.Run(OPTIONS, prepare)
    moving.queue.append(1)
    worker = threading.Thread(target=moving.encoder.move, args=(1,))

    def move() -> None:
        worker.start()
        worker.join(0.05)  # it may have to wait for a lock

    with meanwhile(run, step, move):
        assert moving.stats().accepted == 1
    if worker.ident is not None:  # there are as many steps
        worker.join(5)
    moving.close(0)


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
