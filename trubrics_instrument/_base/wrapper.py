"""What stands in for a function that is watched: it looks like it, and returns what it returns."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import wrapt

from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable

Wrapper: TypeAlias = "Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]"


class _Hints:
    """The annotations of the function that is wrapped.

    Whoever looks at those of the wrapper's class, as `isinstance(wrapper, AProtocol)` does from
    Python 3.12 on, gives the class some of its own. They would hide the function's.
    """

    def __get__(self, wrapper: Any, owner: Any) -> Any:
        return self if wrapper is None else wrapper.__wrapped__.__annotations__

    def __set__(self, wrapper: Any, hints: Any) -> None:
        wrapper.__wrapped__.__annotations__ = hints

    def __delete__(self, wrapper: Any) -> None:
        del wrapper.__wrapped__.__annotations__


def _reduced(wrapper: Any, _: object = None) -> tuple[Any, ...]:
    """Return where it is found again, for a copy or a pickle: as Python does it for a function."""
    owner = getattr(wrapper, "__self__", None)
    if owner is not None:
        return getattr, (owner, wrapper.__name__)
    return _named, (wrapper.__module__, wrapper.__qualname__)


def _named(module: str, name: str) -> Any:
    return attrgetter(name)(import_module(module))


def _itself(function: Any, *_: Any) -> Any:
    return function


def _of_the_copy(wrapper: Any, memo: Any) -> Any:
    """Return an object's own method as that of the object's copy."""
    owner = getattr(wrapper, "__self__", None)
    return wrapper if owner is None else getattr(deepcopy(owner, memo), wrapper.__name__)


# What wrapt forbids, because it cannot know what it wraps.
_COPIED = {"__copy__": _itself, "__deepcopy__": _of_the_copy, "__reduce_ex__": _reduced}


def _like_a_function(kind: type, **more: Any) -> Any:
    return type(kind.__name__, (kind,), {"__annotations__": _Hints(), **_COPIED, **more})


_METHOD = _like_a_function(wrapt.BoundFunctionWrapper)
_FUNCTION = _like_a_function(wrapt.FunctionWrapper, __bound_function_wrapper__=_METHOD)
_UNBOUND = _like_a_function(wrapt.FunctionWrapper, __get__=_itself)


def stand_in(
    function: Callable[..., Any], wrapper: Wrapper, enabled: Callable[[], bool] | None = None
) -> Any:
    """Return what stands in for a function while `enabled()`, and looks like it."""
    # A mock is never bound to an instance, which wrapt knows only from 1.17 on.
    kind = _FUNCTION if hasattr(function, "__get__") else _UNBOUND
    return kind(function, wrapper, enabled=enabled)


class Watched(Protocol):
    """One call of a wrapped method, from its arguments to its result."""

    @property
    def args(self) -> tuple[Any, ...]:
        """What the method is called with, instead of the app's arguments."""
        ...

    @property
    def kwargs(self) -> dict[str, Any]:
        """The same for the keyword arguments."""
        ...

    def begin(self) -> None:
        """Take note that it is called now."""
        ...

    def fail(self, error: BaseException) -> None:
        """Take note that it raised."""
        ...

    def returned(self, result: Any) -> Any:
        """Take note of what it returned, and return what the app gets."""
        ...


Watch: TypeAlias = "Callable[[Any, tuple[Any, ...], dict[str, Any]], Watched | None]"


def around(watch: Watch) -> Wrapper:
    """Return the wrapper of a function that is watched; None from `watch` means look away."""

    def wrapper(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        watched = _watching(watch, instance, args, kwargs)
        if watched is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*watched.args, **watched.kwargs)
        except BaseException as error:
            watched.fail(error)
            raise
        return watched.returned(result)

    return wrapper


def around_async(watch: Watch) -> Wrapper:
    """Return the same for a coroutine function: nothing happens before it is awaited."""

    async def wrapper(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        watched = _watching(watch, instance, args, kwargs)
        if watched is None:
            return await wrapped(*args, **kwargs)
        try:
            result = await wrapped(*watched.args, **watched.kwargs)
        except BaseException as error:
            watched.fail(error)
            raise
        return watched.returned(result)

    return wrapper


def _watching(
    watch: Watch, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Watched | None:
    with shield("reading the request"):
        watched = watch(instance, args, kwargs)
        if watched is not None:
            watched.begin()
        return watched
    return None
