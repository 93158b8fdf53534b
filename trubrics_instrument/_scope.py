"""Who is asking, and where: what the app says around its calls, carried by one context variable."""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast

from trubrics_instrument._shield import shield

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")

MAX_ID_CHARS = 512


class Said(NamedTuple):
    """What the app has said at one moment, the innermost word first; None where it said nothing."""

    user_id: str | None = None
    thread_id: str | None = None
    assistant_id: str | None = None
    prompt_id: str | None = None
    generation_id: str | None = None
    prompt: str | None = None
    properties: Mapping[str, object] = {}
    enabled: bool = True


class Scope:
    """One link of the chain of scopes; mutable, because `identify()` fills it later."""

    __slots__ = ("outer", "said")

    def __init__(self, said: Said, outer: Scope | None) -> None:
        self.said = said
        self.outer = outer


_scope: ContextVar[Scope | None] = ContextVar("trubrics_scope", default=None)
_NOTHING = Said()


def said() -> Said:
    """Return what holds here and now."""
    scope = _scope.get()
    if scope is None:
        return _NOTHING
    merged = scope.said
    while (scope := scope.outer) is not None:
        merged = _within(merged, scope.said)
    return merged


def _within(inner: Said, outer: Said) -> Said:
    """Return the inner word, completed by the outer one; off anywhere is off."""
    return Said(
        inner.user_id or outer.user_id,
        inner.thread_id or outer.thread_id,
        inner.assistant_id or outer.assistant_id,
        inner.prompt_id or outer.prompt_id,
        inner.generation_id or outer.generation_id,
        inner.prompt or outer.prompt,
        {**outer.properties, **inner.properties} if outer.properties else inner.properties,
        inner.enabled and outer.enabled,
    )


def clean_id(value: object) -> str | None:
    """Return an id as a str of at most 512 characters; None if it is empty."""
    if value is None:
        return None
    with shield("reading an id"):
        return str(value)[:MAX_ID_CHARS] or None
    return None


class context:  # noqa: N801 - used as a statement, like `suppress`
    """Say who is asking, and in which conversation, for the calls inside.

    Use it as `with`, as `async with`, or as a decorator of a function, a coroutine function or a
    generator function of either kind. What is not given holds on from outside.

    Args:
        user_id: Who asks.
        thread_id: The conversation.
        assistant_id: The assistant's name, instead of the model's.
        properties: Your own properties of every event inside: flat, JSON scalars.
        prompt_id: The id of the user's message; calls that share it are one turn.
        generation_id: The id of the answer, where the answer's own would not do.
        prompt: What the user typed, where the model gets something longer (RAG).
        enabled: False sends nothing of what happens inside.
    """

    def __init__(
        self,
        *,
        user_id: object = None,
        thread_id: object = None,
        assistant_id: object = None,
        properties: Mapping[str, object] | None = None,
        prompt_id: object = None,
        generation_id: object = None,
        prompt: str | None = None,
        enabled: bool | None = None,
    ) -> None:
        self._said = Said(
            clean_id(user_id),
            clean_id(thread_id),
            clean_id(assistant_id),
            clean_id(prompt_id),
            clean_id(generation_id),
            prompt or None,
            dict(properties or {}),
            enabled is not False,
        )
        self._tokens: list[Token[Scope | None]] = []

    def __enter__(self) -> context:
        self._tokens.append(_scope.set(Scope(self._said, _scope.get())))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            _scope.reset(self._tokens.pop())
        except (IndexError, ValueError):
            # Left in another context than it was entered in, as when a framework closes a
            # generator elsewhere: there is nothing of ours to take back there.
            return

    async def __aenter__(self) -> context:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function`, run inside this context each time that it is called."""
        return _decorated(function, self._again)

    def _again(self) -> context:
        """Return a context that says the same: one object must not be entered by two tasks."""
        twin = context.__new__(type(self))
        twin._said = self._said
        twin._tokens = []
        return twin


def suppress() -> context:
    """Send nothing of what happens inside: title generation, evaluation, health checks."""
    return context(enabled=False)


def identify(
    user_id: object, *, thread_id: object = None, properties: Mapping[str, object] | None = None
) -> None:
    """Say who is asking for the rest of this request.

    Inside the middleware it fills the request's scope, so that it holds wherever the request's
    work is done. Elsewhere it holds for the rest of the current context (task, thread or script).
    """
    scope = _base()
    scope.said = _within(
        Said(clean_id(user_id), clean_id(thread_id), properties=dict(properties or {})), scope.said
    )


def open_request(first_word: Said = _NOTHING) -> Token[Scope | None]:
    """Start a request's own scope, for a middleware: nothing from outside shines in."""
    return _scope.set(Scope(first_word, None))


def close_request(token: Token[Scope | None]) -> None:
    """End it; quietly, if the framework does so in another context."""
    try:
        _scope.reset(token)
    except ValueError:
        return


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` carrying the present scope, for a thread pool or a callback."""
    carried = _scope.get()

    @functools.wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _scope.set(carried)
        try:
            return function(*args, **kwargs)
        finally:
            close_request(token)

    return bound


def _base() -> Scope:
    """Return the outermost scope, made here if there is none."""
    scope = _scope.get()
    if scope is None:
        scope = Scope(_NOTHING, None)
        _scope.set(scope)
        return scope
    while scope.outer is not None:
        scope = scope.outer
    return scope


def _decorated(function: Callable[P, R], scope: Callable[[], context]) -> Callable[P, R]:
    target = cast("Callable[..., Any]", function)
    around: Callable[..., Callable[..., Any]] = _around_function
    if inspect.isasyncgenfunction(target):
        around = _around_async_generator
    elif inspect.isgeneratorfunction(target):
        around = _around_generator
    elif inspect.iscoroutinefunction(target):
        around = _around_coroutine
    return cast("Callable[P, R]", functools.wraps(target)(around(target, scope)))


def _around_function(
    function: Callable[..., Any], scope: Callable[[], context]
) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        with scope():
            return function(*args, **kwargs)

    return inside


def _around_coroutine(
    function: Callable[..., Coroutine[Any, Any, Any]], scope: Callable[[], context]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def inside(*args: Any, **kwargs: Any) -> Any:
        with scope():
            return await function(*args, **kwargs)

    return inside


def _around_generator(
    function: Callable[..., Generator[Any, Any, Any]], scope: Callable[[], context]
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
    function: Callable[..., AsyncGenerator[Any, Any]], scope: Callable[[], context]
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
