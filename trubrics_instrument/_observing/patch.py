"""Put wrappers on other people's classes, and take them off again, whoever else is there."""

from __future__ import annotations

import importlib
import sys
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import wrapt

from trubrics_instrument._base.shield import shield
from trubrics_instrument._base.wrapper import stand_in
from trubrics_instrument._observing.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from trubrics_instrument._base.wrapper import Wrapper


_numbers = count()


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


class Block:
    """What is on around a block, when it was put on (greater is later), and who runs in it."""

    __slots__ = ("around", "number", "runner")

    def __init__(self, around: Any) -> None:
        self.around = around
        self.number = next(_numbers)
        self.runner: object = None


def _runner() -> tuple[int, int]:
    """Return what tells the thread and the task that run here from others that run."""
    task: object = None
    asyncio: Any = sys.modules.get("asyncio")
    with suppress(RuntimeError):  # no loop runs here
        task = asyncio and asyncio.current_task()
    return threading.get_ident(), id(task)


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
        # A block may be open in several threads and tasks at once: each ends its own.
        self._blocks: list[Block] = []
        self._to_begin: ContextVar[Block | None] = ContextVar("to_begin", default=None)
        # Held while nothing is imported: whoever imports a module waits for it, to patch that.
        self._lock = threading.RLock()

    def __enter__(self) -> Patch:
        block = self._to_begin.get() or Block(None)
        self._to_begin.set(None)
        block.runner = _runner()
        with self._lock:
            self._blocks.append(block)
            self._blocks.sort(key=lambda one: one.number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        here = _runner()
        with self._lock:
            own = [one for one in self._blocks if one.runner == here]
            *_, block = own or self._blocks or [Block(None)]
            later = [one for one in self._blocks if one.number > block.number]
            self._blocks = [one for one in self._blocks if one is not block]
            if later:  # which goes on, and ends as this one would
                later[0].around = block.around
                return
        if block.around is None:
            self.undo()
        else:
            self._stay_on(block.around)

    @property
    def active(self) -> bool:
        """Whether it is on."""
        return self._on

    def put_on(self, observer: Observer) -> None:
        """Wrap each point once, now or when its module is imported, for this observer."""
        with self._lock:
            self._to_begin.set(Block(self.observer if self._on else None))
            self.observer = observer
            self._on = True
        for module in dict.fromkeys(point.module for point in self._points):
            if module in sys.modules:
                with shield(f"patching {module}"):  # whose import may go on in another thread
                    self._wrap(module, importlib.import_module(module))
            else:
                wrapt.register_post_import_hook(self._imported, module)

    def _stay_on(self, before: Any) -> None:
        """Be as it was around a block, where it was on already."""
        self.put_on(before)

    def undo(self) -> None:
        """Take it off; twice is as good as once.

        What somebody holds stays known: they may put it back, and then it is there already.
        """
        self._to_begin.set(None)
        with self._lock:
            self._on = False
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
