"""The senders of a process: one for each way to deliver, from the first of all to the end."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._base.forks import forks
from trubrics_instrument._base.shield import shield

from .options import SenderStats
from .sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .options import Prepare, SenderOptions

_COUNTS = (
    *("accepted", "delivered", "queued", "queued_bytes", "spooled"),
    *("requests", "retries", "duplicates_possible"),
)


class _Replaced(NamedTuple):
    """Those that are on their way out, and what those that are gone had counted in this process."""

    leaving: tuple[Sender, ...]
    gone: SenderStats
    pid: int

    def counted(self) -> SenderStats:
        """Return what is counted here of those that are gone: nothing, in a forked child."""
        return self.gone if self.pid == os.getpid() else SenderStats()


class Senders:
    """Those that one configuration hands on to the next, until `shutdown()`.

    Attributes:
        closed: Whether `shutdown()` was called. All configurations that have these senders see it,
            also one that is being put in force at that moment.
    """

    def __init__(self) -> None:
        self.closed = False
        self._by_options: dict[SenderOptions, Sender] = {}
        self._replaced = _Replaced((), SenderStats(), os.getpid())

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
        """Return all that are there."""
        return list(dict.fromkeys([*self._by_options.values(), *self._replaced.leaving]))

    def stats(self) -> SenderStats:
        """Return what all have counted in this process, those that are gone as well."""
        while True:
            replaced = self._replaced
            told = _total([*(one.stats() for one in self.every()), replaced.counted()])
            if replaced is self._replaced:  # else one has just gone
                return told

    def retire(self, is_replaced: Callable[[SenderOptions], bool]) -> None:
        """Have those that are replaced deliver what they hold, and end; nobody waits for them."""
        with forks.held_back():  # and one after the other
            retired = {o: one for o, one in list(self._by_options.items()) if is_replaced(o)}
            was = self._replaced
            self._replaced = was._replace(leaving=(*was.leaving, *retired.values()))
            for options in retired:
                del self._by_options[options]
        for one in retired.values():
            self._let_go(one)

    def _let_go(self, sender: Sender) -> None:
        name = "trubrics-leaving"
        with suppress(RuntimeError):  # no thread can be had: it is there until the end
            threading.Thread(target=self._see_off, args=(sender,), name=name, daemon=True).start()

    def _see_off(self, sender: Sender) -> None:
        with shield("ending a sender that was replaced", own_thread=True):
            sender.retire()
            # What waits on disk is counted by who delivers it.
            last = replace(sender.stats(), queued=0, queued_bytes=0, spooled=0)
            with forks.held_back():
                was = self._replaced
                leaving = tuple(one for one in was.leaving if one is not sender)
                gone = _total([last, was.counted()])
                self._replaced = _Replaced(leaving, gone, os.getpid())


def _total(each: Sequence[SenderStats]) -> SenderStats:
    dropped: Counter[str] = Counter()
    for one in each:
        dropped.update(one.dropped)
    counts = {name: sum(getattr(one, name) for one in each) for name in _COUNTS}
    last_error = next((one.last_error for one in each if one.last_error), None)
    return SenderStats(**counts, dropped=dict(dropped), last_error=last_error)
