"""What a root run asks: what its input shows, else what its first model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument._context.identity import first_of
from trubrics_instrument._conversations.trail import NO_HISTORY
from trubrics_instrument._observing.reader import Asked
from trubrics_instrument.langchain.messages import mapping
from trubrics_instrument.langchain.origin import claim_of, own_keys, own_properties
from trubrics_instrument.langchain.question import goes_on, question_of, resumes
from trubrics_instrument.langchain.reply import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from trubrics_instrument._context.identity import Claim
    from trubrics_instrument.langchain.origin import Origin
    from trubrics_instrument.langchain.question import Question
    from trubrics_instrument.langchain.reply import Names
    from trubrics_instrument.langchain.settings import Key
    from trubrics_instrument.langchain.waiting import Stop


class Root(NamedTuple):
    """A root run as its start shows it.

    It is `late` if its input comes with its end, and `edits` if it is LangGraph's `update_state`.
    """

    key: Hashable
    run_id: object
    given: Any
    metadata: Mapping[str, Any]
    late: bool = False
    edits: bool = False


class First(NamedTuple):
    """What the first model of a turn settles: what is asked, of whom, and in which words.

    It is `resumed` if a graph goes on in its turn, with nothing asked.
    """

    asked: Asked
    origin: Origin
    question: Question
    resumed: bool

    @property
    def in_graph(self) -> bool:
        """Whether it runs in a graph."""
        return self.origin.framework == "langgraph"


class Asking:
    """What is known of what a root run asks.

    Attributes:
        late: Whether its input comes with its end.
        typed: What its input shows.
        first: What its first model settled; None before that.
    """

    def __init__(self, root: Root, input_key: Key, stop: Stop) -> None:
        self._metadata = dict(root.metadata)
        self._input_key = input_key
        self._stop = stop
        self.late = root.late or _is_late(root.given)
        self._goes_on = not self.late and goes_on(root.given)
        self._decided = resumes(root.given)
        self.typed = None if self.late else question_of(root.given, input_key)
        self.first: First | None = None

    def model_started(
        self, origin: Origin, ask: Callable[[], Question], metadata: Mapping[str, Any]
    ) -> None:
        """Settle what is asked, if it is the first model: `ask` reads it out of the request."""
        if self.first is None:
            question = ask()
            told = claim_of(self._stop.configurable, self._metadata, metadata)
            claim = first_of([told, origin.claim])
            own = own_properties(self._metadata) | own_keys(self._metadata, metadata)
            self.first = self._first(origin, question, claim, own)

    def came(self, given: Any) -> None:
        """Take note of an input that came late."""
        if self.late and given is not None and self.first is not None:
            self.typed = question_of(given, self._input_key)
            asked, origin, question, _ = self.first
            self.first = self._first(origin, question, asked.claim, asked.metadata)

    def known(self, texts: Sequence[str | None], names: Names) -> Known:
        """Return what is known where the answer is looked for, with what the models have said."""
        typed = self.typed or self._stop.question
        return Known(
            asked=typed.text if typed else None,
            said=[text for text in texts if text],
            wordless=bool(texts) and not texts[0],
            in_graph=self.first is not None and self.first.in_graph,
            told_at=self._stop.told_at,
            names=names,
        )

    def _first(
        self, origin: Origin, question: Question, claim: Claim, own: Mapping[str, object]
    ) -> First:
        """Return what is asked, with the first model's question where the root shows none."""
        typed = self.typed or (self._stop.question if self._goes_on else None)
        wordless = self._goes_on and typed is None and origin.framework == "langgraph"
        put = wordless and not self._decided and self._stop.is_put(claim.thread_id, question)
        resumed = wordless and not put
        asked = typed or question
        settled = asked_of(origin, asked, claim, own)._replace(
            told=self._stop.last_told,
            history=question.history if asked.history is NO_HISTORY else asked.history,
            instructions=question.instructions,
        )
        if wordless:
            settled = settled._replace(
                continues=asked.continues or resumed,
                brings=asked.continues and not resumed,
                turn_keys=self._stop.turn_keys(claim.thread_id, question, put=put),
            )
        return First(settled, origin, question, resumed)


def asked_of(origin: Origin, question: Question, claim: Claim, own: Mapping[str, object]) -> Asked:
    """Return what is asked of a model with this question, and with the app's own metadata."""
    return Asked(
        operation=origin.operation,
        model=origin.model,
        provider=origin.provider,
        text=question.text,
        attachments=question.attachments,
        continues=question.continues,
        brings=question.continues,
        turn_keys=question.turn_keys(),
        question=question.shown,
        claim=claim,
        previous_id=origin.previous_id,
        metadata=own,
        history=question.history,
        instructions=question.instructions,
    )


def _is_late(given: Any) -> bool:
    """Whether an input stands for one that comes later; an array refuses to be compared at all."""
    fields = mapping(given)
    text = fields.get("input")
    return len(fields) == 1 and isinstance(text, str) and not text
