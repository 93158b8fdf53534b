"""For platforms that freeze a process once it has answered: deliver first, within a budget."""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from trubrics_instrument import _public
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.scope import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
R = TypeVar("R")

BUDGET_S = 1.0
# AWS Lambda; Cloud Run and Cloud Functions; Azure Functions; Vercel.
_FREEZING = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE", "FUNCTIONS_WORKER_RUNTIME", "VERCEL")


def flush_budget_s(
    asked_s: float | None = None, environ: Mapping[str, str] = os.environ
) -> float | None:
    """Return how long an answer may wait for its events; None where it need not wait at all.

    Args:
        asked_s: What the app asks for; 0 is never. If None, the platform decides.
        environ: Where the platforms say that they are one.

    Raises:
        ValueError: A budget that is no number of seconds from 0 to 60.
    """
    if asked_s is None:
        return BUDGET_S if any(environ.get(name) for name in _FREEZING) else None
    _check_budget(asked_s)
    return asked_s or None


@overload
def flushed(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def flushed(*, timeout_s: float) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def flushed(function: Callable[..., Any] | None = None, /, *, timeout_s: float = BUDGET_S) -> Any:
    """Deliver what a handler has caused before it returns, for at most `timeout_s`.

        @flushed
        def handler(event, context): ...

    What is not delivered by then goes with the next call, or to the spool. Whom `identify()`
    names in it is not the next call's user.

    Raises:
        ValueError: A generator function, or an impossible budget.
    """
    _check_budget(timeout_s)
    if function is None:
        return functools.partial(_decorated, timeout_s=timeout_s)
    return _decorated(function, timeout_s=timeout_s)


def _check_budget(value: object) -> None:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else -1
    if not 0 <= number <= 60:  # noqa: PLR2004 - a minute
        raise ValueError(f"the budget of a flush is 0 to 60 seconds, not {value!r}")


def _decorated(function: Callable[..., Any], *, timeout_s: float) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError("flushed() is for a handler that returns, not for one that yields")
    if inspect.iscoroutinefunction(function):
        return _around_coroutine(function, timeout_s)
    return _around_function(function, timeout_s)


def _around_function(function: Callable[..., Any], timeout_s: float) -> Callable[..., Any]:
    @functools.wraps(function)
    def handler(*args: Any, **kwargs: Any) -> Any:
        try:
            with Job():
                return function(*args, **kwargs)
        finally:
            with shield("delivering before the answer"):
                _public.flush(timeout_s)

    return handler


def _around_coroutine(function: Callable[..., Any], timeout_s: float) -> Callable[..., Any]:
    @functools.wraps(function)
    async def handler(*args: Any, **kwargs: Any) -> Any:
        try:
            with Job():
                return await function(*args, **kwargs)
        finally:
            with shield("delivering before the answer"):
                await _public.aflush(timeout_s)

    return cast("Callable[..., Any]", handler)
