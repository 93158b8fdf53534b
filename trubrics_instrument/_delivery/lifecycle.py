"""When a process ends or forks: who is told, so that no sender is forgotten."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable


class Mortal(Protocol):
    """What has something to do at the end of a process, and in a forked child."""

    def close_at_exit(self, spent_s: float) -> None:
        """Deliver or save what is left; so many seconds of the budget are spent already."""
        ...

    def before_fork(self) -> bool:
        """Let go of what a child must not inherit; return whether `after_fork` is due."""
        ...

    def after_fork(self) -> None:
        """Go on in the parent."""
        ...

    def begin_in_child(self) -> None:
        """Replace everything inherited; acquire nothing, close nothing."""
        ...


class _End:
    """What a thread holds that has become the main thread of a forked child: its end is theirs.

    Nothing at all is run at the exit of such a process: it is over when its last thread is, and
    ours would go on.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __del__(self) -> None:
        # A child's child clears away what the threads held that it has not got.
        if self._pid == os.getpid():
            _close_all()
            _begin_in_child()  # anew, for threads that it has left behind


_all: list[Mortal] = []
_paused: list[Mortal] = []
_hooked_pids: set[int] = set()
_finalizer: Any = None
_held = threading.local()


def enlist(mortal: Mortal) -> None:
    """Tell this sender when the process ends or forks."""
    _all.append(mortal)
    hook_exit()


def dismiss(mortal: Mortal) -> None:
    """Forget a sender that is closed."""
    if mortal in _all:
        _all.remove(mortal)


def hook_exit() -> None:
    """Hook into the end of this process; called by the first event in each process.

    (And before, so that handlers which the app registers later run earlier, and may still track.)

    `atexit` does not run in children of multiprocessing (up to 3.12; 3.13 forgets what was
    registered before the fork) nor of Celery: each has a way of its own.
    """
    hooks = [_hook_multiprocessing]
    if os.getpid() not in _hooked_pids:
        _hooked_pids.add(os.getpid())
        # urllib3 closes its connections by a finalizer, and all of those run together at the exit,
        # when the first one is due: after us, who still have something to send.
        weakref.finalize(hook_exit, int)
        atexit.register(_close_all)
        hooks.append(_hook_celery)
    for hook in hooks:
        with shield("hooking into the end of the process"):
            hook()


def _hook_multiprocessing() -> None:
    """Register a finalizer, again where a child has thrown it away since it loaded the app."""
    global _finalizer  # noqa: PLW0603 - it belongs to the process
    util = sys.modules.get("multiprocessing.util")
    if util is None or (_finalizer is not None and _finalizer.still_active()):
        return
    # Runs in order of priority; a pool's own finalizers have 15 and less.
    _finalizer = util.Finalize(None, _close_all, exitpriority=10)


def _hook_celery() -> None:
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        connect: Callable[..., object] = signals.worker_process_shutdown.connect
        connect(_close_all, weak=False)


def _close_all(*_: object, **__: object) -> None:
    started = time.monotonic()
    interrupted: KeyboardInterrupt | None = None
    for mortal in _all[:]:
        with shield("closing at exit"):
            try:
                mortal.close_at_exit(inf if interrupted else time.monotonic() - started)
            except KeyboardInterrupt as error:  # a second Ctrl-C: nobody waits for a host any more
                interrupted = error
                mortal.close_at_exit(inf)
    if interrupted is not None:
        raise interrupted


def _before_fork() -> None:
    # By their ids: `current_thread()` would make an object for a thread that is not Python's.
    _held.forked_in_thread = threading.get_ident() != threading.main_thread().ident
    for mortal in _all[:]:
        with shield("preparing for a fork"):
            if mortal.before_fork():
                _paused.append(mortal)


def _go_on_in_parent() -> None:
    while _paused:
        with shield("going on after a fork"):
            _paused.pop().after_fork()


def _begin_in_forked_child() -> None:
    _begin_in_child()
    # Where greenlets stand in for threads, the end of one means nothing.
    if _held.forked_in_thread and threading.local.__module__ == "_thread":
        _held.end = _End()


def _begin_in_child() -> None:
    _paused.clear()
    for mortal in _all[:]:
        with shield("starting in a forked child"):
            mortal.begin_in_child()


if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_go_on_in_parent,
        after_in_child=_begin_in_forked_child,
    )
