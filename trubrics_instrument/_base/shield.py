"""The one place where our own exceptions stop, so that none of them reaches the app."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_OURS = "trubrics_instrument"
logger = logging.getLogger(_OURS)

_ENDS_A_GREENLET = "GreenletExit"
_faults: Counter[str] = Counter()
_strict = False


class shield:  # noqa: N801 - reads as a keyword: `with shield("reading the answer")`
    """Stop an exception of ours, count it under `doing`, and log the first of its kind.

    The traceback of the log line shows our code and the exception's type, never its message:
    a message can quote a prompt. `BaseException`s that are no `Exception` (cancellation, Ctrl-C)
    are the app's and pass, and so does what a signal handler raises (a time limit); on a thread of
    our own, which has nobody above it, only gevent's word that the thread is to end. In a finaliser
    use `quiet=True`: logging takes a lock there.

    Attributes:
        failed: Whether the block was left by an exception.
    """

    __slots__ = ("_doing", "_own_thread", "_quiet", "failed")

    def __init__(self, doing: str, *, quiet: bool = False, own_thread: bool = False) -> None:
        self._doing = doing
        self._quiet = quiet
        self._own_thread = own_thread
        self.failed = False

    def __enter__(self) -> shield:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if kind is None:
            return False
        ends_thread = not self._own_thread or kind.__name__ == _ENDS_A_GREENLET
        if ends_thread and (not issubclass(kind, Exception) or _is_by_signal(trace)):
            return False
        self.failed = True
        _count(self._doing, kind, trace, quiet=self._quiet)
        return not _strict


def stopped(doing: str, error: Exception) -> None:
    """Do the same in an `except` clause, where a `with` would cost more than what it guards."""
    if _is_by_signal(error.__traceback__):
        raise error
    _count(doing, type(error), error.__traceback__, quiet=False)
    if _strict:
        raise error


def faults() -> dict[str, int]:
    """Return how many exceptions of ours were stopped, by what was being done."""
    return dict(_faults)


def set_strict(*, strict: bool) -> None:
    """Let exceptions through, as this project's own tests want it."""
    global _strict  # noqa: PLW0603 - a switch for tests, read on each exit
    _strict = strict


def forget_faults() -> None:
    """Start counting, and logging, from nothing."""
    _faults.clear()


def _is_by_signal(trace: TracebackType | None) -> bool:
    """Whether a signal handler of the app's has raised it."""
    while trace is not None:
        if _is_handler(trace.tb_frame):
            return True
        trace = trace.tb_next
    return False


def _is_handler(frame: FrameType) -> bool:
    """Whether it is given a number, and the very frame that it came upon; no other code is."""
    upon = frame.f_back
    if upon is None or str(frame.f_globals.get("__name__")).startswith(_OURS):
        return False
    given: list[object] = []
    for value in frame.f_locals.values():
        given += cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    return any(isinstance(one, int) and other is upon for one, other in pairwise(given))


def _count(
    doing: str, kind: type[BaseException], trace: TracebackType | None, *, quiet: bool
) -> None:
    first = doing not in _faults
    _faults[doing] += 1
    if first and not quiet and not _strict:
        with suppress(Exception):  # a log handler of the app's that raises
            _warn(doing, kind, trace)


def _warn(doing: str, kind: type[BaseException], trace: TracebackType | None) -> None:
    where: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        where.append(f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    logger.warning(
        "A fault in trubrics_instrument while %s (%s). The app is not affected; "
        "further faults of this kind are only counted, see stats().\n%s",
        doing,
        kind.__name__,
        "\n".join(where),
    )
