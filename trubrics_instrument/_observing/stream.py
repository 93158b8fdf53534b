"""An answer that comes in pieces: handed on one by one, and told when it ends."""

from __future__ import annotations

import os
from functools import partial
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, cast

from trubrics_instrument._base.exit import end_at_exit
from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.reader import Answer

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Generator,
        Iterator,
        Mapping,
    )

    from trubrics_instrument._observing.call import ModelCall
    from trubrics_instrument._observing.reader import Gathering


class Recording:
    """What is known of one streamed answer; it ends its call when the stream ends."""

    __slots__ = ("__weakref__", "_add", "_broken", "_call", "_gathering", "_last_s", "_pid")

    def __init__(self, call: ModelCall, gathering: Gathering) -> None:
        self._call = call
        self._gathering = call.gathered(gathering)
        self._broken = False
        self._add: Callable[[object], bool] = self._add_first
        self._last_s: float | None = None
        self._pid = os.getpid()
        end_at_exit(self)

    def take(self, piece: object) -> None:
        """Read one piece on its way to the app; after a fault, no further one."""
        self._last_s = perf_counter()
        # The shield is entered for a fault only: this runs for every word of every answer.
        try:
            if self._add(piece):
                self._whole()
        except Exception:
            self._broken, self._add = True, _look_away
            with shield("reading a piece of a stream"):
                raise

    def _add_first(self, piece: object) -> bool:
        if self._gathering.speaks(piece):
            self._call.first_piece()
            self._add = self._gathering.add
        return self._gathering.add(piece)

    def _whole(self) -> None:
        """Tell the answer, or what the next call must know of it: many an app leaves here.

        The stream it leaves ends when the garbage collector comes by, and the app may long have
        gone on with the conversation.
        """
        if self._gathering.over():
            self._call.end(self._answer(ended=True))
            return
        with shield("settling a stream"):
            self._call.over()
            if not self._call.settled:  # some hosts end every piece
                self._call.settle(self._answer(ended=True))

    def finish(self) -> None:
        """Tell the answer: the stream was read to its end."""
        with shield("ending a stream"):
            self._call.end(self._answer(ended=True))

    def leave(self, *, quiet: bool = False) -> None:
        """Tell the answer so far: the stream was closed or dropped on the way.

        It ended with its last piece: the garbage collector may find it minutes later.
        """
        # A forked child drops what it has of its parent's streams, which go on there.
        if self._call.closed or self._pid != os.getpid():
            return
        with shield("ending a stream that was left", quiet=quiet):
            self._call.end(self._answer(ended=False), last_s=self._last_s)

    def fail(self, error: BaseException) -> None:
        """Tell the answer so far, and that reading it raised."""
        with shield("ending a stream that failed"):
            answer = self._answer(ended=False)
            if not (answer.pending and self._call.wait(answer)):
                self._call.fail(error, answer)

    def _answer(self, *, ended: bool) -> Answer:
        """Return the answer so far, still pending only if the app can come back for the rest."""
        if not self._broken:
            with shield("reading a stream", quiet=True):
                answer = self._gathering.answer(ended=ended)
                return answer._replace(pending=answer.pending and self._call.resumable)
            self._broken, self._add = True, _look_away
        return Answer(status="unread")


def _look_away(_: object) -> bool:
    """Read nothing more of a stream."""
    return False


def _is_read(inner: object) -> bool:
    """Whether somebody else reads a stream right now: who reads besides is refused, and no more."""
    return getattr(inner, "gi_running", False) or getattr(inner, "ag_running", False)


class _Recorded:
    """What lies around the iterator of a stream, with a recording beside it.

    A class and no generator: an app may take the first piece with `next()` and loop over the rest.
    An abandoned one is finalised wherever the garbage collector happens to run, where nothing may
    wait for a lock, and nothing may be logged.
    """

    def __init__(self, inner: Any, recording: Recording, following: Callable[[], Any]) -> None:
        self._inner = inner
        self._recording = recording
        self._next = following

    def __getattr__(self, name: str) -> Any:
        # An SDK may close the iterator itself.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        if "_recording" in self.__dict__:
            self._recording.leave(quiet=True)

    def _over(self, error: BaseException) -> None:
        """Tell what the next piece raised: that there is none, or a failure."""
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            self._recording.finish()
        elif not _is_read(self._inner):
            self._recording.fail(error)


class Pieces(_Recorded):
    """The iterator of a stream."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        super().__init__(inner, recording, inner.__next__)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            piece = self._next()
        except BaseException as error:
            self._over(error)
            raise
        self._recording.take(piece)
        return piece


class AsyncPieces(_Recorded):
    """The same for an asynchronous stream."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        super().__init__(inner, recording, inner.__anext__)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            piece = await self._next()
        except BaseException as error:
            self._over(error)
            raise
        self._recording.take(piece)
        return piece


class _Steps(Pieces):
    """The pieces of a generator, which can be closed, and be given something, between two."""

    def send(self, value: Any) -> Any:
        """Take the piece that comes of a value that is sent in."""
        return self._by(partial(self._inner.send, value))

    def throw(self, *error: Any) -> Any:
        """Take the piece that comes of an exception that is thrown in."""
        return self._by(partial(self._inner.throw, *error))

    def close(self) -> None:
        """Close it, and tell the answer so far."""
        self._inner.close()
        self._recording.leave()

    def _by(self, following: Callable[[], Any]) -> Any:
        self._next = following
        try:
            return next(self)
        finally:
            self._next = self._inner.__next__


def _generator(steps: Any) -> Generator[Any, Any, Any]:
    return cast("Any", (yield from steps))  # which hands on whatever is sent and thrown


async def _async_generator(
    inner: AsyncGenerator[Any, Any], pieces: AsyncPieces, recording: Recording
) -> AsyncGenerator[Any, None]:
    try:
        async for piece in pieces:
            yield piece
    finally:
        await inner.aclose()
        recording.leave()


def is_stream(result: object) -> bool:
    """Whether a result comes in pieces: it is a generator, or has its iterator inside."""
    # Where it has its fields: a model is slow to say what it has not.
    inside = getattr(result, "__dict__", _NO_FIELDS).get(_INSIDE)
    if inside is None:
        return isinstance(result, (GeneratorType, AsyncGeneratorType))
    return hasattr(inside, "__next__") or hasattr(inside, "__anext__")


def recorded(stream: Any, recording: Recording) -> Any:
    """Return what the app gets of a stream: the same object, where its iterator lies inside.

    Else another generator, which hands on whatever the app does with it.
    """
    if _INSIDE not in getattr(stream, "__dict__", _NO_FIELDS):
        return _like(stream, recording)
    pieces = AsyncPieces if hasattr(stream._iterator, "__anext__") else Pieces
    stream._iterator = pieces(stream._iterator, recording)
    stream._trubrics_recording = recording
    return stream


def _like(generator: Any, recording: Recording) -> Any:
    """Return a generator of the same kind and name."""
    new: Any
    if hasattr(generator, "__anext__"):
        new = _async_generator(generator, AsyncPieces(generator, recording), recording)
    else:
        new = _generator(_Steps(generator, recording))
    new.__name__, new.__qualname__ = generator.__name__, generator.__qualname__
    return new


# Of each stream of the SDKs that one generator makes: OpenAI's, Anthropic's, Groq's.
_INSIDE = "_iterator"
_NO_FIELDS: Mapping[str, object] = {}
