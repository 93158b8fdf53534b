"""One call of a model: a Prompt if its turn is new, and then exactly one end."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

from trubrics_instrument import _events, _runtime
from trubrics_instrument._base.exit import end_at_exit
from trubrics_instrument._base.shield import shield
from trubrics_instrument._events import Event
from trubrics_instrument._observing.conversation import Conversation
from trubrics_instrument._observing.observer import common, start_now, who_asks
from trubrics_instrument._observing.reader import Answer, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trubrics_instrument._context.identity import Identity
    from trubrics_instrument._conversations.turns import Turn
    from trubrics_instrument._observing.observer import Observer, Start
    from trubrics_instrument._observing.reader import AnswerReader, Asked, Gathering, TurnKey

_NO_CHOICE = Choice()


class ModelCall:
    """One call of a model, from what was asked to its one end.

    Who asks and where is settled here, at the start: at the end, the context may be gone. A
    framework that shows a whole turn (several models, tools) tells it as one long call, whose
    `start` lies before the first model's.
    """

    def __init__(
        self, reader: AnswerReader, asked: Asked, observer: Observer, start: Start | None = None
    ) -> None:
        self._reader = reader
        self._asked = asked
        self._target = observer.target
        self._start = start or start_now()
        self._first_piece_s: float | None = None
        self._so_far: Answer | None = None
        self._pid = 0
        self._over: tuple[float, float] | None = None
        self._settled: tuple[Choice, ...] | None = None
        self._gathering: Gathering | None = None
        self._tool_uses = 0
        self._open = [True]
        said = self._start.said
        claim = who_asks(asked, observer, said)
        self._conversation = Conversation(asked, said, claim, self._start.prompt_id)
        self._turn = self._conversation.turn
        self._who = self._conversation.who
        self._named_assistant = said.assistant_id or observer.assistant_id
        self._assistant_id = self._named_assistant or asked.model
        self._generation_id = said.generation_id
        self._prompt = said.prompt or asked.text
        self._common = common(reader, asked, observer, said, self._who)

    @property
    def closed(self) -> bool:
        """Whether its end has been told."""
        return not self._open

    @property
    def resumable(self) -> bool:
        """Whether the app can come back for the answer, if it leaves a stream on the way."""
        return self._asked.resumable

    def gathered(self, new: Gathering) -> Gathering:
        """Return what has come so far of a stream to which the app comes back, else a new one."""
        if not self.resumable:
            return new
        self._gathering = self._gathering or new
        return self._gathering

    @property
    def settled(self) -> bool:
        """Whether a later call knows of its answer already."""
        return self._settled is not None

    @property
    def who(self) -> Identity:
        """Who asks, and where."""
        return self._who

    @property
    def turn(self) -> Turn:
        """The turn that it belongs to."""
        return self._turn

    def begin(self) -> None:
        """Tell the prompt, unless it was told by an earlier call of its turn."""
        self._turn.model_calls += 1
        if self._conversation.asks:
            own = {"attachments": self._asked.attachments}
            self._emit(_events.PROMPT, self._start.time_s, text=self._prompt, properties=own)

    def first_piece(self, clock_s: float | None = None) -> None:
        """Note that the answer has begun to come, now or at that moment of `perf_counter()`."""
        if self._first_piece_s is None:
            self._first_piece_s = time.perf_counter() if clock_s is None else clock_s

    def over(self) -> None:
        """Note that it is over now, though it may be told later."""
        self._over = time.time(), time.perf_counter()

    def known_as(self, answer_id: str) -> None:
        """Note the id of the answer while that is coming, for what is said meanwhile."""
        self._conversation.known_as(answer_id, self._target)

    def note(self, properties: Mapping[str, object], assistant_id: str | None = None) -> None:
        """Add properties to the events still to come, and name the assistant that tells them."""
        self._common.update(properties)
        self._assistant_id = self._named_assistant or assistant_id or self._assistant_id

    def used_tool(
        self, time_s: float, properties: Mapping[str, object], assistant_id: str | None = None
    ) -> None:
        """Tell a tool's run, where a framework shows it, as an act of this assistant."""
        self._turn.tool_calls += 1
        assistant_id = self._named_assistant or assistant_id or self._assistant_id
        self._emit(_events.TOOL_CALL, time_s, properties=properties, assistant_id=assistant_id)

    def keep(self, keys: Sequence[TurnKey]) -> None:
        """Keep its turn open, under names by which a later call will ask for it."""
        self._conversation.keep(keys)

    def read(self, body: object, *, quiet: bool = False) -> None:
        """Tell a whole answer; one that cannot be read is told as `unread`."""
        if self.closed:
            return
        answer = Answer(status="unread")
        with shield("reading the answer", quiet=quiet):
            answer = self._reader.answer(body)
        self.end(answer)

    def settle(self, answer: Answer) -> None:
        """Note what a later call must know of an answer, which is told when its tokens are known.

        A stream may end after the app has gone on with the conversation.
        """
        if not self.closed:
            self._settle(answer)

    def end(self, answer: Answer) -> None:
        """Tell what came back, once."""
        if answer.pending and self.wait(answer):
            return
        if not self._close():
            return
        if answer.id:
            _runtime.state().pending.pop(answer.id)
        # The app need not name a model: a stored prompt has its own.
        self._assistant_id = self._assistant_id or answer.model
        if answer.status == "error":
            self._failed(answer, answer.error_type)
            return
        self._answered(answer)

    def fail(self, error: BaseException, so_far: Answer | None = None) -> None:
        """Tell that it raised; a cancellation is the user's wish, and no failure."""
        answer = so_far or Answer()
        if not isinstance(error, Exception):
            self.end(answer._replace(status="incomplete"))
        elif self._close():
            self._failed(answer, type(error).__name__)
        else:  # it was told, and then refused by the app's own parser
            self._conversation.may_be_retried()

    def wait(self, so_far: Answer) -> bool:
        """Wait for the app to ask for the answer by its id; only the latest are waited for."""
        answer_id = so_far.id or (self._so_far.id if self._so_far else None)
        if answer_id is None:
            return False
        self.known_as(answer_id)
        self._so_far, self._pid = so_far._replace(id=answer_id), os.getpid()
        one_too_many = _runtime.state().pending.put(answer_id, self)
        end_at_exit(self)
        if one_too_many is not None:
            one_too_many[1].leave()
        return True

    def leave(self) -> None:
        """Tell what is known of an answer that the app has not come back for."""
        # A forked child drops what it has of its parent's, which goes on there.
        if self._so_far is not None and self._pid == os.getpid():
            # Another answer may have been finalised: nothing may be logged.
            with shield("ending an answer that never came", quiet=True):
                self.end(self._so_far._replace(pending=False, status="incomplete"))

    def _close(self) -> bool:
        """Return True to the first who asks: `list.pop` is atomic, and takes no lock."""
        try:
            return self._open.pop()
        except IndexError:
            return False

    def _settle(self, answer: Answer) -> None:
        self._settled = answer.choices
        tool_uses = sum(len(choice.tool_uses) for choice in answer.choices)
        self._turn.tool_calls += tool_uses - self._tool_uses
        self._tool_uses = tool_uses
        names = self._reader.turn_keys(self._asked, answer)
        if names:
            self._conversation.keep(names, share=True)
        self._conversation.answered(answer, self._target)

    def _answered(self, answer: Answer) -> None:
        if answer.status != "ok":
            self._conversation.may_be_retried()
        if self._settled != answer.choices:
            if self._settled is not None:  # what seemed to be the end was not
                self._over = None
            self._settle(answer)
        now_s, now_clock_s = self._moment()
        counted = self._counted(answer, now_clock_s)
        for index, choice in enumerate(answer.choices or (_NO_CHOICE,)):
            if choice.text or choice.attachments or not choice.tool_uses:
                self._generation(answer, choice, index, now_s, counted)
                counted = {}
            for use in choice.tool_uses:
                whole = choice.complete and answer.status != "incomplete"
                own: dict[str, object] = {"tool_name": use.name, "tool_call_id": use.id, **counted}
                if not whole:  # nobody knows what with, and it was hardly called
                    own["status"] = "incomplete"
                self._emit(
                    _events.TOOL_CALL, now_s, properties=own, assistant_id=self._assistant_id
                )
                counted = {}

    def _generation(
        self, answer: Answer, choice: Choice, index: int, now_s: float, counted: dict[str, object]
    ) -> None:
        given = self._generation_id or choice.id or answer.id or str(uuid.uuid4())
        unique = given == choice.id or not index
        generation_id = given if unique else f"{given}:{index}"
        self._conversation.told(generation_id, index, self._target)
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
                "regenerated": self._conversation.again or None,
                "model_calls": self._turn.model_calls,
                "tool_calls": self._turn.tool_calls or None,
                **counted,
            },
        )

    def _failed(self, answer: Answer, error_type: str | None) -> None:
        self._conversation.may_be_retried()
        if answer.id:
            self.known_as(answer.id)
        now_s, now_clock_s = self._moment()
        counted = self._counted(answer, now_clock_s)
        self._emit(
            _events.GENERATION_FAILED,
            now_s,
            text="".join(choice.text or "" for choice in answer.choices) or None,
            assistant_id=self._assistant_id,
            properties={"status": "error", "error_type": error_type, **counted},
        )

    def _moment(self) -> tuple[float, float]:
        """Return when it was over, else now, by the clock on the wall and by `perf_counter()`."""
        return self._over or (time.time(), time.perf_counter())

    def _counted(self, answer: Answer, now_clock_s: float) -> dict[str, object]:
        """Return seconds and tokens, which go on one event of this call only."""
        counted: dict[str, object] = {"latency": _seconds(now_clock_s - self._start.clock_s)}
        if self._first_piece_s is not None:
            counted["time_to_first_token"] = _seconds(self._first_piece_s - self._start.clock_s)
        return counted | answer.usage.properties()

    def _emit(
        self,
        name: str,
        time_s: float,
        *,
        text: str | None = None,
        generation_id: str | None = None,
        assistant_id: str | None = None,
        properties: Mapping[str, object] | None = None,
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
            properties={**self._common, **(properties or {})},
        )
        _runtime.emit(event, self._target)


def _seconds(duration_s: float) -> float:
    return round(duration_s, 4)
