"""More runs at once than are remembered: the app has its answers, and nothing false is told."""

# LangChain's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from tests.langchain.chains import ANSWER, GIVEN, MESSAGE, QUESTION, chain, model
from tests.langchain.driving import (
    assert_nothing_left,
    config,
    generation,
    prompt,
    tool_call,
    turns_told,
)
from trubrics_instrument._base.memory import Memory
from trubrics_instrument.langchain import model as models
from trubrics_instrument.langchain import observed, runs

if TYPE_CHECKING:
    from tests.sink import Sink

MOST = 3
EXTRA = 2


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember few runs."""
    monkeypatch.setattr(runs, "_open", Memory(MOST))


UNREAD: dict[str, Any] = {
    name: value
    for name, value in generation(None, status="unread").items()
    if name not in {"$text", "input_tokens", "output_tokens", "total_tokens"}
}


def remembered() -> int:
    """Return how many runs are remembered where most are."""
    return max(len(runs._open), len(runs._watches), len(observed._open), len(models.awaiting))


@pytest.mark.parametrize("granularity", ["turn", "call"])
def test_models(granularity: str, sink: Sink) -> None:
    """Each stream says all it has to say; those that were forgotten are told as unread."""
    about = config(granularity)
    texts = [f"{QUESTION} {number}" for number in range(MOST + EXTRA)]
    streams = [model(ANSWER).stream(text, about) for text in texts]
    said = [str(next(stream).content) for stream in streams]
    assert remembered() == MOST
    for number, stream in enumerate(streams):
        said[number] += "".join(str(piece.content) for piece in stream)
    assert said == [ANSWER] * len(texts)
    ends = [UNREAD] * EXTRA + [generation(ANSWER, **MESSAGE)] * MOST
    assert turns_told(sink) == [
        [prompt(text), {**end, "stream": True}] for text, end in zip(texts, ends, strict=True)
    ]
    assert_nothing_left()


def others(about: Any) -> list[Any]:
    """Open as many streams as are remembered, and return them."""
    streams = [model(ANSWER).stream(f"Other {number}", about) for number in range(MOST)]
    for stream in streams:
        next(stream)
    return streams


PAIRS_OF_OTHERS = [
    [prompt(f"Other {number}"), generation(ANSWER, **MESSAGE, stream=True)]
    for number in range(MOST)
]


def test_chain(sink: Sink) -> None:
    """A chain that is forgotten with all of its steps is one question, and none of its own."""
    about = config()
    stream = chain().stream(GIVEN, about)
    said = next(stream)
    streams = others(about)
    assert remembered() == MOST
    assert said + "".join(stream) == ANSWER
    for other in streams:
        list(other)
    # LangChain tells the input of a stream at its end: this is what the model was asked.
    asked = prompt(f"The question is: {QUESTION}")
    turns = sorted(turns_told(sink), key=lambda turn: turn[0]["$text"])
    assert turns == [*PAIRS_OF_OTHERS, [asked, {**UNREAD, "stream": True}]]
    assert_nothing_left()


@pytest.mark.parametrize("fails", [False, True], ids=["ends", "fails"])
def test_tool(fails: bool, sink: Sink) -> None:
    """A tool was called, however it ended; its turn is told once, and not as cut short."""
    about = config()
    streams: list[Any] = []

    @tool
    def busy(x: str) -> str:
        """See many runs begin elsewhere."""
        Context().run(lambda: streams.extend(others(about)))
        if fails:
            raise LookupError(x)
        return x

    def step(_: Any) -> Any:
        answer = model("A note.").invoke("Aside").content
        with suppress(LookupError):
            busy.invoke({"x": "it"})
        return f"{answer} Done."

    assert RunnableLambda(step).invoke(QUESTION, about) == "A note. Done."
    for other in streams:
        list(other)
    answered = {**generation("A note.", status="unread", tool_calls=1)}
    assert turns_told(sink) == [
        [prompt(QUESTION), tool_call("busy"), answered],
        *PAIRS_OF_OTHERS,
    ]
    assert_nothing_left()


def test_before_its_model(sink: Sink) -> None:
    """A turn that is forgotten before it asks a model has its question, and one end."""

    def inner(text: str) -> str:
        return str(model(ANSWER).invoke(text).content)

    nested = RunnableLambda(inner)
    for _ in range(MOST):
        nested = RunnableLambda(nested.invoke)
    assert nested.invoke(QUESTION, config()) == ANSWER
    assert turns_told(sink) == [[prompt(QUESTION), generation(ANSWER, status="unread")]]
    assert_nothing_left()
