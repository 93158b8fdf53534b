"""The senders of a process: one for each way to deliver, from the first of all to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sender import Sender

if TYPE_CHECKING:
    from .options import Prepare, SenderOptions


class Senders:
    """Those that one configuration hands on to the next, until `shutdown()`; without a lock.

    Attributes:
        closed: Whether `shutdown()` was called. All configurations that have these senders see it,
            also one that is being put in force at that moment.
    """

    def __init__(self) -> None:
        self.closed = False
        self._by_options: dict[SenderOptions, Sender] = {}

    def get(self, options: SenderOptions, prepare: Prepare) -> Sender | None:
        """Return the sender with these options, built on first use; None is built after the end."""
        found = self._by_options.get(options)
        if found is None and not self.closed:
            built = Sender(options, prepare)
            found = self._by_options.setdefault(options, built)
            if found is not built or self.closed:  # another thread was there meanwhile
                built.shutdown(0.0)
        return found

    def every(self) -> list[Sender]:
        """Return all that were built."""
        return list(self._by_options.values())
