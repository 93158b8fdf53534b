"""How a turn ended: the answer for the user, out of the root run's end and the models' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument._observing.reader import Answer, Choice, Status, Usage
from trubrics_instrument.langchain.interrupts import is_bubble, is_drained

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from trubrics_instrument.langchain.origin import Origin
    from trubrics_instrument.langchain.parts import Part
    from trubrics_instrument.langchain.reply import Reply

INTERRUPTED = "interrupt"


class ModelAnswer(NamedTuple):
    """What one model of a turn answered."""

    run_id: str
    origin: Origin
    choice: Choice
    response_model: str | None = None
    first_piece_s: float | None = None
    part: Part | None = None

    def assistant(self) -> str:
        """Return the assistant's name: the model's, else what kind of model it is."""
        return self.origin.model or self.response_model or self.origin.kind

    def properties(self) -> dict[str, object]:
        """Return the properties of what this model tells."""
        return {"model": self.origin.model, "provider": self.origin.provider}


class Outcome(NamedTuple):
    """How a root run ended: not the exception itself, whose frames would keep the runs alive."""

    reply: Reply | None = None
    status: Status = "ok"
    error_type: str | None = None


def failure(error: BaseException) -> Outcome:
    """Return how a run ended that raised; a cancellation is the user's wish, and no failure."""
    if is_drained(error):
        return Outcome(status="incomplete")
    if is_bubble(error):
        return Outcome()
    if not isinstance(error, Exception):
        return Outcome(status="incomplete")
    return Outcome(status="error", error_type=type(error).__name__)


def the_answering(answers: Sequence[ModelAnswer], outcome: Outcome) -> ModelAnswer | None:
    """Return the model's answer that became the app's; the last one, if none is the same."""
    text = outcome.reply.text if outcome.reply else None
    same = (one for one in reversed(answers) if text and one.choice.text == text)
    return next(same, answers[-1] if answers else None)


def answer_of(
    outcome: Outcome,
    answering: ModelAnswer | None,
    usage: Usage,
    interrupts: Sequence[str | None],
    ran: Container[str | None],
) -> Answer:
    """Return the turn's answer, without the tools that `ran` by now and so are told.

    Its id is the message's, where the app sees a message, or may have seen its pieces, else the
    run id of the model's answer.
    """
    given = answering.choice if answering else Choice()
    choice = _choice(outcome.reply, given, interrupts, ran)
    if outcome.status == "incomplete" and choice.text == given.text:
        # Of a run that is left, the model's message may have been seen.
        choice = choice._replace(resent_id=given.id)
    return Answer(
        id=choice.resent_id or (answering.run_id if answering else None),
        model=answering.response_model if answering else None,
        choices=(choice,),
        usage=usage,
        status=outcome.status,
        error_type=outcome.error_type,
    )


def _choice(
    reply: Reply | None,
    given: Choice,
    interrupts: Sequence[str | None],
    ran: Container[str | None],
) -> Choice:
    """Return what the user gets: the app's own reply, else what the model has given."""
    if interrupts and reply is not None and reply.text != given.text:
        reply = None  # the state may still have the answer to an earlier question
    shown = "\n".join(dict.fromkeys(text for text in interrupts if text))
    text = shown or (reply.text if reply else None)
    called = reply.tool_uses if reply and not interrupts else ()
    uses = tuple([use for use in called if use.id is None or use.id not in ran])
    if not text and not uses:
        text = given.text
    return Choice(
        text=text,
        tool_uses=uses,
        finish_reason=INTERRUPTED if interrupts else given.finish_reason,
        attachments=given.attachments if text == given.text else None,
        complete=given.complete and not interrupts,
        resent_as=given.resent_as if text == given.text else (),
        resent_id=reply.message_id if reply else None,
    )
