"""What is put on and taken off again: in a block, in several at once, or for good."""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import wrapt

from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_MOST_FOR_GOOD = 100  # an app may call `patch_openai()` with every request


class _Runner(NamedTuple):
    """The thread and the task that run a block."""

    thread: int
    task: weakref.ref[Any] | None

    @property
    def is_gone(self) -> bool:
        """Whether the task is over, and so will not end the block itself."""
        task = self.task() if self.task else None
        return self.task is not None and (task is None or task.done())


class Block:
    """What was put on, None for nothing: for who runs in a block, or for good while nobody does."""

    __slots__ = ("runner", "what")

    def __init__(self, what: Any) -> None:
        self.what = what
        self.runner: _Runner | None = None


def _runner() -> _Runner:
    """Return what tells the thread and the task that run here from others that run."""
    task: Any = None
    asyncio: Any = sys.modules.get("asyncio")
    with suppress(RuntimeError):  # no loop runs here
        task = asyncio and asyncio.current_task()
    return _Runner(threading.get_ident(), weakref.ref(task) if task else None)


class Patch(ABC):
    """What observes a library: put on and taken off, however many have put it on.

    Modules that are not imported yet are patched when they are.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self._modules = tuple(dict.fromkeys(modules))
        self._on = False
        # The last of them is on. A block may be open in several threads and tasks: each ends its
        # own, and what others have put on since stays.
        self._open: list[Block] = []
        self._to_begin: ContextVar[Block | None] = ContextVar("to_begin", default=None)
        # Held while nothing is imported: whoever imports a module waits for it, to patch that.
        self._lock = threading.RLock()

    def __enter__(self) -> Patch:
        wanted = self._to_begin.get()
        self._to_begin.set(None)
        with self._lock:
            block = self._begun(wanted)
            block.runner = _runner()
            self._open = [one for one in self._open if one is not block] + [block]
            self._settle()
        self._cover()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            elsewhere = self._last(lambda runner: runner.is_gone) or self._last(lambda _: True)
            ended = self._own_block() or elsewhere
            self._open = [one for one in self._open if one is not ended]
            self._settle()
        self._cover()

    @property
    def active(self) -> bool:
        """Whether it is on."""
        return self._on

    def put_on(self, what: Any) -> None:
        """Put it on as said, in front of what is on: for the block that comes next, or for good.

        Args:
            what: The observer of the calls.
        """
        block = Block(what)
        self._to_begin.set(block)
        with self._lock:
            for_good = [one for one in self._open if one.runner is None]
            forgotten = for_good[:-_MOST_FOR_GOOD]
            self._open = [one for one in self._open if one not in forgotten] + [block]
            self._settle()
        self._cover()

    def undo(self) -> None:
        """Take it off, until the block ends that this runs in; twice is as good as once.

        What somebody holds stays known: they may put it back, and then it is there already.
        """
        with self._lock:
            own = self._own_block()
            for one in self._open if own is None else [own]:
                one.what = None
            # Others' blocks are still to end, each its own.
            begun = [one for one in self._open if one.runner]
            self._open = begun if own is None else self._without_what_came_in(own)
            self._settle()

    def _begun(self, wanted: Block | None) -> Block:
        """Return the block that begins here: what was put on for it, else what is on for good."""
        if wanted and wanted.what is not None:  # several tasks may have it in their contexts
            return wanted if wanted.runner is None else Block(wanted.what)
        for_good = [one for one in self._open if one.runner is None]
        return for_good[-1] if for_good else Block(self._open[-1].what if self._open else None)

    def _without_what_came_in(self, own: Block) -> list[Block]:
        """Return what is open around a block, and others' blocks, and this one as the last."""
        at = self._open.index(own)
        return [*self._open[:at], *[one for one in self._open[at + 1 :] if one.runner], own]

    def _own_block(self) -> Block | None:
        """Return the innermost block that runs here."""
        return self._last(_runner().__eq__)

    def _last(self, matches: Callable[[_Runner], bool]) -> Block | None:
        begun = (one for one in reversed(self._open) if one.runner and matches(one.runner))
        return next(begun, None)

    def _settle(self) -> None:
        """Be what was put on last, under the lock."""
        what = self._open[-1].what if self._open else None
        self._on = what is not None
        if self._on:
            self._become(what)
        else:
            self._uncover()

    def _cover(self) -> None:
        """Patch each module, now or when it is imported."""
        for module in self._modules if self._on else ():
            if module in sys.modules:
                with shield(f"patching {module}"):  # whose import may go on in another thread
                    self._patch(module, importlib.import_module(module))
            else:
                wrapt.register_post_import_hook(self._imported, module)

    def _imported(self, module: Any) -> None:
        # An exception here would land in the app's own import statement.
        with shield("patching a module when it is imported"):
            self._patch(module.__name__, module)

    @abstractmethod
    def _become(self, what: Any) -> None:
        """Take what was put on; the lock is held."""

    @abstractmethod
    def _patch(self, name: str, module: Any) -> None:
        """Patch a module that is imported, if this is still on; once is as good as twice.

        What stands in for a module may not know by which `name` it is imported.
        """

    @abstractmethod
    def _uncover(self) -> None:
        """Take off what was patched; the lock is held."""
