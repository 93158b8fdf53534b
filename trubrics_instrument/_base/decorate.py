"""A function run inside a context manager, whatever kind of function it is."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from contextlib import AbstractContextManager

P = ParamSpec("P")
R = TypeVar("R")

Scope: TypeAlias = "Callable[[], AbstractContextManager[object]]"


def decorate(function: Callable[P, R], scope: Scope) -> Callable[P, R]:
    """Return `function`, of whichever of the four kinds, run inside `scope()` at each call."""
    target = cast("Callable[..., Any]", function)
    around: Callable[..., Callable[..., Any]] = _around_function
    if inspect.isasyncgenfunction(target):
        around = _around_async_generator
    elif inspect.isgeneratorfunction(target):
        around = _around_generator
    elif inspect.iscoroutinefunction(target):
        around = _around_coroutine
    return cast("Callable[P, R]", functools.wraps(target)(around(target, scope)))


def _around_function(function: Callable[..., Any], scope: Scope) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        with scope():
            result = function(*args, **kwargs)
        # A partial or a lambda may return what such a function does: its work is still to come.
        if inspect.isgenerator(result):
            return _around_generator(lambda: result, scope)()
        if inspect.iscoroutine(result):
            return _around_coroutine(lambda: result, scope)()
        if inspect.isasyncgen(result):
            return _around_async_generator(lambda: result, scope)()
        return result

    return inside


def _around_coroutine(
    function: Callable[..., Coroutine[Any, Any, Any]], scope: Scope
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def inside(*args: Any, **kwargs: Any) -> Any:
        with scope():
            return await function(*args, **kwargs)

    return inside


def _around_generator(
    function: Callable[..., Generator[Any, Any, Any]], scope: Scope
) -> Callable[..., Generator[Any, Any, Any]]:
    """Enter the scope for each step: between the steps, the caller's own context holds."""

    def steps(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        advance: Callable[[], Any] = functools.partial(next, generator)
        while True:
            try:
                with scope():
                    item = advance()
            except StopIteration as stop:
                return stop.value
            try:
                advance = functools.partial(generator.send, (yield item))
            except GeneratorExit:
                with scope():
                    generator.close()
                raise
            except BaseException as error:  # handed to the generator it was meant for
                advance = functools.partial(generator.throw, error)

    return steps


def _around_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], scope: Scope
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        advance: Callable[[], Any] = functools.partial(anext, generator)
        while True:
            try:
                with scope():
                    item = await advance()
            except StopAsyncIteration:
                return
            try:
                advance = functools.partial(generator.asend, (yield item))
            except GeneratorExit:
                with scope():
                    await generator.aclose()
                raise
            except BaseException as error:  # handed to the generator it was meant for
                advance = functools.partial(generator.athrow, error)

    return steps
