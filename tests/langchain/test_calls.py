"""`granularity="call"`: each call of a model is a turn of its own, whatever is around it."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.langchain.chains import (
    ANSWER,
    ASKED,
    BARE,
    DIRECT,
    GIVEN,
    MESSAGE,
    QUESTION,
    STREAM,
    TEMPLATE,
    Library,
    Once,
    agent_loop,
    broken_parser,
    chain,
    model,
    refusing,
)
from tests.langchain.driving import (
    EVENTS,
    GRAPH,
    IN_FUNCTIONS,
    IN_NODES,
    Mode,
    Shape,
    assert_nothing_left,
    assert_told,
    case_id,
    cases,
    config,
    drive,
    failed,
    generation,
    prompt,
    tokens,
    tool_call,
    turns_told,
)
from tests.langchain.lines import line_of
from tests.langchain.models import Refused, Scripted, calls

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

CALL = {"granularity": "call"}
ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
STUFFED = f"The question is: {QUESTION}"
TOOL = {"tool_call_id": "call-weather", **tokens(1)}


def talks(talker: Any) -> Any:
    """Return a node that asks this model."""
    return lambda state: {"messages": [talker.invoke(state["messages"])]}


def asks_again(_: Any) -> Any:
    """Be a node that asks something else."""
    return {"messages": [("user", "And the train?")]}


def agent() -> Any:
    """Return an agent with a tool."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain 1.x")
    from tests.langchain.chains import weather

    return agents.create_agent(Scripted(rule=calls("weather", then=ANSWER)), [weather])


USER = {"messages": [("user", QUESTION)]}
SHAPES = (
    *(
        one._replace(name=f"a bare {one.name}", handler={**one.handler, **CALL})
        for one in BARE
        if one.name in {"model, a str", "model, tool calls", "model, refuses", "text model"}
    ),
    Shape("a chain", chain, GIVEN, [prompt(STUFFED), DIRECT[1]], handler=CALL),
    Shape(
        "a retriever, and no model",
        Library,
        QUESTION,
        (),
        modes=("invoke", "ainvoke"),
        handler=CALL,
    ),
    Shape(
        "a fallback",
        lambda: TEMPLATE | refusing().with_fallbacks([model()]),
        GIVEN,
        [prompt(STUFFED), failed(), {**DIRECT[1], "model_calls": 2}],
        modes=ALONE,
        handler=CALL,
    ),
    Shape(
        "a retry",
        lambda: TEMPLATE | Scripted(rule=Once()).with_retry(wait_exponential_jitter=False),
        GIVEN,
        [prompt(STUFFED), failed(), generation(ANSWER, **MESSAGE, model_calls=2)],
        modes=("invoke", "ainvoke"),
        handler=CALL,
    ),
    Shape(
        "an agent by hand",
        lambda: agent_loop("weather"),
        GIVEN,
        [
            ASKED,
            tool_call("weather", **TOOL, stream="events"),
            generation(ANSWER, tool_calls=1, model_calls=2, **MESSAGE, stream="events"),
        ],
        marks=IN_FUNCTIONS,
        handler=CALL,
    ),
    Shape(
        "a step after the model fails",
        lambda: TEMPLATE | model() | broken_parser,
        GIVEN,
        [prompt(STUFFED), DIRECT[1]],
        modes=ALONE,
        raises=KeyError,
        handler=CALL,
    ),
)
IN_GRAPHS = (
    Shape(
        "a graph",
        lambda: line_of(talks(model())),
        USER,
        [
            prompt(QUESTION, **GRAPH),
            generation(ANSWER, **{**GRAPH, **MESSAGE}, stream="events"),
        ],
        handler=CALL,
    ),
    Shape(
        "a graph that fails",
        lambda: line_of(talks(refusing())),
        USER,
        [prompt(QUESTION, **GRAPH), failed(**GRAPH)],
        modes=ALONE,
        raises=Refused,
        handler=CALL,
    ),
    Shape(
        "an agent",
        agent,
        USER,
        [
            prompt(QUESTION, **GRAPH),
            tool_call("weather", **TOOL, **GRAPH, stream="events"),
            generation(
                ANSWER, tool_calls=1, model_calls=2, **{**GRAPH, **MESSAGE}, stream="events"
            ),
        ],
        modes=ALONE,
        handler=CALL,
    ),
)


@pytest.mark.parametrize(
    ("shape", "mode"),
    cases((*SHAPES, *(one._replace(marks=IN_NODES) for one in IN_GRAPHS))),
    ids=case_id,
)
async def test_call(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each call is told exactly as written beside its shape, in each of its modes."""
    await assert_told(shape, mode, sink)


@pytest.mark.parametrize("mode", ALONE)
async def test_two_calls_one_after_another(mode: Mode, sink: Sink) -> None:
    """Two models of a chain are two turns, each with its own question, answer and tokens."""
    runnable = {"question": chain("Tram?")} | chain()
    await drive(mode, runnable, GIVEN, config("call"))
    streamed = STREAM if mode not in {"invoke", "ainvoke"} else {}
    assert turns_told(sink) == [
        [prompt(STUFFED), generation("Tram?", **MESSAGE, **streamed)],
        [prompt("The question is: Tram?"), generation(ANSWER, **MESSAGE, **streamed)],
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", [pytest.param(one, marks=IN_NODES.get(one, ())) for one in ALONE])
async def test_two_calls_of_a_graph(mode: Mode, sink: Sink) -> None:
    """Two nodes that ask something else are two turns."""
    graph = line_of(talks(model("Yes.")), asks_again, talks(model("No.")))
    await drive(mode, graph, USER, config("call"))
    more = {**GRAPH, **MESSAGE, **(STREAM if mode in EVENTS else {})}
    assert turns_told(sink) == [
        [prompt(QUESTION, **GRAPH), generation("Yes.", **more)],
        [prompt("And the train?", **GRAPH), generation("No.", **more)],
    ]
    assert_nothing_left()
