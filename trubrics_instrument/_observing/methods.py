"""Put wrappers on other people's classes, and take them off again, whoever else is there."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import wrapt

from trubrics_instrument._base.shield import shield
from trubrics_instrument._base.wrapper import stand_in
from trubrics_instrument._observing.observer import Observer
from trubrics_instrument._observing.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trubrics_instrument._base.wrapper import Wrapper


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


class MethodPatch(Patch):
    """A set of methods that are wrapped together, and unwrapped together.

    Taking off removes our wrapper where it is the outermost one; where somebody has wrapped it
    since, it stays and passes everything through, so that theirs goes on working. Where somebody
    puts back what they found before us, and so throws our wrapper away, it is put on again, around
    what they put back.
    """

    def __init__(self, points: Sequence[PatchPoint]) -> None:
        super().__init__(point.module for point in points)
        self.observer = Observer()
        self._points = points
        self._placed: list[_Placed] = []

    def _become(self, what: Any) -> None:
        self.observer = what

    def _patch(self, name: str, module: Any) -> None:
        with self._lock:
            for point in self._points:
                if self._on and point.module == name:
                    with shield(f"patching {name}"):  # said once: too old, or unknown
                        self._wrap(module, point)

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
                    self._wrap(sys.modules[point.module], point)
            finally:
                self._lock.release()

    def _wrap(self, module: Any, point: PatchPoint) -> None:
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


def _undo_others(function: Any, own: MethodPatch) -> None:
    """Take off the patch that this package put on before it was loaded again, if there is one."""
    for layer in _layers(function):
        patch = getattr(layer, "_self_trubrics_patch", own)
        # Told by its name, because a reload of this module makes another class.
        if patch is not own and type(patch).__name__ == MethodPatch.__name__:
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
