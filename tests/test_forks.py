"""What a fork waits for, and for how long; with a real fork in `test_cost.py`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from trubrics_instrument._base.forks import Forks

if TYPE_CHECKING:
    import pytest


def may_work(forks: Forks) -> bool:
    """Return whether work may begin that holds forks back."""
    begun = threading.Event()

    def work() -> None:
        with forks.held_back():
            begun.set()

    threading.Thread(target=work, daemon=True).start()
    return begun.wait(0.2)


def test_no_work_begins_while_a_process_forks() -> None:
    """It waits until the parent goes on; the child starts from nothing."""
    forks = Forks()
    forks.await_end()
    assert not may_work(forks)
    forks.go_on()
    assert may_work(forks)
    forks.await_end()
    forks.begin_in_child()
    assert may_work(forks)


def test_work_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no fork for ever, and is as far as it was in the parent."""
    monkeypatch.setattr("trubrics_instrument._base.forks._PATIENCE_S", 0.01)
    forks = Forks()
    with forks.held_back():
        forks.await_end()
        forks.go_on()
        assert not may_work(forks)
    assert may_work(forks)


def test_work_that_never_ends_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further fork goes on at once, until something has ended again."""
    monkeypatch.setattr("trubrics_instrument._base.forks._PATIENCE_S", 0.01)
    forks = Forks()
    waits: list[float] = []

    class Lock:
        def acquire(self, timeout: float) -> bool:
            waits.append(timeout)
            return False

        def __enter__(self) -> None:
            """Begin some work."""

        def __exit__(self, *_: object) -> None:
            """End it."""

    monkeypatch.setattr(forks, "_lock", Lock())
    for _ in range(2):
        forks.await_end()
    with forks.held_back():
        pass
    forks.await_end()
    assert waits == [0.01, 0.0, 0.01]


def test_work_that_forks() -> None:
    """It ends in the child as well, where nobody waits for it any more."""
    forks = Forks()
    with forks.held_back():
        forks.begin_in_child()
    assert may_work(forks)
