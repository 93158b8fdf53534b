"""What a fork waits for: a child cannot finish what a thread had begun that it does not have."""

from __future__ import annotations

import os
import threading

_PATIENCE_S = 5.0


class _Unfinished:
    """Holds forks back while it is entered; for work that is short and happens once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_ours = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def await_end(self) -> None:
        """Wait until nothing is unfinished, and let nothing begin; but not for ever."""
        self._is_ours = self._lock.acquire(timeout=_PATIENCE_S)

    def go_on(self) -> None:
        """Let work begin again, in the parent."""
        if self._is_ours:
            self._lock.release()

    def begin_in_child(self) -> None:
        """Start from nothing: who held the lock is not here."""
        self._lock = threading.Lock()


unfinished = _Unfinished()

if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
    os.register_at_fork(
        before=unfinished.await_end,
        after_in_parent=unfinished.go_on,
        after_in_child=unfinished.begin_in_child,
    )
