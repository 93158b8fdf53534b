"""`patch_openai()`: every question that goes through the OpenAI client.

Every call of every resource ends in `client.request`, so two methods see them all, and the answer
comes back through `post_parser`, which the SDK calls for models, for streams and for raw responses
alike. Source: openai 1.40 to 3.54, `_base_client.py`, `_models.py`, `_streaming.py`.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from trubrics_instrument import _runtime
from trubrics_instrument._call import ModelCall, Observer
from trubrics_instrument._patch import Patch, PatchPoint, around, around_async
from trubrics_instrument._reader import Answer
from trubrics_instrument._shield import shield
from trubrics_instrument._stream import AsyncPieces, Pieces, Recording
from trubrics_instrument.providers.openai._chat import ChatReader
from trubrics_instrument.providers.openai._completion import CompletionReader
from trubrics_instrument.providers.openai._fields import get, mapping
from trubrics_instrument.providers.openai._responses import ResponsesReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trubrics_instrument._identity import Source
    from trubrics_instrument._reader import Reader

_READERS: dict[str, Reader] = {
    "/chat/completions": ChatReader(),
    "/completions": CompletionReader(),
    "/responses": ResponsesReader(),
}


def patch_openai(
    *,
    user_id: Source = None,
    thread_id: Source = None,
    properties: Mapping[str, object] | None = None,
    api_key: str | None = None,
    host: str | None = None,
) -> Patch:
    """Observe every question that goes through the OpenAI client, in the whole process.

    It works before and after `import openai`, for clients that exist and for those to come. Called
    again it changes what it was told, and still observes each question once.

    Args:
        user_id: Who asks, or a callable that knows it at the time of a call.
        thread_id: The conversation, or a callable that knows it.
        properties: Your own properties of every event: flat, JSON scalars.
        api_key: Another project's key, instead of `configure()`'s.
        host: Another ingestion API, instead of `configure()`'s.

    Returns:
        The patch: `undo()` takes it off, and so does leaving it as a context manager.

    Raises:
        ValueError: An impossible `api_key` or `host`.
    """
    target = _runtime.destination(api_key=api_key, host=host)
    _runtime.prepare_sender(target)
    observer = Observer(user_id, thread_id, None, dict(properties or {}), target)
    patch = cast("Patch", _runtime.state().patches.setdefault("openai", Patch(_POINTS)))
    patch.put_on(observer)
    return patch


def unpatch_openai() -> None:
    """Take the patch off; nothing happens if it is not on."""
    patch = _runtime.state().patches.get("openai")
    if patch is not None:
        patch.undo()


class _Request:
    """One request of a client, watched from its options to its answer."""

    def __init__(
        self,
        call: ModelCall,
        reader: Reader,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        stream: bool,
    ) -> None:
        self._call = call
        self._reader = reader
        self._stream = stream
        self._options, self.args, self.kwargs = _own_options(args, kwargs)
        self._parser: object = self._options.post_parser
        self._options.post_parser = self.parse

    def begin(self) -> None:
        """Tell the prompt."""
        self._call.begin()

    def fail(self, error: BaseException) -> None:
        """Tell that the request raised."""
        with shield("reading a failure"):
            self._call.fail(error)

    def returned(self, result: Any) -> None:
        """Tell the answer, if the SDK has not handed it to `parse` by now."""
        self._read(self._take_raw, result)

    def parse(self, parsed: Any) -> Any:
        """Take the answer on its way, before the app's own parser may refuse it."""
        self._read(self._take, parsed)
        return self._parser(parsed) if callable(self._parser) else parsed

    def _read(self, take: Callable[[Any], None], result: Any) -> None:
        if self._call.closed:
            return
        guard = shield("reading the answer")
        with guard:
            take(result)
        if guard.failed:
            with shield("telling that an answer is unread"):
                self._call.end(Answer(status="unread"))

    def _take(self, parsed: Any) -> None:
        if hasattr(parsed, "_iterator"):
            self._record(parsed)
        elif not isinstance(parsed, (str, bytes)) and not hasattr(parsed, "iter_bytes"):
            self._call.read(parsed)

    def _record(self, stream: Any) -> None:
        recording = Recording(self._call, self._reader.gathering())
        pieces = AsyncPieces if hasattr(stream._iterator, "__anext__") else Pieces
        stream._iterator = pieces(stream._iterator, recording)
        stream._trubrics_recording = recording

    def _take_raw(self, result: Any) -> None:
        """Read a raw response whose body is in memory; one that is still to come is the app's."""
        if self._stream:
            return
        raw = getattr(result, "http_response", result)
        if getattr(raw, "is_stream_consumed", False):
            self._call.read(json.loads(raw.content))
        elif raw is result:
            self._call.end(Answer(status="unread"))


def _watch(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Request | None:
    """Return the request to watch, or None if it is not a question, or somebody else's to tell."""
    state = _runtime.state()
    if not _runtime.observing():
        return None
    options = _options(args, kwargs)
    reader = _READERS.get(urlsplit(str(options.url)).path.rstrip("/"))
    if reader is None or options.method.lower() != "post":
        return None
    if isinstance(getattr(options.post_parser, "__self__", None), _Request):
        return None
    if any(observes() for observes in state.observers.values()):
        return None
    body = {**mapping(options.json_data), **mapping(options.extra_json)}
    stream = body.get("stream") is True
    asked = reader.asked(body, stream=stream)._replace(provider=_provider(client))
    call = ModelCall(reader, asked, state.patches["openai"].observer)
    return _Request(call, reader, args, kwargs, stream=stream)


def _close(
    wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell a stream's answer so far when the app closes it, and close it."""
    with shield("closing a stream"):
        recording = getattr(getattr(stream, "_raw_stream", stream), "_trubrics_recording", None)
        if recording is not None:
            recording.leave()
    return wrapped(*args, **kwargs)


# The helpers of `.stream()` close the response behind the back of the stream that they read.
_POINTS = (
    PatchPoint("openai", "OpenAI.request", around(_watch)),
    PatchPoint("openai", "AsyncOpenAI.request", around_async(_watch)),
    PatchPoint("openai", "Stream.close", _close),
    PatchPoint("openai", "AsyncStream.close", _close),
    PatchPoint("openai.lib.streaming.chat", "ChatCompletionStream.close", _close),
    PatchPoint("openai.lib.streaming.chat", "AsyncChatCompletionStream.close", _close),
    PatchPoint("openai.lib.streaming.responses", "ResponseStream.close", _close),
    PatchPoint("openai.lib.streaming.responses", "AsyncResponseStream.close", _close),
)


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs["options"] if "options" in kwargs else args[1]


def _own_options(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return a copy of the request's options, and the arguments with the copy in its place."""
    options = copy.copy(_options(args, kwargs))
    if "options" in kwargs:
        return options, args, {**kwargs, "options": options}
    return options, (args[0], options, *args[2:]), kwargs


def _provider(client: Any) -> str | None:
    """Return who serves the model: "openai", "azure", else the name of the host."""
    if any(kind.__name__ == "BaseAzureClient" for kind in type(client).__mro__):
        return "azure"
    name = urlsplit(str(get(client, "base_url"))).hostname
    return "openai" if name and name.endswith("openai.com") else name
