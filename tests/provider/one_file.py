"""All that it takes to observe an SDK: a reader, and a table of patch points."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.wrapper import around, around_async
from trubrics_instrument._conversations.trail import history_of
from trubrics_instrument._observing.methods import MethodPatch, PatchPoint
from trubrics_instrument._observing.observer import Observer
from trubrics_instrument._observing.reader import Answer, Asked, Choice, TurnKey, Usage
from trubrics_instrument._observing.watched import WatchedCall, new_call

if TYPE_CHECKING:
    from collections.abc import Mapping

_SDK = "tests.provider.parrot"


class ParrotReader:
    """Reads what the parrot is asked, and what it says."""

    framework = "parrot"

    def asked(self, request: Mapping[str, Any], *, stream: bool) -> Asked:
        """Return what the arguments of `chat` ask."""
        *before, question = request["messages"]
        first = request["messages"][0]["content"]
        said = ((one["role"] == "assistant", one["content"], None) for one in before[::-1])
        return Asked(
            operation="chat",
            model=request["model"],
            text=question["content"],
            stream=stream,
            history=history_of(first, begins=not before, spoken=said),
            provider="parrot",
        )

    def answer(self, body: Any) -> Answer:
        """Return what a `Reply` says."""
        return _answer(body.words, body.model, body.said)

    def gathering(self) -> ParrotGathering:
        """Return an empty gathering."""
        return ParrotGathering()

    def turn_keys(self, asked: Asked, answer: Answer) -> tuple[TurnKey, ...]:
        """Return nothing: a parrot has no tools."""
        return ()


class ParrotGathering:
    """The pieces of one reply."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._model: str | None = None
        self._said: int | None = None

    def speaks(self, piece: Any) -> bool:
        """Whether a piece has words."""
        return bool(piece.words)

    def add(self, piece: Any) -> bool:
        """Take a piece; the one with the count is the last."""
        self._words.append(piece.words)
        self._model, self._said = piece.model, piece.said
        return self.over()

    def over(self) -> bool:
        """Whether the count has come, behind which nothing comes."""
        return self._said is not None

    def answer(self, *, ended: bool) -> Answer:
        """Return the answer so far."""
        answer = _answer("".join(self._words).strip(), self._model, self._said)
        return answer if ended else answer._replace(status="incomplete")


def _answer(words: str, model: str | None, said: int | None) -> Answer:
    """Return an answer of these words; `said` is how many there were."""
    return Answer(model=model, choices=(Choice(words),), usage=Usage(output_tokens=said))


READER = ParrotReader()


def watch(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> WatchedCall | None:
    """Return the call to watch, if it is to be told here."""
    ask = partial(READER.asked, kwargs, stream=kwargs.get("stream") is True)
    call = new_call("parrot", READER, ask)
    return WatchedCall(call, READER, args, kwargs) if call else None


POINTS = (
    PatchPoint(_SDK, "Parrot.chat", around(watch)),
    PatchPoint(_SDK, "AsyncParrot.chat", around_async(watch)),
)


def patch_parrot() -> MethodPatch:
    """Observe every question that a parrot is asked."""
    patch: MethodPatch = _runtime.state().patches.setdefault("parrot", MethodPatch(POINTS))
    patch.put_on(Observer())
    return patch
