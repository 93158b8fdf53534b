"""One request of the client, watched from its options to its answer.

Every call of every resource ends in `client.request`, so two methods see them all, and the answer
comes back through `post_parser`, which the SDK calls for models, for streams and for raw responses
alike. Source: openai 1.40 to 3.54, `_base_client.py`, `_models.py`, `_streaming.py`.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trubrics_instrument import _runtime
from trubrics_instrument._base.exit import end_at_exit
from trubrics_instrument._base.shield import shield, stopped
from trubrics_instrument._observing.call import ModelCall
from trubrics_instrument._observing.fetched import asked_elsewhere
from trubrics_instrument._observing.reader import Answer
from trubrics_instrument._observing.watched import WatchedCall, new_call
from trubrics_instrument.providers.openai._chat import ChatReader
from trubrics_instrument.providers.openai._completion import CompletionReader
from trubrics_instrument.providers.openai._fields import json_or_none, mapping
from trubrics_instrument.providers.openai._responses import CompactReader, ResponsesReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument._observing.reader import Asked, Reader

RESPONSES = ResponsesReader()
READERS: dict[str, Reader] = {
    "/chat/completions": ChatReader(),
    "/completions": CompletionReader(),
    "/responses": RESPONSES,
    "/responses/compact": CompactReader(),
}
# Where an answer that was not there at once is asked for, or called off.
_LATER = re.compile(r"get .*/responses/([^/]+)|post .*/responses/([^/]+)/cancel")
# An app that posts by itself may say more of the address than the SDK does.
_LONGER = re.compile("/.+?(" + "|".join(READERS) + ")")


class Request(WatchedCall):
    """One request, between the app and the SDK.

    Its answer comes in by one of three doors: by `parse`, on its way to the app's own parser; else
    by `returned`, as the SDK returns it; a raw response by `leave`, once the app lets go of it.

    One that asks for an answer to an earlier request begins nothing, and its failure ends nothing:
    the app may ask again.
    """

    # Told by its name, because a reload of this module makes another class.
    observes_openai = True

    def __init__(
        self,
        call: ModelCall,
        reader: Reader,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        stream: bool,
        asks: bool = True,
    ) -> None:
        options, args, kwargs = _own_options(args, kwargs)
        super().__init__(call, reader, args, kwargs)
        self._stream = stream
        self._asks = asks
        self._parsed = False
        self._raw: Any = None
        self._pid = 0
        self._parser: object = options.post_parser
        options.post_parser = self.parse

    def __deepcopy__(self, _: object) -> Request:
        """Return itself: a client may copy its options, and the call stays one."""
        return self

    def begin(self) -> None:
        """Tell the prompt."""
        if self._asks:
            super().begin()

    def fail(self, error: BaseException) -> None:
        """Tell that the request raised."""
        self._open_circle()
        if self._asks:
            super().fail(error)

    def returned(self, result: Any) -> Any:
        """Tell the answer, if the SDK has not handed it to `parse` by now."""
        self._open_circle()
        if not self._parsed:
            self._guarded(self._take_raw, result)
        return result

    def _open_circle(self) -> None:
        # The options hold our parser: only the garbage collector could free the two.
        self.args, self.kwargs = (), {}

    def parse(self, parsed: Any) -> Any:
        """Take the answer on its way, before the app's own parser may refuse it."""
        self._parsed = True
        parsed = self._guarded(self.take, parsed)
        return self._parser(parsed) if callable(self._parser) else parsed

    def _take_raw(self, result: Any) -> None:
        """Read a raw response whose body is in memory; one that is still to come is the app's.

        Which may have it parsed; what it has not by the time it lets go of it, it reads by itself.
        """
        raw = getattr(result, "http_response", result)
        if not self._stream and getattr(raw, "is_stream_consumed", False):
            self._call.read(json_or_none(raw.content))
        elif raw is not result:
            self._raw, self._pid = raw, os.getpid()
            result._trubrics_recording = self
            weakref.finalize(result, self.leave)
            end_at_exit(self)  # a finalizer may come after the sender there
        elif not self._stream:
            self._call.end(Answer(status="unread"))

    def leave(self) -> None:
        """Read a raw response that the app closes, lets go of, or has to the end of the process."""
        # A forked child lets go of what it has of its parent's responses, which go on there.
        if self._parsed or self._pid != os.getpid():
            return
        # A finaliser: nothing may be logged.
        with shield("reading an answer that the app let go of", quiet=True):
            content = _content_of(self._raw)
            if content:
                self._call.read(json_or_none(content), quiet=True)
            elif self._asks:
                self._call.end(Answer(status="unread"), arrived=_is_read(self._raw))


def _content_of(raw: Any) -> bytes:
    """Return a body that was read as a whole; empty if it was read in pieces, or not at all."""
    try:
        content: bytes = raw.content
    except Exception:  # httpx's ResponseNotRead, which this room does not import
        return b""
    return content


def _is_read(raw: Any) -> bool:
    """Whether the app has read a body by itself, as far as it wanted, and nothing broke it off."""
    return getattr(raw, "is_stream_consumed", False) and sys.exc_info()[1] is None


def watch(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
    """Return the request to watch, or None if it is not a question, or somebody else's to tell."""
    if not _runtime.observing():
        return None
    options = _options(args, kwargs)
    url = urlsplit(str(options.url))
    method, path = options.method.lower(), "/" + url.path.strip("/")
    reader = _reader_of(path, options) if method == "post" else None
    later = None if reader else _LATER.fullmatch(f"{method} {path}")
    if reader is None and later is None:
        return None
    if hasattr(getattr(options.post_parser, "__self__", None), "observes_openai"):
        return None
    body = {**mapping(options.json_data), **mapping(options.extra_json)}
    stream = body.get("stream") is True or kwargs.get("stream") is True
    host = url.netloc and url.hostname
    if reader is None:
        call = _fetching(client, later[1] or later[2], host) if later else None
        return Request(call, RESPONSES, args, kwargs, stream=stream, asks=False) if call else None

    def ask() -> Asked:
        provider = _provider(client, host)
        return reader.asked(body, stream=stream)._replace(provider=provider)

    new = new_call("openai", reader, ask)
    return Request(new, reader, args, kwargs, stream=stream) if new else None


def _fetching(client: Any, answer_id: str, host: str | None) -> ModelCall | None:
    """Return the call whose answer is asked for; None if that is told, or nobody's here."""
    now = _runtime.state()
    call: ModelCall | None = now.pending.get(answer_id)
    start = None if call else asked_elsewhere(answer_id)
    if start is None:
        return call
    asked = RESPONSES.asked({"background": True}, stream=False)
    asked = asked._replace(continues=True, fetched=answer_id, provider=_provider(client, host))
    return ModelCall(RESPONSES, asked, now.patches["openai"].observer, start)


def _reader_of(path: str, options: Any) -> Reader | None:
    """Return who reads a request: below another path it must look like a question, too."""
    reader = READERS.get(path)
    longer = None if reader else _LONGER.fullmatch(path)
    if longer is None:
        return reader
    asks = "model" in mapping(options.json_data) or "/deployments/" in path
    return READERS[longer[1]] if asks else None


def close(
    wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell the answer so far when the app closes a stream or a raw response, and close it."""
    with shield("closing a stream"):
        # A response may be closed while the stream that it was parsed into is still open.
        parsed: Any = getattr(stream, "_parsed_by_type", None) or {}
        for one in (stream, *parsed.values()):
            recording = getattr(getattr(one, "_raw_stream", one), "_trubrics_recording", None)
            if recording is not None:
                recording.leave()
    return wrapped(*args, **kwargs)


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


def _provider(client: Any, host_of_request: str | None) -> str | None:
    """Return who serves the model: "openai", "azure", else the name of the host."""
    try:
        if host_of_request:
            return _provider_of(client.__class__, host_of_request.encode())
        url: Any = getattr(client, "base_url", None)  # a mock of the method knows no client
        host = getattr(url, "raw_host", None)
        return _provider_of(client.__class__, _host_of(str(url)) if host is None else host)
    except Exception as error:
        stopped("reading the provider", error)
        return None


def _host_of(url: str) -> bytes:
    """Return the host of a plain text, which a client of the app's own may have for its address."""
    return (urlsplit(url).hostname or "").encode()


@lru_cache(maxsize=1_000)
def _provider_of(kind: type, host: bytes) -> str | None:
    if any(base.__name__ == "BaseAzureClient" for base in kind.__mro__):
        return "azure"
    name = host.decode(errors="backslashreplace")
    return "openai" if f".{name}".endswith(".openai.com") else name or None
