"""`patch_threads()`: what an app hands to a thread pool belongs to who was asking there."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context import scope
from trubrics_instrument._observing.methods import MethodPatch, PatchPoint
from trubrics_instrument._observing.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from trubrics_instrument._observing.patch import Patch


def patch_threads() -> Patch:
    """Carry `context()`, `identify()`, `suppress()` and the request into every thread pool.

    As `bind()` does for one function, for whatever is handed to a `ThreadPoolExecutor` while
    anything is said: by the app, by a library, and by `loop.run_in_executor()`. A piece of work
    that goes on for other users too, such as a worker's loop, keeps what was said where it was
    handed over: where an app has one that is started within a request, use `bind()` instead.

    Returns:
        The patch: `undo()` takes it off. As a context manager it is on in the block, and after it
        as it was before.
    """
    patch: MethodPatch = _runtime.state().patches.setdefault("threads", MethodPatch(_POINTS))
    patch.put_on(Observer())
    return patch


def unpatch_threads() -> None:
    """Take the patch off; nothing happens if it is not on."""
    patch = _runtime.state().patches.get("threads")
    if patch is not None:
        patch.undo()


def _submit(
    wrapped: Callable[..., Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with shield("carrying what was said into a thread pool"):
        if args and scope.is_said() and not _works_elsewhere(pool):
            args = (_Work(args[0], scope.carrying()), *args[1:])
    return wrapped(*args, **kwargs)


def _works_elsewhere(pool: Any) -> bool:
    """Whether a pool hands its work to other interpreters, which take no objects of this one."""
    return any(kind.__name__ == "InterpreterPoolExecutor" for kind in type(pool).__mro__)


class _Work:
    """A piece of work, with what was said where it was handed over."""

    __slots__ = ("_carried", "_function")

    def __init__(
        self, function: Callable[..., Any], carried: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._function = function
        self._carried = carried

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with self._carried():
                return self._function(*args, **kwargs)
        except BaseException:  # the app may keep it, and that the frames, and they this work
            self._carried = nullcontext  # it can still be called once more
            raise
        finally:
            del self, args, kwargs


# Source: Python 3.10 to 3.14, `concurrent/futures/thread.py`; `map()` and the event loop call it.
_POINTS = (PatchPoint("concurrent.futures.thread", "ThreadPoolExecutor.submit", _submit),)
