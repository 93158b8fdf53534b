"""One call of a model: a Prompt if its turn is new, and then exactly one end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trubrics_instrument import _runtime
from trubrics_instrument._base.exit import end_at_exit
from trubrics_instrument._base.shield import shield
from trubrics_instrument._conversations.awaited import Awaited, Question
from trubrics_instrument._observing.conversation import Conversation
from trubrics_instrument._observing.fetched import who_asked
from trubrics_instrument._observing.observer import start_now, who_asks
from trubrics_instrument._observing.reader import Answer
from trubrics_instrument._observing.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trubrics_instrument._context.identity import Claim, Identity
    from trubrics_instrument._conversations.turns import Turn
    from trubrics_instrument._observing.observer import Observer, Start
    from trubrics_instrument._observing.reader import (
        AnswerReader,
        Asked,
        Choice,
        Gathering,
        TurnKey,
    )


class ModelCall:
    """One call of a model, from what was asked to its one end.

    Who asks and where is settled here, at the start: at the end, the context may be gone. What is
    fetched for another process says more of it then. A framework that shows a whole turn (several
    models, tools) tells it as one long call, whose `start` lies before the first model's.
    """

    def __init__(
        self, reader: AnswerReader, asked: Asked, observer: Observer, start: Start | None = None
    ) -> None:
        self._reader = reader
        self._observer = observer
        self._start = start = start or start_now()
        self._claim = who_asks(asked, observer, start.said)
        self._belong(asked, self._claim)
        self._telling = Telling(reader, asked, observer, start, self._conversation)
        self._so_far: Answer | None = None
        self._pid = 0
        self._shared = False
        self._settled: tuple[Choice, ...] | None = None
        self._gathering: Gathering | None = None
        self._tool_uses = 0
        self._open = [True]

    def _belong(self, asked: Asked, claim: Claim) -> None:
        """Belong where this is asked, by whom the claim names."""
        said, prompt_id = self._start.said, self._start.prompt_id
        self._asked = asked
        self._conversation = Conversation(asked, said, claim, prompt_id, self._observer.target)
        self._turn = self._conversation.turn

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
        return self._conversation.who

    @property
    def turn(self) -> Turn:
        """The turn that it belongs to."""
        return self._turn

    def begin(self) -> None:
        """Tell the prompt, unless it was told by an earlier call of its turn."""
        self._turn.model_calls += 1
        if self._conversation.asks:
            self._telling.prompt()

    def first_piece(self, clock_s: float | None = None) -> None:
        """Note that the answer has begun to come, now or at that moment of `perf_counter()`."""
        self._telling.first_piece(clock_s)

    def over(self) -> None:
        """Note that it is over now, though it may be told later."""
        self._telling.over()

    def known_as(self, answer_id: str) -> None:
        """Note the id of the answer while that is coming, for what is said meanwhile."""
        self._conversation.known_as(answer_id)

    def note(self, properties: Mapping[str, object], assistant_id: str | None = None) -> None:
        """Add properties to the events still to come, and name the assistant that tells them."""
        self._telling.note(properties, assistant_id)

    def used_tool(
        self, time_s: float, properties: Mapping[str, object], assistant_id: str | None = None
    ) -> None:
        """Tell a tool's run, where a framework shows it, as an act of this assistant."""
        self._turn.tool_calls += 1
        self._telling.tool_call(time_s, properties, assistant_id)

    def keep(self, keys: Sequence[TurnKey]) -> None:
        """Keep its turn open, under names by which a later call will ask for it, in any process."""
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

    def end(self, answer: Answer, *, arrived: bool = False, last_s: float | None = None) -> None:
        """Tell what came back, once.

        `arrived` says that the app has read it all the same, where nobody here could; `last_s` is
        the moment of `perf_counter()` at which the last of it came, if it was left there.
        """
        if answer.pending and self.wait(answer):
            return
        if answer.id:
            _runtime.state().pending.pop(answer.id)
        if not self._close(answer):
            return
        if answer.status == "error":
            self._failed(answer, answer.error_type)
            return
        self._answered(answer, arrived=arrived, last_s=last_s)

    def fail(self, error: BaseException, so_far: Answer | None = None) -> None:
        """Tell that it raised; a cancellation is the user's wish, and no failure."""
        answer = so_far or Answer()
        if not isinstance(error, Exception):
            self.end(answer._replace(status="incomplete"))
        elif self._close(answer):
            self._failed(answer, type(error).__name__)
        else:  # it was told, and then refused by the app's own parser
            self._conversation.broke_off()

    def wait(self, so_far: Answer) -> bool:
        """Wait for the app to ask for the answer by its id; only the latest are waited for."""
        if self._asked.fetched:  # the process that asked waits for it
            return True
        answer_id = so_far.id or self._awaited_id
        if answer_id is None:
            return False
        self.known_as(answer_id)
        if self._so_far is None:  # once: it may be told elsewhere by the next time
            self._share(answer_id)
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
                if not self._may_be_told_elsewhere():
                    self.end(self._so_far._replace(pending=False, status="incomplete"))

    def _close(self, answer: Answer) -> bool:
        """Return True to the first who asks: `list.pop` is atomic, and takes no lock."""
        try:
            self._open.pop()
        except IndexError:
            return False
        if self._asked.fetched and not self._find_asker(self._asked.fetched, answer):
            return False  # left to the process that asked
        self._turn.touch()
        awaited_id = self._awaited_id
        return awaited_id is None or Awaited(_runtime.state().threads.board, awaited_id).take()

    def _find_asker(self, answer_id: str, answer: Answer) -> bool:
        """Belong to who asked in another process; return False if nobody knows where that is."""
        claim = who_asked(answer_id, self._claim, answer)
        if claim is None:
            return False
        self._belong(self._asked._replace(metadata=answer.metadata), claim)
        self._telling.belong(self._asked, self._conversation)
        self.begin()
        return True

    @property
    def _awaited_id(self) -> str | None:
        """The id under which the app may have fetched it in any process."""
        return self._asked.fetched or (self._so_far.id if self._so_far else None)

    def _share(self, answer_id: str) -> None:
        """Tell the other processes that the answer may be fetched there."""
        question = Question(self._turn.prompt_id, self._start.clock_s)
        awaited = Awaited(_runtime.state().threads.board, answer_id)
        self._shared = awaited.note(question, self.who.user_id, self.who.thread_id)

    def _may_be_told_elsewhere(self) -> bool:
        """Whether it was fetched by another process, or nobody knows that any more."""
        awaited = Awaited(_runtime.state().threads.board, self._awaited_id or "")
        return self._shared and awaited.find() is None

    def _settle(self, answer: Answer) -> None:
        self._settled = answer.choices
        tool_uses = sum(len(choice.tool_uses) for choice in answer.choices)
        self._turn.tool_calls += tool_uses - self._tool_uses
        self._tool_uses = tool_uses
        names = self._reader.turn_keys(self._asked, answer)
        if names:
            self._conversation.keep(names)
        self._conversation.answered(answer)

    def _answered(self, answer: Answer, *, arrived: bool, last_s: float | None) -> None:
        if self._asked.aside:  # only what a later call goes on from is of interest
            if answer.status == "ok":
                self._settle(answer)
            return
        if answer.status != "ok" and not arrived:
            self._conversation.broke_off()
        if self._settled != answer.choices:
            if self._settled is not None:  # what seemed to be the end was not
                self._telling.goes_on()
            self._settle(answer)
        self._telling.answer(answer, last_s)

    def _failed(self, answer: Answer, error_type: str | None) -> None:
        if self._asked.aside:
            return
        self._conversation.failed()
        if answer.id:
            self.known_as(answer.id)
        self._telling.failure(answer, error_type)
