"""Responses over a WebSocket: who asks is known where the app sends, and the rest at the socket.

What is sent may go through the connection, through its manager (which queues it until it connects),
or through a lane of a session; the SDK may queue it, fail to send it, and send it again over
another socket. Source: openai 2.54 to 3.57, `_send_queue.py`, `_websocket_connection.py`,
`resources/responses/responses.py`, `lib/responses_websocket/_session.py`.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from trubrics_instrument._base.shield import shield
from trubrics_instrument._base.wrapper import around, around_async, stand_in
from trubrics_instrument._observing.methods import PatchPoint
from trubrics_instrument._observing.watched import new_call
from trubrics_instrument.providers.openai._fields import get_text, mapping
from trubrics_instrument.providers.openai._line import (
    Line,
    asked_in,
    asking,
    attributes_of,
    line_of,
    line_of_queue,
)
from trubrics_instrument.providers.openai._request import RESPONSES
from trubrics_instrument.providers.openai._steering import question_of
from trubrics_instrument.providers.openai._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trubrics_instrument._base.wrapper import Wrapper
    from trubrics_instrument._observing.reader import Asked
    from trubrics_instrument.providers.openai._question import Question

_WIRE = "_trubrics_wire"
_NOT_SENT = ("NotGiven", "Omit")  # the kinds of the SDK's marks of a field that is left out


class _Watched:
    """A call whose arguments stay as they are, and of which nothing is noted, unless one says."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs

    def begin(self) -> None:
        """Take note that it is called now."""

    def fail(self, error: BaseException) -> None:
        """Take note that it raised."""

    def returned(self, result: Any) -> Any:
        """Take note of what it returned."""
        return result


class _Asking(_Watched):
    """The app sends a question, by whichever method."""

    def __init__(
        self, sender: Any, event: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(args, kwargs)
        self._sender = sender
        self._event = event

    def begin(self) -> None:
        """Tell the prompt; one that cannot be read keeps its place before the next one."""
        connection = _connection_of(self._sender)
        self._line = line_of(connection)
        # A lane of a session names itself; the event need not.
        lane = get_text(attributes_of(self._sender).get("_state"), "stream_id")
        self._question = question_of(self._event, lane)
        with shield("reading what is sent"):
            _tell(self._question, self._event, attributes_of(connection).get(_WIRE))
        if "_connection" in attributes_of(connection):
            with shield("following a connection"):
                _follow(connection)
        self._before = asking.get()
        asking.set((self._line, self._question))

    def fail(self, error: BaseException) -> None:
        """Tell that it was not sent, unless it was, and what failed was another's."""
        asking.set(self._before)
        with shield("reading a failure"):
            if not self._question.sent:
                self._line.failed(self._question, error, told=True)

    def returned(self, result: Any) -> Any:
        """Take note that it is on its way, or queued."""
        asking.set(self._before)
        with shield("reading what was sent"):
            self._line.lost(self._question)
        return result


class _Flushing(_Watched):
    """The SDK sends what it has queued, over a connection that may have a new socket."""

    def __init__(self, connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(args, kwargs)
        self._connection = connection

    def begin(self) -> None:
        """Watch the socket before anything is sent over it."""
        _follow(self._connection)

    def fail(self, error: BaseException) -> None:  # noqa: ARG002 - the protocol's
        """Tell what is lost: whatever could be sent of it, is."""
        self.returned(None)

    def returned(self, result: Any) -> Any:
        """Tell what is lost, also where the SDK keeps quiet about it."""
        with shield("reading what was sent"):
            line_of(self._connection).settle()
        return result


class _Sent(_Watched):
    """A question goes over a socket."""

    def __init__(self, line: Line, wire: Wire, question: Question, *call: Any) -> None:
        super().__init__(*call)
        self._line = line
        self._wire = wire
        self._question = question

    def begin(self) -> None:
        """Wait for its answer, which may come before the call returns."""
        self._wire.send(self._question)

    def fail(self, error: BaseException) -> None:
        """Wait no longer, unless the SDK sends it again."""
        with shield("reading a failure"):
            self._wire.not_sent(self._question, error)
            self._question.error = error
            self._line.put(self._question)

    def returned(self, result: Any) -> Any:
        """Take note that it was sent."""
        self._wire.sent(self._question)
        return result


class _Received(_Watched):
    """A socket is read."""

    def __init__(self, wire: Wire, *call: Any) -> None:
        super().__init__(*call)
        self._wire = wire

    def fail(self, error: BaseException) -> None:
        """Tell the answers so far, if the connection is closed."""
        with shield("reading a failure"):
            self._wire.break_off(error)

    def returned(self, result: Any) -> Any:
        """Read what was received."""
        self._wire.receive(result)
        return result


def ask(sender: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Asking | None:
    """Watch the app send something, which asks or not."""
    event = asked_in(next(iter((*args, *kwargs.values())), None))
    return None if event is None else _Asking(sender, event, args, kwargs)


def enqueue(queue: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take note of the message that is queued for the question that the app sends now."""
    line, question = asking.get() or (None, None)
    if line is None or question is None or line is not line_of_queue(queue):
        return
    question.message = args[0] if args else kwargs.get("data")
    line.put(question)


def flush(connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Flushing:
    """Watch the SDK send what it has queued."""
    return _Flushing(connection, args, kwargs)


def close(
    wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Tell the answers so far when the app closes the connection, and close it."""
    with shield("closing a connection"):
        wire = attributes_of(connection).get(_WIRE)
        if wire is not None:
            wire.leave()
        line_of(connection).leave()
    return wrapped(*args, **kwargs)


def _follow(connection: Any) -> None:
    """Watch the socket of a connection, if it is a new one."""
    known, socket = attributes_of(connection), connection._connection
    wire = known.get(_WIRE)
    if wire is not None and attributes_of(socket).get(_WIRE) is wire:
        return
    known[_WIRE] = attributes_of(socket)[_WIRE] = wire = Wire()
    line = line_of(connection)

    def send(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Sent | None:
        question = line.taken(args[0] if args else kwargs.get("message"))
        return None if question is None else _Sent(line, wire, question, args, kwargs)

    def receive(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Received:
        return _Received(wire, args, kwargs)

    for name, watch in (("send", send), ("recv", receive)):
        method = getattr(socket, name, None)
        if method is not None:  # a stand-in of a test's may do one of the two
            wrap = around_async if inspect.iscoroutinefunction(method) else around
            setattr(socket, name, stand_in(method, wrap(watch)))


def _tell(question: Question, event: Any, wire: Wire | None) -> None:
    call = new_call("openai", RESPONSES, partial(_asked, question, event, wire))
    if call is not None:
        question.tell(call, RESPONSES.gathering())


def _asked(question: Question, event: Any, wire: Wire | None) -> Asked:
    """Return what is asked, and note the model of the question."""
    # An event of the SDK's is read as it is: to have it made a dict may warn the app once more.
    body = mapping(event) or attributes_of(event)
    said = {name: value for name, value in body.items() if type(value).__name__ not in _NOT_SENT}
    asked = RESPONSES.asked(said, stream=True)
    if asked.model is None and wire is not None:
        asked = asked._replace(model=wire.model_of(asked.previous_id))
    question.model = asked.model
    return asked


def _connection_of(sender: Any) -> Any:
    """Return the connection behind a sender: a manager, a lane, or itself."""
    return getattr(attributes_of(sender).get("_session"), "connection", sender)


def _points() -> Iterator[PatchPoint]:
    manager = "ResponsesConnectionManager"
    for kind, wrap in (("", around), ("Async", around_async)):
        methods: dict[str, Wrapper] = {
            f"{kind}ResponsesConnection.send": wrap(ask),
            f"{kind}ResponsesConnection.send_raw": wrap(ask),
            f"{kind}ResponsesConnection._flush_send_queue": wrap(flush),
            f"{kind}ResponsesConnection.close": close,
            f"{kind}{manager}.send": around(ask),
        }
        for module in ("responses.responses", "beta.responses.responses"):
            for path, wrapper in methods.items():
                yield PatchPoint(f"openai.resources.{module}", path, wrapper, optional=True)
        lane = f"{kind}ResponsesWebSocketLane.send"
        yield PatchPoint("openai.lib.responses_websocket", lane, wrap(ask), optional=True)
    yield PatchPoint("openai._send_queue", "SendQueue.enqueue", around(enqueue), optional=True)


POINTS = tuple(_points())
