"""What one call of a model tells: its events, and what they have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trubrics_instrument import _events, _runtime
from trubrics_instrument._base.uuids import random_uuid
from trubrics_instrument._events import Event
from trubrics_instrument._observing.observer import common
from trubrics_instrument._observing.reader import Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument._observing.conversation import Conversation
    from trubrics_instrument._observing.observer import Observer, Start
    from trubrics_instrument._observing.reader import Answer, AnswerReader, Asked, ToolUse

_NO_CHOICE = Choice()


class Telling:
    """Makes the events of one call, and hands them to the sender."""

    def __init__(
        self,
        reader: AnswerReader,
        asked: Asked,
        observer: Observer,
        start: Start,
        conversation: Conversation,
    ) -> None:
        said = start.said
        self._reader = reader
        self._observer = observer
        self._start = start
        self._named_assistant = said.assistant_id or observer.assistant_id
        self._assistant_id = self._named_assistant or asked.model
        self._generation_id = said.generation_id
        self._text = said.prompt or asked.text
        self._attachments = asked.attachments
        self._first_piece_s: float | None = None
        self._over: tuple[float, float] | None = None
        self.belong(asked, conversation)

    def belong(self, asked: Asked, conversation: Conversation) -> None:
        """Tell what is still to come as a part of this conversation, where this is asked."""
        self._conversation = conversation
        self._turn = conversation.turn
        self._who = conversation.who
        said = self._start.said
        self._common = common(self._reader, asked, self._observer, said, conversation.who)

    def note(self, properties: Mapping[str, object], assistant_id: str | None = None) -> None:
        """Add properties to the events still to come, and name the assistant that tells them."""
        self._common.update(properties)
        self._assistant_id = self._named_assistant or assistant_id or self._assistant_id

    def first_piece(self, clock_s: float | None = None) -> None:
        """Note that the answer has begun to come, now or at that moment of `perf_counter()`."""
        if self._first_piece_s is None:
            self._first_piece_s = time.perf_counter() if clock_s is None else clock_s

    def over(self) -> None:
        """Note that the call is over now, though it may be told later."""
        self._over = _moment()

    def goes_on(self) -> None:
        """Note that what seemed to be its end was not."""
        self._over = None

    def prompt(self) -> None:
        """Tell what was asked."""
        own = {"attachments": self._attachments}
        self._emit(_events.PROMPT, self._start.time_s, text=self._text, properties=own)

    def tool_call(
        self, time_s: float, properties: Mapping[str, object], assistant_id: str | None = None
    ) -> None:
        """Tell that a tool is called, as an act of this assistant."""
        assistant_id = self._named_assistant or assistant_id or self._assistant_id
        self._emit(_events.TOOL_CALL, time_s, properties=properties, assistant_id=assistant_id)

    def answer(self, answer: Answer, last_s: float | None = None) -> None:
        """Tell what came back: words, calls of tools, or nothing at all.

        It ended now, or at that moment of `perf_counter()`.
        """
        # The app need not name a model: a stored prompt has its own.
        self._assistant_id = self._assistant_id or answer.model
        now_s, counted = self._counted(answer, last_s)
        for index, choice in enumerate(answer.choices or (_NO_CHOICE,)):
            if choice.text or choice.attachments or not choice.tool_uses:
                self._generation(answer, choice, index, now_s, counted)
                counted = {}
            whole = choice.complete and answer.status != "incomplete"
            for use in choice.tool_uses:
                self.tool_call(now_s, _called(use, whole=whole) | counted)
                counted = {}

    def failure(self, answer: Answer, error_type: str | None) -> None:
        """Tell that it failed, with what had come by then."""
        self._assistant_id = self._assistant_id or answer.model
        now_s, counted = self._counted(answer)
        self._emit(
            _events.GENERATION_FAILED,
            now_s,
            text="".join(choice.text or "" for choice in answer.choices) or None,
            assistant_id=self._assistant_id,
            properties={"status": "error", "error_type": error_type, **counted},
        )

    def _generation(
        self, answer: Answer, choice: Choice, index: int, now_s: float, counted: dict[str, object]
    ) -> None:
        given = self._generation_id or choice.id or answer.id or random_uuid()
        unique = given == choice.id or not index
        generation_id = given if unique else f"{given}:{index}"
        self._conversation.told(generation_id, index)
        self._emit(
            _events.GENERATION,
            now_s,
            text=choice.text,
            generation_id=generation_id,
            assistant_id=self._assistant_id,
            properties={
                "status": answer.status if choice.complete else "incomplete",
                "response_model": answer.model,
                "finish_reason": choice.finish_reason,
                "attachments": choice.attachments,
                "regenerated": self._turn.again or None,
                "model_calls": self._turn.model_calls,
                "tool_calls": self._turn.tool_calls or None,
                **counted,
            },
        )

    def _counted(
        self, answer: Answer, last_s: float | None = None
    ) -> tuple[float, dict[str, object]]:
        """Return when it was over, and seconds and tokens, which go on one event of it only."""
        now_s, now_clock_s = self._over or _moment(last_s)
        counted: dict[str, object] = {"latency": _seconds(now_clock_s - self._start.clock_s)}
        if self._first_piece_s is not None:
            counted["time_to_first_token"] = _seconds(self._first_piece_s - self._start.clock_s)
        return now_s, counted | answer.usage.properties()

    def _emit(
        self,
        name: str,
        time_s: float,
        *,
        text: str | None = None,
        generation_id: str | None = None,
        assistant_id: str | None = None,
        properties: Mapping[str, object],
    ) -> None:
        event = Event(
            name=name,
            user_id=self._who.user_id,
            time_s=time_s,
            text=text or None,
            thread_id=self._who.thread_id,
            assistant_id=assistant_id,
            prompt_id=self._turn.prompt_id,
            generation_id=generation_id,
            properties={**self._common, **properties},
        )
        _runtime.emit(event, self._observer.target)


def _called(use: ToolUse, *, whole: bool) -> dict[str, object]:
    """Return the properties of a tool's call; of one that is not whole, nobody knows what with."""
    own: dict[str, object] = {"tool_name": use.name, "tool_call_id": use.id}
    return own if whole else own | {"status": "incomplete"}


def _moment(clock_s: float | None = None) -> tuple[float, float]:
    """Return that moment of `perf_counter()`, or the present one, by both clocks."""
    now_s, now_clock_s = time.time(), time.perf_counter()
    if clock_s is None:
        return now_s, now_clock_s
    return now_s - (now_clock_s - clock_s), clock_s


def _seconds(duration_s: float) -> float:
    return round(duration_s, 4)
