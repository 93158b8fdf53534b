"""What the app tags `trubrics:skip` is left alone, at whichever level the tag is."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import StructuredTool

from tests.langchain.chains import (
    GIVEN,
    PAIR,
    QUESTION,
    STUFFED,
    TEMPLATE,
    UNSTREAMED,
    WORDS,
    Library,
    chain,
    model,
)
from tests.langchain.driving import (
    IN_FUNCTIONS,
    MODES,
    Mode,
    Shape,
    assert_nothing_left,
    assert_told,
    case_id,
    cases,
    drive_shape,
    expected,
    turns_told,
)
from tests.langchain.models import Completing, Scripted, says

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

SKIP = "trubrics:skip"


def skipped(runnable: Any) -> Any:
    """Return a runnable that is tagged for itself and all that it calls."""
    return runnable.with_config(tags=[SKIP])


def tagged_tool() -> Any:
    """Return a tool whose own tag LangChain does not hand on to the model that it asks."""

    def ask(x: str) -> str:
        return str(model("An aside.").invoke(x).content)

    return StructuredTool.from_function(ask, name="ask", description="Ask.", tags=[SKIP])


def beside(step: Any) -> Any:
    """Return a chain that runs a step beside what it answers."""
    return RunnablePassthrough.assign(aside=step) | (lambda given: GIVEN) | chain()


def asking_twice(text: str) -> str:
    """Ask a tool that is skipped, and then a model that is not."""
    tagged_tool().invoke({"x": "A title"})
    return str(model().invoke(text).content)


SHAPES = (
    Shape("model", lambda: skipped(model()), QUESTION, ()),
    Shape("model, by its own tag", lambda: Scripted(rule=says("x"), tags=[SKIP]), QUESTION, ()),
    Shape("text model, by its own tag", lambda: Completing(tags=[SKIP]), QUESTION, ()),
    Shape("chain", lambda: skipped(chain()), GIVEN, ()),
    Shape("the only model of a chain", lambda: TEMPLATE | skipped(model()) | WORDS, GIVEN, ()),
    Shape("a step", lambda: beside(skipped(chain("A title"))), GIVEN, PAIR),
    Shape(
        "a model of a step",
        lambda: beside(TEMPLATE | skipped(model("A title")) | WORDS),
        GIVEN,
        PAIR,
    ),
    Shape(
        "a fallback of a step",
        lambda: beside(skipped(RunnableLambda(lambda _: 1 / 0).with_fallbacks([chain("A title")]))),
        GIVEN,
        PAIR,
    ),
    Shape(
        "a retriever",
        lambda: (
            {"context": skipped(Library()), "question": RunnablePassthrough()}
            | STUFFED
            | model()
            | WORDS
        ),
        QUESTION,
        PAIR,
    ),
    Shape(
        "a retriever, by its own tag",
        lambda: (
            {"context": Library(tags=[SKIP]), "question": RunnablePassthrough()}
            | STUFFED
            | model()
            | WORDS
        ),
        QUESTION,
        PAIR,
    ),
    Shape(
        "a tool, by its own tag", tagged_tool, {"x": QUESTION}, (), ("invoke", "ainvoke", "batch")
    ),
    Shape(
        "a tool in a function, by its own tag",
        lambda: RunnableLambda(asking_twice),
        QUESTION,
        UNSTREAMED,
        marks=IN_FUNCTIONS,
    ),
)


@pytest.mark.parametrize(("shape", "mode"), cases(SHAPES), ids=case_id)
async def test_skipped(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Nothing is told of what is tagged, nor of what it calls; all else is told as ever."""
    await assert_told(shape, mode, sink)


@pytest.mark.parametrize("mode", MODES)
async def test_skipped_with_granularity_call(mode: Mode, sink: Sink) -> None:
    """It holds for each call of a model as well."""
    shape = SHAPES[5]._replace(handler={"granularity": "call"})
    await drive_shape(shape, mode)
    texts = [[event["$text"] for event in turn] for turn in turns_told(sink)]
    assert texts == [[f"The question is: {QUESTION}", PAIR[1]["$text"]]] * len(
        expected(shape, mode)
    )
    assert_nothing_left()
