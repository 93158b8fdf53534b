"""What a fork waits for: a child cannot finish what a thread had begun that it does not have."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_PATIENCE_S = 5.0


class Forks:
    """The forks of a process, and what must not be cut in two by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_ours = False
        self._patience_s = _PATIENCE_S

    @contextmanager
    def held_back(self) -> Generator[None]:
        """Let no fork happen in here; for work that is short and happens once."""
        with self._lock:
            yield
        self._patience_s = _PATIENCE_S

    def await_end(self) -> None:
        """Wait until nothing is unfinished, and let nothing begin; but not for ever."""
        self._is_ours = self._lock.acquire(timeout=self._patience_s)
        if not self._is_ours:  # and the next fork need not wait for the same
            self._patience_s = 0.0

    def go_on(self) -> None:
        """Let work begin again, in the parent."""
        if self._is_ours:  # else it took too long, and goes on
            self._lock.release()

    def begin_in_child(self) -> None:
        """Start from nothing: who held the lock is not here."""
        self._lock = threading.Lock()
        self._patience_s = _PATIENCE_S


forks = Forks()

if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
    os.register_at_fork(
        before=forks.await_end,
        after_in_parent=forks.go_on,
        after_in_child=forks.begin_in_child,
    )
