"""Who is asking, and where: what the app says around its calls, carried by one context variable."""

from __future__ import annotations

import hashlib
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from trubrics_instrument._around import decorate
from trubrics_instrument._shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")

MAX_ID_CHARS = 512
_CUT = "…"
_DIGEST_CHARS = 16
_KEPT_CHARS = MAX_ID_CHARS - _DIGEST_CHARS - len(_CUT)


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


_NOTHING = Said()


class Request:
    """One request of a web app: what came with it, and what `identify()` says while it lasts.

    Mutable, and shared by everything that works on the request: a plain context variable is lost
    in thread pools, in synchronous dependencies and in streamed bodies.

    Attributes:
        identified: What `identify()` has said.
        last_call: The last model call that was started in it.
    """

    __slots__ = ("_came_with", "identified", "last_call")

    def __init__(self, came_with: Callable[[], Said] | None = None) -> None:
        self._came_with = came_with
        self.identified = _NOTHING
        self.last_call: Any = None

    def said(self) -> Said:
        """Return what is known of it by now: the app may have found out while it works on it."""
        if self._came_with is None:
            return self.identified
        with shield("asking the app whose request this is"):
            return _within(self.identified, self._came_with())
        return self.identified

    def __enter__(self) -> Request:
        _entered(self)
        return self

    def __exit__(self, *_: object) -> None:
        _left(self)


class _Entered:
    """A context that was entered, and the last model call that was started in it.

    Mutable, so that it is seen from outside what was started in a copy of the context variables.
    """

    __slots__ = ("context", "last_call")

    def __init__(self, entered: context) -> None:
        self.context = entered
        self.last_call: Any = None


class _Here(NamedTuple):
    """Where the present code runs: the contexts around it, innermost last, and the request."""

    contexts: tuple[_Entered, ...] = ()
    request: Request | None = None
    identified: Said = _NOTHING
    last_call: Any = None
    outside: _Here | None = None


_here: ContextVar[_Here] = ContextVar("trubrics_scope", default=_Here())  # noqa: B039 - it is immutable


def said() -> Said:
    """Return what holds here and now."""
    here = _here.get()
    base = here.identified if here.request is None else here.request.said()
    if not here.contexts:
        return base
    merged = here.contexts[-1].context.said
    for outer in reversed(here.contexts[:-1]):
        merged = _within(merged, outer.context.said)
    return _within(merged, base)


def is_on() -> bool:
    """Whether nothing around switches observation off."""
    return all(one.context.said.enabled for one in _here.get().contexts)


def note_call(call: object) -> None:
    """Take note that a model call starts here, for a feedback that names no answer."""
    here = _here.get()
    for entered in here.contexts:
        entered.last_call = call
    if here.request is not None:
        here.request.last_call = call
    else:
        _here.set(_Here(here.contexts, None, here.identified, call, here.outside))


def last_call() -> Any:
    """Return the model call that was started last in this scope; None if there was none.

    The scope is the innermost context in which one was started, then the request. Only where there
    is neither, it is the task or thread: what that did before may be somebody else's.
    """
    here = _here.get()
    started = (one.last_call for one in reversed(here.contexts) if one.last_call is not None)
    outermost = here.last_call if here.request is None else here.request.last_call
    if here.contexts and here.request is None:
        outermost = None
    return next(started, outermost)


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
    """Return an id as a str of at most 512 characters; None if there is nothing in it.

    A longer one is cut and marked: its end is "…" and a digest of the whole, so that two ids that
    begin alike stay two.
    """
    if value is None:
        return None
    if type(value) is str and len(value) <= MAX_ID_CHARS:
        return value if value.strip() else None
    with shield("reading an id"):
        if inspect.isawaitable(value):
            raise TypeError("an id that was not awaited would be another one each time")
        text = str(value)
        if len(text) <= MAX_ID_CHARS:
            return text if text.strip() else None
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        return text[:_KEPT_CHARS] + _CUT + digest[:_DIGEST_CHARS]
    return None


def is_cut(known_id: str) -> bool:
    """Whether an id was cut by `clean_id`."""
    return len(known_id) == MAX_ID_CHARS and known_id[_KEPT_CHARS] == _CUT


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
        self.said = Said(
            clean_id(user_id),
            clean_id(thread_id),
            clean_id(assistant_id),
            clean_id(prompt_id),
            clean_id(generation_id),
            prompt if isinstance(prompt, str) and prompt else None,  # pyright: ignore[reportUnnecessaryIsInstance] # the app's
            _as_dict(properties),
            enabled is not False,
        )

    def __enter__(self) -> context:
        here = _here.get()
        _here.set(here._replace(contexts=(*here.contexts, _Entered(self))))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # By name, not by token: a framework may leave it in another context than it was entered
        # in, where there is nothing of ours to take back, or out of order.
        here = _here.get()
        for position in range(len(here.contexts) - 1, -1, -1):
            if here.contexts[position].context is self:
                rest = here.contexts[:position] + here.contexts[position + 1 :]
                _here.set(here._replace(contexts=rest))
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
        return decorate(function, lambda: self)


def _as_dict(properties: Mapping[str, object] | None) -> dict[str, object]:
    """Return the app's properties; none of what is no mapping: the app is in a request now."""
    with shield("reading properties"):
        return dict(properties or {})
    return {}


def suppress() -> context:
    """Send nothing of what happens inside: title generation, evaluation, health checks."""
    return context(enabled=False)


def identify(
    user_id: object, *, thread_id: object = None, properties: Mapping[str, object] | None = None
) -> None:
    """Say who is asking for the rest of this request.

    Inside the middleware it holds wherever the request's work is done. Elsewhere it holds for the
    rest of the current task, thread or script.
    """
    word = Said(clean_id(user_id), clean_id(thread_id), properties=_as_dict(properties))
    here = _here.get()
    if here.request is not None:
        here.request.identified = _within(word, here.request.identified)
    else:
        _here.set(here._replace(identified=_within(word, here.identified)))


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` carrying the present scope, for a thread pool or a callback."""
    carried = _here.get()

    def inside() -> _Carried:
        return _Carried(carried)

    return decorate(function, inside)


class _Carried:
    """The scope of another place, held here for a while."""

    __slots__ = ("_before", "_carried")

    def __init__(self, carried: _Here) -> None:
        self._carried = carried
        self._before = carried

    def __enter__(self) -> None:
        self._before = _here.get()
        _here.set(self._carried)

    def __exit__(self, *_: object) -> None:
        _here.set(self._before)


def _entered(request: Request) -> None:
    """Be in a request; nothing from outside shines in."""
    here = _here.get()
    _here.set(_Here(request=request, outside=here))


def _left(request: Request) -> None:
    """Be where the request was entered, if this is where it was."""
    here = _here.get()
    if here.request is request:
        _here.set(here.outside or _Here())
