"""What is open at the end of the process, and ends with it."""

from __future__ import annotations

import atexit
from typing import Protocol
from weakref import ref

from trubrics_instrument._base.shield import shield


class Open(Protocol):
    """An answer that the app has not had to its end."""

    def leave(self) -> None:
        """Tell the answer so far, if it is not told yet."""
        ...


# References, and no `WeakSet`: that cannot be listed while other threads add to it.
_open: set[ref[Open]] = set()
_hooked: list[bool] = []


def end_at_exit(answer: Open) -> None:
    """Take note of an answer, so that the end of the process is its end, if it is still there.

    Hooked in after the sender, whose first event is the prompt, and so called before it closes.
    """
    if not _hooked:
        _hooked.append(True)
        atexit.register(end_all)
    _open.add(ref(answer, _open.discard))


def end_all() -> None:
    """End what is open, with the process: of what goes on all the same, the rest is not told."""
    # Twice: work in the background whose stream is left waits for the app to come back to it.
    for _ in range(2):
        for reference in _open.copy():
            answer = reference()
            if answer is not None:
                with shield("ending an answer with the process", quiet=True):
                    answer.leave()
