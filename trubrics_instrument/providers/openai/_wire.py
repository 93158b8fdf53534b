"""What goes over one WebSocket: which answer belongs to which question.

In a lane (`stream_id`) answers come in the order in which the questions were sent, each from its
`response.created` to its end. So what counts is what is truly sent and truly received, by whichever
method of the SDK: both are watched at the socket. Where the order is not known, an answer is told
as `unread`, and never as that to another question.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from trubrics_instrument._base.shield import shield
from trubrics_instrument.providers.openai._fields import get, get_text, json_or_none
from trubrics_instrument.providers.openai._question import MAX_AWAITED, drop
from trubrics_instrument.providers.openai._responses import ENDS
from trubrics_instrument.providers.openai._steering import Steer, Steering

if TYPE_CHECKING:
    from trubrics_instrument.providers.openai._question import Question


class Wire:
    """One WebSocket: the questions that were sent over it, in their order, until they are answered.

    Another thread may ask while this one reads, and one that is never closed is finalised wherever
    the garbage collector runs: there are no locks, each step is one atomic operation of a list.
    Which is why the order of the steps counts, in `send` and in `not_sent`.
    """

    def __init__(self) -> None:
        self._awaited: list[Question] = []
        self._going: list[Question] = []
        self._steering = Steering()
        self._lost: set[str | None] = set()

    def send(self, question: Question) -> None:
        """Take note of a question that is being sent."""
        question.thread = threading.get_ident()
        # Who comes second to `_going` sees the first there, or else the first is sent, and awaited
        # before this one. And who comes after a cancelled one sees it there, or else its lane lost.
        self._going.append(question)
        for other in self._going[:]:
            if other.place == question.place and other.thread != question.thread:
                other.sure = question.sure = False
        if isinstance(question, Steer):
            self._steering.send(question)
            return
        if len(self._awaited) >= MAX_AWAITED:
            self._lose(question.lane)
        if self._is_lost(question.lane):
            question.unread()
        else:
            self._awaited.append(question)

    def sent(self, question: Question) -> None:
        """Take note that it was sent."""
        drop(self._going, question)

    def not_sent(self, question: Question, error: BaseException) -> None:
        """Take note that sending it raised.

        If that was cancelled, or if another one's answer may have been taken for its own by now,
        nobody knows whose answers come after it; those to what was sent before it come first.
        """
        question.sent = False
        surely = question.sure and isinstance(error, Exception)
        if isinstance(question, Steer):
            self._steering.not_sent(question, surely=surely)
            drop(self._going, question)
            return
        if not surely:
            self._lose(question.lane)
            for other in self._behind(question):
                drop(self._awaited, other)
                other.unread()
        drop(self._awaited, question)
        drop(self._going, question)

    def receive(self, message: Any) -> None:
        """Read what was received, on its way to the app."""
        if (self._awaited or self._steering.waits) and isinstance(message, (str, bytes)):
            with shield("reading what is received"):
                self._read(json_or_none(message))

    def break_off(self, error: BaseException) -> None:
        """Tell the answers so far if the connection is closed: no others will come over it."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "ConnectionClosedOK" in kinds:
            self.leave()
        elif "ConnectionClosed" in kinds:
            while self._awaited:
                self._awaited.pop(0).fail(error)
            self._steering.fail(error)

    def leave(self, *, quiet: bool = False) -> None:
        """Tell the answers so far."""
        while self._awaited:
            self._awaited.pop(0).leave(quiet=quiet)
        self._steering.leave(quiet=quiet)

    def model_of(self, answer_id: str | None) -> str | None:
        """Return the model that was asked for an answer which is coming."""
        coming = (one for one in self._awaited[:] if one.begun and one.answer_id == answer_id)
        return next((one.model for one in coming), None)

    def __del__(self) -> None:
        self.leave(quiet=True)

    def _read(self, event: Any) -> None:
        lane, kind = get_text(event, "stream_id"), get_text(event, "type")
        if self._steering.read(kind, event):
            return
        question, after = self._next_two(lane)
        if kind == "response.created":
            self._begin(question, event, lane)
        elif question is None:
            return
        elif kind == "error":
            refused = after or self._steering.unanswered(question.answer_id)
            if question.begun and (refused is not None or self._is_lost(lane)):
                question.doubt = event  # what comes next shows which of the two it ended
            else:
                self._end(question, event)
        elif question.begun:
            self._go_on(question, after, event, ends=kind in ENDS)

    def _begin(self, question: Question | None, event: Any, lane: str | None) -> None:
        """Read that an answer begins: to what steered the one before, or to the next question."""
        if question is not None and question.begun:
            if question.doubt is not None:
                self._end(question, question.doubt)
            else:
                drop(self._awaited, question)
                question.leave()
            question, _ = self._next_two(lane)
        previous_id = get_text(get(event, "response"), "previous_response_id")
        question = self._steering.answered(previous_id, question)
        if isinstance(question, Steer):
            question.lane = lane
            self._awaited.insert(0, question)
        if question is not None:
            question.begin(event)

    def _go_on(self, question: Question, after: Question | None, event: Any, *, ends: bool) -> None:
        if question.doubt is not None:
            refused = self._steering.unanswered(question.answer_id) or after
            if refused is not None:
                self._end(refused, question.doubt)
        question.doubt = None
        if ends:
            self._end(question, event)
        else:
            question.take(event)

    def _end(self, question: Question, event: Any) -> None:
        question.take(event)
        if drop(self._awaited, question) or self._steering.drop(question):
            question.finish()

    def _lose(self, lane: str | None) -> None:
        """Take note that the order is not known any more: in a lane, or in too many to note."""
        if len(self._lost) < MAX_AWAITED:
            self._lost.add(lane)

    def _is_lost(self, lane: str | None) -> bool:
        return lane in self._lost or len(self._lost) >= MAX_AWAITED

    def _behind(self, question: Question) -> list[Question]:
        """Return what waits in a question's lane after it; all of that, if it was answered."""
        in_lane = [one for one in self._awaited[:] if one.lane == question.lane]
        return in_lane[in_lane.index(question) + 1 :] if question in in_lane else in_lane

    def _next_two(self, lane: str | None) -> tuple[Question | None, Question | None]:
        """Return the question that is answered next in a lane, and the one after it."""
        in_lane = (one for one in self._awaited[:] if one.lane == lane)
        return next(in_lane, None), next(in_lane, None)
