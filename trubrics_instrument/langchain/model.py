"""One run of a model: told as a call of its own, or counted in the turn of a root run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.reader import Answer, Choice, Usage
from trubrics_instrument.langchain import observed, stack
from trubrics_instrument.langchain.messages import field, first_text, text_in
from trubrics_instrument.langchain.origin import UNKNOWN, Origin
from trubrics_instrument.langchain.outcome import ModelAnswer
from trubrics_instrument.langchain.reader import ResultReader, sum_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from trubrics_instrument._observing.call import ModelCall
    from trubrics_instrument.langchain.turn import RunTurn

# Runs that want the next piece: the first one, of most. Every piece of every stream looks here.
awaiting: dict[Hashable, ModelRun] = {}
_NOTHING_READ: tuple[()] = ()


class ModelRun:
    """A run of a model from start to end, told by its `turn` or its `call`, or not at all.

    One that another model makes, to answer with what it says, is a part of that one: `within` it.
    """

    def __init__(
        self,
        key: Hashable,
        run_id: object,
        origin: Origin = UNKNOWN,
        *,
        turn: RunTurn | None = None,
        call: ModelCall | None = None,
        within: ModelRun | None = None,
    ) -> None:
        self.key = key
        self.turn = turn
        self._run_id = str(run_id)
        self._origin = origin
        self._call = call
        self._within = within
        self._inner: list[Usage] = []
        self._first_piece_s: float | None = None
        self._pieces: list[Any] = []
        self._pieces_id: str | None = None
        self._last: Any = None
        observed.opened(self.key)
        awaiting[self.key] = self

    def piece(self, token: Any, chunk: Any) -> None:
        """Take note that the answer has begun to come, and of what comes, if LangChain does not.

        It shows what came by a failure where the app streams a model, and nothing where a graph
        streams what a node asks for as a whole: there, each piece is kept. So it is where a model
        has failed before: its error may hold this one's stream in a circle, of which the garbage
        collector says that it goes before it ends the stream.
        """
        if chunk is not None and chunk is self._last:  # another handler has told of it
            return
        self._last = chunk
        if self._first_piece_s is None:
            self._first_piece_s = time.perf_counter()
            with shield("reading the first piece of an answer"):
                after_failure = self.turn is not None and self.turn.has_failed
                if not after_failure and stack.in_stream():
                    awaiting.pop(self.key, None)
                    return
                self._pieces_id = first_text([field(field(chunk, "message"), "id")])
        self._pieces.append(token)

    def used(self, usage: Usage) -> None:
        """Take note of what a model took that this one has asked, lest it does not tell it."""
        self._inner.append(usage)

    def ended(self, result: Any) -> None:
        """Take note of its answer."""
        self._close(result)

    def failed(self, error: BaseException, so_far: Any) -> None:
        """Take note of its failure, and of what had come by then."""
        self._close(so_far, error)

    def lost(self) -> None:
        """Take note that it was dropped, and will never end."""
        self._close(None, GeneratorExit())

    def forgotten(self) -> None:
        """Take note that its answer will not be read: there are too many runs."""
        self._close(_NOTHING_READ)

    def _close(self, result: Any, error: BaseException | None = None) -> None:
        observed.closed(self.key)
        awaiting.pop(self.key, None)
        answer, cached = (Answer(), False) if result is None else self._read(result)
        if self._within is not None:
            self._within.used(answer.usage)
        if self._inner and answer.usage == Usage():
            answer = answer._replace(usage=sum_of(self._inner))
        if error is not None and not answer.choices:
            answer = answer._replace(choices=self._so_far())
        if self._call is not None:
            self._tell(self._call, answer, error, cached=cached)
        if self.turn is not None:
            failed = error is not None and not answer.choices  # it has said nothing
            self.turn.model_ended(self.key, answer.usage, self._known(answer), failed=failed)

    def _read(self, result: Any) -> tuple[Answer, bool]:
        with shield("reading the answer"):
            return ResultReader(self._origin.framework).read(result)
        return Answer(status="unread"), False

    def _so_far(self) -> tuple[Choice, ...]:
        text = "".join(text_in(piece) or "" for piece in self._pieces)
        return (Choice(text=text, complete=False, id=self._pieces_id),) if text else ()

    def _tell(
        self, call: ModelCall, answer: Answer, error: BaseException | None, *, cached: bool
    ) -> None:
        if self._first_piece_s is not None:
            call.first_piece(self._first_piece_s)
            call.note({"stream": True})
        if cached:
            call.note({"cached": True})
        call.note({}, self._origin.model or answer.model or self._origin.kind)
        if error is not None:
            call.fail(error, answer)
        else:
            call.end(answer if answer.id else answer._replace(id=self._run_id))

    def _known(self, answer: Answer) -> ModelAnswer:
        choice = next(iter(answer.choices), Choice())
        return ModelAnswer(self._run_id, self._origin, choice, answer.model, self._first_piece_s)
