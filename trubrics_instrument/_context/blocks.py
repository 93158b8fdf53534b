"""`context()`, `suppress()`, `identify()` and `bind()`: what an app says around its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from trubrics_instrument._base.decorate import decorate
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context import scope
from trubrics_instrument._context.jobs import note_job
from trubrics_instrument._context.scope import Said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
R = TypeVar("R")


class context:  # noqa: N801 - used as a statement, like `suppress`
    """Say who is asking, and in which conversation, for the calls inside.

    Use it as `with`, as `async with`, or as a decorator of a function, a coroutine function or a
    generator function of either kind. What is not given holds on from outside. One object may be
    entered many times, by many threads and tasks at once.

    Args:
        user_id: Who asks.
        thread_id: The conversation.
        assistant_id: The assistant's name, instead of the model's.
        properties: Your own properties of every event inside: flat, JSON scalars.
        prompt_id: The id of the user's message; calls that share it are one turn.
        generation_id: The id of the answer, where the answer's own would not do.
        prompt: What the user typed, where the model gets something longer (RAG).
        enabled: False sends nothing of what happens inside; so does 0, as a database has it.
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
        enabled: object = None,
    ) -> None:
        self._said = Said(
            clean_id(user_id),
            clean_id(thread_id),
            clean_id(assistant_id),
            clean_id(prompt_id),
            clean_id(generation_id),
            prompt if isinstance(prompt, str) and prompt else None,  # pyright: ignore[reportUnnecessaryIsInstance] # the app's
            _as_dict(properties),
            enabled is None or _is_on(enabled),
        )

    def __enter__(self) -> context:
        scope.enter(self, self._said)
        return self

    def __exit__(self, *_: object) -> None:
        scope.leave(self)

    async def __aenter__(self) -> context:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function`, run inside this context each time that it is called."""
        return decorate(function, lambda: self)


def _as_dict(properties: Mapping[str, object] | None) -> dict[str, object]:
    """Return the app's properties; none of what is no mapping: the app is in a request now."""
    with shield("reading properties"):
        return dict(properties or {})
    return {}


def _is_on(enabled: object) -> bool:
    """Whether an answer is a yes; what cannot be asked is none."""
    with shield("reading `enabled`"):
        return bool(enabled)
    return False


def suppress() -> context:
    """Send nothing of what happens inside: title generation, evaluation, health checks."""
    return context(enabled=False)


def identify(
    user_id: object, *, thread_id: object = None, properties: Mapping[str, object] | None = None
) -> None:
    """Say who is asking for the rest of this request.

    Inside the middleware it holds wherever the request's work is done; in a handler that is
    `flushed`, and in a task of Celery's, until that is over. Elsewhere it holds for the rest of the
    current asyncio task, thread or script: without the middleware, a thread that serves one request
    after the other hands it on, so use `context()` there. Said again it adds to what was said
    before; where it names another user, nothing of that holds any longer.
    """
    if not scope.in_request():
        note_job()
    word = Said(clean_id(user_id), clean_id(thread_id), properties=_as_dict(properties))
    scope.identified(word)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` carrying the present scope, for a thread pool or a callback."""
    return decorate(function, scope.carrying())
