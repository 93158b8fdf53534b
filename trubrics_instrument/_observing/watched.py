"""One call of a method that asks a model: sync, async, whole and in pieces are one road here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.call import ModelCall
from trubrics_instrument._observing.reader import Answer
from trubrics_instrument._observing.stream import Recording, is_stream, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument._observing.reader import Asked, Reader


def new_call(patch: str, reader: Reader, ask: Callable[[], Asked]) -> ModelCall | None:
    """Return a call as the patch of this name observes it, or None if it is not to be told here.

    It may be switched off, or told by another observer of ours: a LangChain model run asks through
    the SDK. What is asked is read only where it is to be told.
    """
    if not _runtime.observing() or _runtime.observed_elsewhere():
        return None
    return ModelCall(reader, ask(), _runtime.state().patches[patch].observer)


class WatchedCall:
    """A call from its arguments to its answer, as `around` and `around_async` watch it.

    A stream is known by its shape: a generator, of which the app gets another one, or an object
    with its iterator in `_iterator`, which stays itself; both may be asynchronous. What has
    another shape is read as a whole answer, and so unread: for a stream of the SDK's own class,
    override `take`, and put `Pieces` or `AsyncPieces` around the iterator that it has inside.

    Attributes:
        args: What the method is called with.
        kwargs: The same for its keyword arguments.
    """

    def __init__(
        self, call: ModelCall, reader: Reader, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._call = call
        self._reader = reader

    def begin(self) -> None:
        """Tell the prompt."""
        self._call.begin()

    def fail(self, error: BaseException) -> None:
        """Tell that it raised."""
        with shield("reading a failure"):
            self._call.fail(error)

    def returned(self, result: Any) -> Any:
        """Tell the answer, and return what the app gets: a stream is recorded on its way."""
        return self._guarded(self.take, result)

    def take(self, result: Any) -> Any:
        """Read a result, and return what the app gets: if it raises, that is the result itself."""
        if is_stream(result):
            return recorded(result, self.recording())
        self._call.read(result)
        return result

    def recording(self) -> Recording:
        """Return a recording of a stream that begins: it ends the call when the stream ends."""
        return Recording(self._call, self._reader.gathering())

    def _guarded(self, take: Callable[[Any], Any], result: Any) -> Any:
        """Return what the app gets of a result, which is the result itself if reading it fails."""
        if self._call.closed:
            return result
        guard = shield("reading the answer")
        with guard:
            return take(result)
        if guard.failed:
            with shield("telling that an answer is unread"):
                self._call.end(Answer(status="unread"))
        return result
