"""Put wrappers on other people's classes, and take them off again, whoever else is there."""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import wrapt

from trubrics_instrument._base.shield import shield
from trubrics_instrument._base.wrapper import stand_in
from trubrics_instrument._observing.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from trubrics_instrument._base.wrapper import Wrapper


_MOST_FOR_GOOD = 100  # an app may call `patch_openai()` with every request


class PatchPoint(NamedTuple):
    """One method to wrap: the module, the path inside it, and wrapt's kind of wrapper.

    An `optional` one is missing in some versions.
    """

    module: str
    path: str
    wrapper: Wrapper
    optional: bool = False


class _Placed(NamedTuple):
    """A wrapper of ours where it was put: what an undo needs.

    The wrapper is known weakly: who puts back the method that was there before us frees it, and so
    tells us.
    """

    parent: Any
    attribute: str
    wrapper: weakref.ref[Any]
    inherited: bool


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


class Patch:
    """A set of patch points that are put on together, and taken off together.

    Modules that are not imported yet are patched when they are. Taking off removes our wrapper
    where it is the outermost one; where somebody has wrapped it since, it stays and passes
    everything through, so that theirs goes on working. Where somebody puts back what they found
    before us, and so throws our wrapper away, it is put on again, around what they put back.
    """

    def __init__(self, points: Sequence[PatchPoint]) -> None:
        self.observer = Observer()
        self._points = points
        self._placed: list[_Placed] = []
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def _become(self, what: Any) -> None:
        self.observer = what

    def _cover(self) -> None:
        """Wrap each point once, now or when its module is imported."""
        if not self._on:
            return
        for module in dict.fromkeys(point.module for point in self._points):
            if module in sys.modules:
                with shield(f"patching {module}"):  # whose import may go on in another thread
                    self._wrap(module, importlib.import_module(module))
            else:
                wrapt.register_post_import_hook(self._imported, module)

    def _uncover(self) -> None:
        for placed in self._placed:
            with shield("taking a patch off"):
                _take_off(placed)
        self._placed = [placed for placed in self._placed if placed.wrapper() is not None]

    def _thrown_away(self, point: PatchPoint) -> None:
        # This runs inside their assignment, or wherever the last call through the wrapper ends:
        # it must not wait. Who holds the lock is about to put everything on, or to take it off.
        if self._on and not sys.is_finalizing() and self._lock.acquire(blocking=False):
            try:
                with shield("putting a patch on again", quiet=True):
                    self._wrap_one(sys.modules[point.module], point)
            finally:
                self._lock.release()

    def _imported(self, module: Any) -> None:
        # An exception here would land in the app's own import statement.
        with shield("patching a module when it is imported"):
            self._wrap(module.__name__, module)

    def _wrap(self, name: str, module: Any) -> None:
        with self._lock:
            for point in self._points:
                if self._on and point.module == name:
                    with shield(f"patching {name}"):  # said once: too old, or nobody's we know
                        self._wrap_one(module, point)

    def _wrap_one(self, module: Any, point: PatchPoint) -> None:
        try:
            _undo_others(wrapt.resolve_path(module, point.path)[2], self)
            parent, attribute, original = wrapt.resolve_path(module, point.path)
        except AttributeError:
            if point.optional:
                return
            raise
        self._placed = [placed for placed in self._placed if placed.wrapper() is not None]
        if any(_is_there(placed, original) for placed in self._placed):
            return
        inherited = attribute not in vars(parent)
        wrapped_by = self._late(point.wrapper, parent, attribute) if inherited else point.wrapper
        enabled = None if inherited else lambda: self._on
        wrapper = stand_in(original, wrapped_by, enabled=enabled)
        wrapper._self_trubrics_patch = self  # wrapt keeps such names on the wrapper
        known = weakref.ref(wrapper, lambda _: self._thrown_away(point))
        setattr(parent, attribute, wrapper)
        self._placed.append(_Placed(parent, attribute, known, inherited))

    def _late(self, wrapper: Wrapper, parent: Any, attribute: str) -> Wrapper:
        """Return a wrapper of what the class inherits now: somebody may patch that after us."""

        def late(
            wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Any
        ) -> Any:
            if isinstance(instance, parent):
                wrapped = getattr(cast("Any", super)(parent, instance), attribute)
            if not self._on:
                return wrapped(*args, **kwargs)
            return wrapper(wrapped, instance, args, kwargs)

        return late


def _undo_others(function: Any, own: Patch) -> None:
    """Take off the patch that this package put on before it was loaded again, if there is one."""
    for layer in _layers(function):
        patch = getattr(layer, "_self_trubrics_patch", own)
        # Told by its name, because a reload of this module makes another class.
        if patch is not own and type(patch).__name__ == Patch.__name__:
            patch.undo()


def _take_off(placed: _Placed) -> None:
    wrapper = placed.wrapper()
    if wrapper is None or _now_at(placed) is not wrapper:
        return
    if placed.inherited:
        delattr(placed.parent, placed.attribute)
    else:
        setattr(placed.parent, placed.attribute, wrapper.__wrapped__)


def _is_there(placed: _Placed, function: Any) -> bool:
    """Whether our wrapper is the function, or one of those that it wraps."""
    wrapper = placed.wrapper()
    return wrapper is not None and any(layer is wrapper for layer in _layers(function))


def _now_at(placed: _Placed) -> Any:
    return cast("Mapping[str, Any]", vars(placed.parent)).get(placed.attribute)


def _layers(function: Any) -> Iterator[Any]:
    """Yield a function and what it wraps, from the outermost layer inwards."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)
