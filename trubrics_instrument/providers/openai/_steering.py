"""What the user says while an answer comes over a WebSocket, and the answer that follows of itself.

The server says whether it takes such input. The answer then ends, complete or not, and another one
begins that names it as the previous one, to all the input that was taken by then. Where the answer
waits for the app instead (for the result of a tool), what the app sends with that is answered.
Source: openai 3.57, `types/responses/response_steer_event.py` and beside it.
"""

from __future__ import annotations

from typing import Any

from trubrics_instrument._base.memory import Memory
from trubrics_instrument._observing.reader import Answer
from trubrics_instrument.providers.openai._fields import get, get_text
from trubrics_instrument.providers.openai._question import MAX_AWAITED, Question, drop

STEERS = "response.steer"
_ACCEPTED = f"{STEERS}.accepted"
_PENDING = f"{STEERS}.pending"
_FAILED = f"{STEERS}.failed"


class Steer(Question):
    """What steers an answer, named by `previous_id`; its lane is that answer's.

    Attributes:
        steer_id: What the server calls it, once it has taken it.
        pending: Whether it waits for what the app must send.
    """

    __slots__ = ("pending", "steer_id")

    def __init__(self, event: Any, lane: str | None = None) -> None:
        super().__init__(event, lane)
        self.steer_id: str | None = None
        self.pending = False

    @property
    def place(self) -> object:
        """The answer that it steers: it has no lane of its own."""
        return Steer, self.previous_id


def question_of(event: Any, lane: str | None = None) -> Question:
    """Return what is asked by an event that the app sends."""
    kind = Steer if get_text(event, "type") == STEERS else Question
    return kind(event, lane)


class Steering:
    """What steers the answers on one WebSocket, until the answers that follow begin.

    Like a `Wire`, it has no locks.
    """

    def __init__(self) -> None:
        self._open: list[Steer] = []
        self._steered: Memory[bool] = Memory(MAX_AWAITED)
        self._lost: Memory[bool] = Memory(MAX_AWAITED)

    @property
    def waits(self) -> bool:
        """Whether anything has no answer yet."""
        return bool(self._open)

    def send(self, steer: Steer) -> None:
        """Take note of what is being sent; only the latest is waited for."""
        if self._lost.get(steer.previous_id):
            steer.sure = False
        self._open.append(steer)
        if len(self._open) > MAX_AWAITED:
            self._open.pop(0).unread()

    def not_sent(self, steer: Steer, *, surely: bool) -> None:
        """Take note that sending it raised; if it may be sent all the same, nothing is sure."""
        if not surely:
            self._lost.put(steer.previous_id, value=True)
            for other in self._open[:]:
                if other.previous_id == steer.previous_id:
                    other.sure = False
        self.drop(steer)

    def drop(self, question: Question) -> bool:
        """Take something out; False if it is not there."""
        return isinstance(question, Steer) and drop(self._open, question)

    def unanswered(self, answer_id: str | None) -> Steer | None:
        """Return what steers an answer, if the server has not said what becomes of it."""
        return None if answer_id is None else self._find(None, answer_id)

    def read(self, kind: str | None, event: Any) -> bool:
        """Read what the server makes of it; False if an event is about something else."""
        if kind not in {_ACCEPTED, _PENDING, _FAILED}:
            return False
        about = get(event, "steer")
        steer_id, previous_id = get_text(about, "id"), get_text(about, "previous_response_id")
        if kind != _FAILED and previous_id:
            self._steered.put(previous_id, value=True)
        steer = self._find(steer_id, previous_id)
        if steer is None:
            return True
        if kind == _FAILED:
            drop(self._open, steer)
            code = get_text(get(event, "error"), "code")
            failed = Answer(status="error", error_type=code)
            steer.end(failed if steer.sure else Answer(status="unread"))
        else:
            steer.steer_id, steer.pending = steer_id, kind == _PENDING
        return True

    def answered(self, previous_id: str | None, question: Question | None) -> Question | None:
        """Return whose answer begins after another one: what steered that, or the next question.

        None if nobody saw who steered it. Of several things said, the last one has the answer.
        """
        if previous_id is None:
            return question
        asked: list[Question] = []
        waits = False
        for one in self._open[:]:
            if one.steer_id and one.previous_id == previous_id:
                drop(self._open, one)
                asked.append(one)
                waits = waits or one.pending
        goes_on = question is not None and question.previous_id == previous_id
        if not asked and not goes_on and self._steered.get(previous_id):
            return None
        if question is not None and (not asked or (goes_on and waits)):
            asked.append(question)
        for other in asked[:-1]:
            other.leave()
        return asked[-1] if asked else None

    def fail(self, error: BaseException) -> None:
        """Tell that no answer will come."""
        while self._open:
            self._open.pop(0).fail(error)

    def leave(self, *, quiet: bool = False) -> None:
        """Tell that nobody waits for an answer any more."""
        while self._open:
            self._open.pop(0).leave(quiet=quiet)

    def _find(self, steer_id: str | None, previous_id: str | None) -> Steer | None:
        """Return what an event is about: it is named, or else the first that has no name yet."""
        steers = [one for one in self._open[:] if one.previous_id == previous_id]
        named = (one for one in steers if steer_id and one.steer_id == steer_id)
        nameless = (one for one in steers if one.steer_id is None)
        return next(named, None) or next(nameless, None)
