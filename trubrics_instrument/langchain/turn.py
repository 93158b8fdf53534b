"""One root run above a model: one thing that the user said, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument._observing.call import ModelCall
from trubrics_instrument._observing.observer import start_now
from trubrics_instrument.langchain import runs
from trubrics_instrument.langchain.asking import Asking
from trubrics_instrument.langchain.interrupts import Interrupts, is_bubble
from trubrics_instrument.langchain.models import Models
from trubrics_instrument.langchain.outcome import Outcome, answer_of, failure, the_answering
from trubrics_instrument.langchain.parts import Parts
from trubrics_instrument.langchain.reader import ResultReader
from trubrics_instrument.langchain.reply import Names, Reply, reply_of
from trubrics_instrument.langchain.tools import Tools
from trubrics_instrument.langchain.waiting import Stop
from trubrics_instrument.langchain.written import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from trubrics_instrument._observing.reader import Usage
    from trubrics_instrument.langchain.asking import Root
    from trubrics_instrument.langchain.origin import Origin
    from trubrics_instrument.langchain.outcome import ModelAnswer
    from trubrics_instrument.langchain.question import Question
    from trubrics_instrument.langchain.reply import Known
    from trubrics_instrument.langchain.settings import Settings
    from trubrics_instrument.langchain.tools import ToolRun


class RunTurn:
    """The turn that a root run shows, told as one long call.

    The prompt is told at the first model's start, or at the end where a stream gets its input
    late. Steps may run in several threads at once: each change is one atomic operation, no lock.
    """

    def __init__(self, settings: Settings, root: Root) -> None:
        self.key = root.key
        self._settings = settings
        self._start = start_now(str(root.run_id))
        self._observer = settings.observer.now()
        self._stop = Stop(self._observer, self._start, root)
        self._asking = Asking(root, settings.input_key, self._stop)
        self._untold = [True]
        self._call: ModelCall | None = None
        self._models = Models()
        self._parts = Parts(settings.output_key)
        self._tools = Tools(self._models.answers)
        self._documents: list[int] = []
        self.steps: dict[Hashable, None] = {}
        self._interrupts = Interrupts()
        self._written = Written(root, asks=self._asking.typed is not None)
        self._outcome: Outcome | None = None
        self._unfinished = [True]

    @property
    def turn(self) -> RunTurn:
        """Itself: what a step of it belongs to."""
        return self

    @property
    def over(self) -> bool:
        """Whether it has been told to its end."""
        return not self._unfinished

    @property
    def at_work(self) -> bool:
        """Whether a model of it is at work."""
        return self._models.at_work

    @property
    def has_failed(self) -> bool:
        """Whether a model of it has failed without a word."""
        return self._models.have_failed

    @property
    def late(self) -> runs.Late | None:
        """What is asked after its end belongs to; None as long as it is not over."""
        call = self._call if self.over else None
        return None if call is None else runs.Late(call.who, call.turn.prompt_id)

    def part_started(self, key: Hashable, parent: Hashable, about: Mapping[str, Any]) -> None:
        """Take note of where a step or a model runs."""
        self._parts.started(key, parent, about)

    def model_started(
        self,
        key: Hashable,
        origin: Origin,
        ask: Callable[[], Question],
        metadata: Mapping[str, Any],
    ) -> None:
        """Take note of a model's start; the first one settles who asks, and where."""
        self._stop.pass_model(metadata)
        self._interrupts.passed()
        self._models.started(key, origin.model)
        self._asking.model_started(origin, ask, metadata)
        if not self._asking.late:
            self._tell_prompt()

    def model_ended(
        self, key: Hashable, usage: Usage, answer: ModelAnswer, *, failed: bool
    ) -> None:
        """Take note of a model's end; one that failed without a word has answered nothing."""
        answer = answer._replace(part=self._parts.left(key))
        self._models.answered(usage, None if failed else answer)
        if self._call is not None:
            self._call.note(answer.properties(), answer.assistant())
        self._tools.hosted(answer)
        self._tell_tools()
        self._models.ended(key)
        self._finish_when_done()

    def tool_started(self, tool: ToolRun) -> None:
        """Take note of a tool's run."""
        self._tools.started(tool)

    def tool_ended(self, tool: ToolRun, error: BaseException | None = None) -> None:
        """Take note of its end; one that waits for a human has not run yet."""
        if error is not None and is_bubble(error):
            self._tools.left(tool)
            return
        self._tools.ended(tool, error)
        self._tell_tools()

    def found_documents(self, count: int) -> None:
        """Take note of how much a retriever found."""
        self._documents.append(count)

    def step_started(
        self, key: Hashable, parent: Hashable, given: Any, metadata: Mapping[str, Any]
    ) -> None:
        """Take note of a step of the graph."""
        self._stop.pass_node(metadata)
        self._written.started(key, parent, given, metadata)

    def step_failed(self, error: BaseException, key: Hashable, parent: Hashable) -> None:
        """Take note of an interrupt: a human is to be asked, and nothing has failed."""
        self._interrupts.failed(error, key, parent)
        self._written.failed(key, error)
        self._parts.left(key)

    def step_ended(self, key: Hashable, output: Any) -> None:
        """Take note that a step has ended well, whatever failed in it."""
        self._interrupts.ended(key)
        self._written.ended(key, output)
        self._parts.ended(key, output, lambda: self._known(Names()))

    def went_on(self) -> None:
        """Take note that a graph inside goes on past what it stopped for."""
        self._interrupts.clear()

    def ended(self, output: Any, late_input: Any, *, left: bool) -> None:
        """Take note of the root run's output; a stream that was left early has none."""
        self._stop.root_ended()
        self._asking.came(late_input)
        reply = None if left else self._reply(output)
        self._end(Outcome(reply, status="incomplete" if left else "ok"))

    def failed(self, error: BaseException, late_input: Any) -> None:
        """Take note of the root run's failure."""
        self._interrupts.failed(error, self.key, None)
        self._asking.came(late_input)
        self._end(failure(error))

    def lost(self) -> None:
        """Take note that the root run was dropped, and will never end."""
        self._end(Outcome(status="incomplete"))

    def forgotten(self) -> None:
        """Take note that the root run's end will not be read: there are too many runs.

        Of what it may still ask a model, only the first answer is told.
        """
        self._tools.forget()
        self._outcome = Outcome(status="unread")
        if self._asking.first is not None:
            self._finish_when_done()

    def _reply(self, output: Any) -> Reply | None:
        names = self._written.names(output, self._call.turn.prompt_id if self._call else None)
        return reply_of(output, self._known(names), self._settings.output_key)

    def _known(self, names: Names) -> Known:
        return self._asking.known(self._models.words(), names)

    def _tell_prompt(self) -> None:
        try:
            self._untold.pop()
        except IndexError:
            return
        first = self._asking.first
        assert first is not None
        reader = ResultReader(first.origin.framework)
        call = ModelCall(reader, first.asked, self._observer, self._start)
        call.note({}, first.origin.model or first.origin.kind)
        call.begin()
        self._call = call
        self._tell_tools()

    def _tell_tools(self) -> None:
        """Tell the tools' runs, as soon as there is a prompt that they belong to."""
        if self._call is not None:
            self._tools.tell(self._call)

    def _end(self, outcome: Outcome) -> None:
        if self._asking.first is not None:
            self._outcome = outcome
            if self._call is not None:
                self._call.over()
            self._finish_when_done()
            return
        self._stop.wait(self._asking.typed)
        if self.steps:  # which may go on, and ask a model yet
            self._outcome = outcome
        else:
            self._unfinished.clear()
        runs.outlive(self)

    def _finish_when_done(self) -> None:
        """End the turn once the root run has ended, and no model run of it is open.

        A stream that is closed early ends its root before its model.
        """
        if self._outcome is None or self._models.at_work:
            return
        try:
            self._unfinished.pop()
        except IndexError:
            return
        self._tools.abandon()
        self._tell_prompt()
        self._tell_tools()
        if self._call is not None:
            self._finish(self._call, self._outcome)
        runs.outlive(self)

    def _finish(self, call: ModelCall, outcome: Outcome) -> None:
        answers: Sequence[ModelAnswer] = self._models.answers
        if outcome.reply is None and outcome.status in {"incomplete", "error"}:
            answers, reply = self._parts.so_far(answers)
            outcome = outcome._replace(reply=reply)
        answering = the_answering(answers, outcome)
        self._note(call, answering)
        interrupts, ran = self._interrupts.shown(), self._tools.ran
        answer = answer_of(outcome, answering, self._models.usage(), interrupts, ran)
        uses = answer.choices[0].tool_uses
        self._tools.stand(call, uses)
        self._keep(call, waits=bool(uses or interrupts), ok=outcome.status == "ok")
        if answer.status == "ok":
            self._stop.tell(answer.choices[0].text)
        call.end(answer)

    def _note(self, call: ModelCall, answering: ModelAnswer | None) -> None:
        """Note what the end says besides the answer."""
        call.turn.model_calls += self._models.asked() - 1
        if answering is not None:
            call.note(answering.properties(), answering.assistant())
            if answering.first_piece_s is not None:
                call.first_piece(answering.first_piece_s)
                call.note({"stream": True})
        if self._models.are_several:
            call.note({"cost_usd": None})  # the tokens of several models have no one price
        if self._documents:
            call.note({"documents": sum(self._documents)})

    def _keep(self, call: ModelCall, *, waits: bool, ok: bool) -> None:
        """Keep the turn open, if another run may go on with it."""
        first = self._asking.first
        assert first is not None
        thread_id = first.asked.claim.thread_id
        if thread_id and (waits or first.in_graph):
            call.keep(self._stop.stand(thread_id, first, waits=waits, ok=ok))
            self._written.keep(call.turn.prompt_id)
