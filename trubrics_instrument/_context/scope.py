"""What holds here and now, of what the app has said; carried by one context variable."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager


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
    observed: bool = True


_NOTHING = Said()


class Request:
    """One request of a web app: what came with it, and what `identify()` says while it lasts.

    Mutable, and shared by everything that works on the request, each middleware of ours in an app
    and in what is mounted in it: a plain context variable is lost in thread pools, in synchronous
    dependencies and in streamed bodies.

    Attributes:
        identified: What `identify()` has said.
        last_turn: The turn of the last model call that was started in it.
    """

    __slots__ = ("__weakref__", "_came_with", "identified", "last_turn")

    def __init__(self) -> None:
        self._came_with: tuple[Callable[[], Said], ...] = ()
        self.identified = _NOTHING
        self.last_turn: Any = None

    def comes_with(self, word: Callable[[], Said]) -> None:
        """Take note of one more who can say whose request it is; the last one goes first."""
        self._came_with = (word, *self._came_with)

    def said(self) -> Said:
        """Return what is known of it by now: the app may have found out while it works on it."""
        known = self.identified
        for word in self._came_with:
            with shield("asking the app whose request this is"):
                known = _within(known, word())
        return known

    def __enter__(self) -> Request:
        _entered(self)
        return self

    def __exit__(self, *_: object) -> None:
        _left(self)


class _Entered:
    """A context that was entered: whose it is, its word, and the turn that was last in it.

    Mutable, so that it is seen from outside what was started in a copy of the context variables.
    """

    __slots__ = ("last_turn", "owner", "said")

    def __init__(self, owner: object, word: Said) -> None:
        self.owner = owner
        self.said = word
        self.last_turn: Any = None


class _Here(NamedTuple):
    """Where the present code runs: the contexts around it, innermost last, and the request."""

    contexts: tuple[_Entered, ...] = ()
    request: Request | None = None
    identified: Said = _NOTHING
    last_turn: Any = None
    outside: _Here | None = None


_here: ContextVar[_Here] = ContextVar("trubrics_scope", default=_Here())  # noqa: B039 - it is immutable


def said() -> Said:
    """Return what holds here and now."""
    here = _here.get()
    base = here.identified if here.request is None else here.request.said()
    if not here.contexts:
        return base
    merged = here.contexts[-1].said
    for outer in reversed(here.contexts[:-1]):
        merged = _within(merged, outer.said)
    return _within(merged, base)


def is_on() -> bool:
    """Whether nothing around switches observation off."""
    around = _here.get().contexts
    # Mostly there is none, and each call asks.
    return not around or not _switching_off(around)


def _switching_off(around: tuple[_Entered, ...]) -> tuple[_Entered, ...]:
    return tuple(one for one in around if not (one.said.enabled and one.said.observed))


def note_turn(turn: object) -> None:
    """Take note of the turn whose model is called here, for whatever names no turn later."""
    here = _here.get()
    for entered in here.contexts:
        entered.last_turn = turn
    if here.request is not None:
        here.request.last_turn = turn
    else:
        _here.set(_Here(here.contexts, None, here.identified, turn, here.outside))


def last_turn() -> Any:
    """Return the turn whose model was called last in this scope; None if there was none.

    The scope is the innermost context in which one was called, then the request. Only where there
    is neither, it is the task or thread: what that did before may be somebody else's.
    """
    here = _here.get()
    started = (one.last_turn for one in reversed(here.contexts) if one.last_turn is not None)
    outermost = here.last_turn if here.request is None else here.request.last_turn
    if here.contexts and here.request is None:
        outermost = None
    return next(started, outermost)


def turn_around() -> Any:
    """Return the turn whose model was called last in this block or request; None outside of both.

    It surely is of the user whom the code here works for.
    """
    return last_turn() if is_bounded() else None


def is_bounded() -> bool:
    """Whether this scope is a block or a request: a task or a thread may go on and on."""
    here = _here.get()
    return bool(here.contexts) or here.request is not None


def is_said() -> bool:
    """Whether anything was said here, in a block, with a request or by `identify()`."""
    return is_bounded() or _here.get().identified is not _NOTHING


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
        inner.observed and outer.observed,
    )


def enter(owner: object, word: Said) -> None:
    """Be in a context of its owner's, where this word holds."""
    here = _here.get()
    _here.set(here._replace(contexts=(*here.contexts, _Entered(owner, word))))


def leave(owner: object) -> None:
    """Be out of the owner's innermost context, if this is where one was entered."""
    # By name, not by token: a framework may leave it in another context than it was entered in,
    # where there is nothing of ours to take back, or out of order.
    here = _here.get()
    for position in range(len(here.contexts) - 1, -1, -1):
        if here.contexts[position].owner is owner:
            rest = here.contexts[:position] + here.contexts[position + 1 :]
            _here.set(here._replace(contexts=rest))
            return


class Unobserved:
    """Where no model call is observed; what the app tells by itself is sent as ever."""

    def __enter__(self) -> None:
        enter(self, Said(observed=False))

    def __exit__(self, *_: object) -> None:
        leave(self)


class Job:
    """One piece of work without a request: a handler's call, a task of a queue.

    What is said around it holds in it; what it identifies does not hold for the next one.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _here.get()

    def __exit__(self, *_: object) -> None:
        before = self._before
        _here.set(_here.get()._replace(identified=before.identified, last_turn=before.last_turn))


def in_request() -> bool:
    """Whether the present code works on a request."""
    return _here.get().request is not None


def identified(word: Said) -> None:
    """Let a word hold for the rest of the request, or of the task, thread or script."""
    here = _here.get()
    if here.request is not None:
        here.request.identified = _after(word, here.request.identified)
    else:
        _here.set(here._replace(identified=_after(word, here.identified)))


def _after(word: Said, earlier: Said) -> Said:
    """Return a word completed by an earlier one; of another user that one says nothing."""
    is_another = None not in (word.user_id, earlier.user_id) and word.user_id != earlier.user_id
    return word if is_another else _within(word, earlier)


def carrying() -> Callable[[], AbstractContextManager[object]]:
    """Return what holds the present scope, in whichever place that is entered."""
    here = _here.get()
    return lambda: _Carried(here)


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
    """Be in a request: from outside nothing shines in, but that observation is off."""
    here = _here.get()
    around = here.contexts if here.request is request else _switching_off(here.contexts)
    _here.set(_Here(around, request, outside=here))


def _left(request: Request) -> None:
    """Be where the request was entered, if this is where it was."""
    here = _here.get()
    if here.request is request:
        _here.set(here.outside or _Here())
