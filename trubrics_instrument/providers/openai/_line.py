"""What a WebSocket client asks, from where the app sends it until it goes over a socket."""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from trubrics_instrument.providers.openai._fields import get_text, json_or_none
from trubrics_instrument.providers.openai._question import MAX_AWAITED, drop
from trubrics_instrument.providers.openai._steering import STEERS, question_of

if TYPE_CHECKING:
    from trubrics_instrument.providers.openai._question import Question

_LINE = "_trubrics_line"
# The manager's is private to its class, so there is something before that.
_QUEUE = "_send_queue"
_ASKS = ("response.create", STEERS)


class Line:
    """The questions of a connection, and of the manager behind it, that are not sent yet.

    What both have is the SDK's queue of what is to be sent. A question stays known after it was
    told as failed, as long as the SDK may still send it: its answer is that to no other.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = weakref.ref(queue)
        self._unsent: list[Question] = []

    def put(self, question: Question) -> None:
        """Take note that a question waits to be sent; only the latest ones are waited for."""
        if question not in self._unsent:
            self._unsent.append(question)
            if len(self._unsent) > MAX_AWAITED:
                self._unsent.pop(0).leave()

    def taken(self, message: object) -> Question | None:
        """Return the question behind a message that is being sent."""
        question = next((one for one in self._unsent[:] if one.message is message), None)
        if question is None:
            question = _asked_by(self) or _unknown(message)
        if question is not None:
            question.message, question.error, question.sent = message, None, True
            drop(self._unsent, question)
        return question

    def settle(self) -> None:
        """Tell which of the questions that could not be sent will not be sent any more."""
        for question in self._unsent[:]:
            if question.error is not None:
                self.failed(question, question.error)

    def failed(self, question: Question, error: BaseException, *, told: bool = False) -> None:
        """Tell that a question was not sent, if the SDK does not keep it, or the app was told."""
        queued = self._keeps(question)
        question.error = None
        if not queued:
            drop(self._unsent, question)
        if told or not queued:
            question.fail(error)

    def lost(self, question: Question) -> None:
        """Tell a question as unread that was neither sent nor queued, as far as we see."""
        if not question.sent and not self._keeps(question):
            drop(self._unsent, question)
            question.unread()

    def leave(self, *, quiet: bool = False) -> None:
        """Tell the answers so far."""
        for question in self._unsent[:]:
            question.leave(quiet=quiet)

    def _keeps(self, question: Question) -> bool:
        """Whether the SDK is still to send a question: it waits, or is in a batch that is sent."""
        queue = self._queue()
        kept = [*getattr(queue, "_queue", ()), *(getattr(queue, "_pending", None) or ())]
        return any(item[0] is question.message for item in kept)

    def __del__(self) -> None:
        self.leave(quiet=True)


asking: ContextVar[tuple[Line, Question] | None] = ContextVar("trubrics_asking", default=None)


def line_of(connection: Any) -> Line:
    """Return what is not sent yet, of a connection or of a manager."""
    parts = attributes_of(connection)
    queue = next((name for name in parts if name.endswith(_QUEUE)), None)
    holder = parts[queue] if queue else connection
    line: Line = attributes_of(holder).setdefault(_LINE, Line(holder))
    return line


def line_of_queue(queue: Any) -> Line | None:
    """Return what is not sent yet, of whoever has this queue; None if nobody asked there."""
    line: Line | None = attributes_of(queue).get(_LINE)
    return line


def asked_in(event: Any) -> Any:
    """Return an event that asks, also where it is a message already; None if it does not."""
    if isinstance(event, (str, bytes, bytearray)):
        markers: Any = _ASKS if isinstance(event, str) else [kind.encode() for kind in _ASKS]
        if not any(marker in event for marker in markers):
            return None
        event = json_or_none(event)
    return event if get_text(event, "type") in _ASKS else None


def _asked_by(line: Line) -> Question | None:
    """Return the question that the app sends now, if its message is not known yet."""
    now = asking.get()
    if now is None or now[0] is not line or now[1].message is not None:
        return None
    return now[1]


def _unknown(message: Any) -> Question | None:
    """Return a place for a question that nobody saw the app ask."""
    event = asked_in(message)
    return None if event is None else question_of(event)


def attributes_of(value: Any) -> dict[str, Any]:
    """Return what an object of the SDK has, private fields too."""
    return cast("dict[str, Any]", vars(value))
