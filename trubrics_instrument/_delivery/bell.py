"""A wake-up call that a finaliser may make."""

from __future__ import annotations

import threading


class Bell:
    """Wakes one sleeper; ringing takes no lock of Python's, so a finaliser may ring."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the sleeper, or let its next sleep end at once."""
        try:
            self._lock.release()
        except RuntimeError:  # it rings already
            return

    def sleep(self, timeout_s: float) -> None:
        """Sleep until the bell rings, or for this long."""
        self._lock.acquire(timeout=timeout_s)
