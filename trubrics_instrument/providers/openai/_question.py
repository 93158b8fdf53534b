"""What is asked over a WebSocket, from where the app sends it until its answer is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.reader import Answer
from trubrics_instrument._observing.stream import Recording
from trubrics_instrument.providers.openai._fields import get, get_text

if TYPE_CHECKING:
    from trubrics_instrument._observing.call import ModelCall
    from trubrics_instrument._observing.reader import Gathering

MAX_AWAITED = 1_000


class Question:
    """One that is sent, or waits to be; without a recording, it is told to nobody.

    Attributes:
        lane: The lane of its answer.
        previous_id: The id of the answer that it goes on from.
        message: What the SDK sends for it, once that is known.
        error: Why it could not be sent; the SDK may try again.
        sent: Whether it is on its way, or was sent.
        sure: Whether the next answer in its lane is certainly its own.
        begun: Whether its answer has begun to come.
        answer_id: The id of its answer, once that has begun to come.
        model: The model that is asked.
        doubt: An error that ended its answer, or refused the next question.
        thread: Which thread is sending it.
    """

    __slots__ = (
        *("_call", "_recording"),
        *("answer_id", "begun", "doubt", "error", "lane", "message", "model", "previous_id"),
        *("sent", "sure", "thread"),
    )

    def __init__(self, event: Any, lane: str | None = None) -> None:
        self._call: ModelCall | None = None
        self._recording: Recording | None = None
        self.lane = get_text(event, "stream_id") or lane
        self.previous_id = get_text(event, "previous_response_id")
        self.message: object = None
        self.error: BaseException | None = None
        self.sent = False
        self.sure = True
        self.begun = False
        self.answer_id: str | None = None
        self.model: str | None = None
        self.doubt: Any = None
        self.thread = 0

    @property
    def place(self) -> object:
        """What it may be mixed up with, if two threads send there at once."""
        return self.lane

    def tell(self, call: ModelCall, gathering: Gathering) -> None:
        """Tell it, and its answer when that comes."""
        call.begin()
        self._call, self._recording = call, Recording(call, gathering)

    def begin(self, event: Any) -> None:
        """Read that its answer begins."""
        self.begun = True
        self.answer_id = get_text(get(event, "response"), "id")
        if self._call is not None and self.answer_id:
            self._call.known_as(self.answer_id)
        self.take(event)

    def take(self, event: Any) -> None:
        """Read an event of its answer."""
        if self._recording is not None and self.sure:
            self._recording.take(event)

    def finish(self) -> None:
        """Tell its answer: it has come to its end."""
        if self._recording is not None and self.sure:
            self._recording.finish()
        else:
            self.unread()

    def unread(self) -> None:
        """Tell that its answer cannot be told from others."""
        self.end(Answer(status="unread"))

    def end(self, answer: Answer) -> None:
        """Tell what came instead of an answer."""
        if self._call is not None:
            with shield("ending a question"):
                self._call.end(answer)

    def leave(self, *, quiet: bool = False) -> None:
        """Tell the answer so far."""
        if self._recording is not None:
            self._recording.leave(quiet=quiet)

    def fail(self, error: BaseException) -> None:
        """Tell the answer so far, and that it failed."""
        if self._recording is not None:
            self._recording.fail(error)


Q = TypeVar("Q", bound=Question)


def drop(questions: list[Q], question: Q) -> bool:
    """Take a question out; False if it is not there."""
    try:
        questions.remove(question)
    except ValueError:
        return False
    return True
