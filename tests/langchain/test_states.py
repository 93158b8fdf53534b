"""Graphs whose state is of the app's own kind, and keys that say what in it is what."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import pytest

pytest.importorskip("langgraph.graph")

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import MessagesState
from langgraph.graph.message import add_messages

from tests.langchain.chains import ANSWER, QUESTION, model
from tests.langchain.driving import (
    GRAPH,
    IN_NODES,
    Mode,
    Shape,
    assert_told,
    case_id,
    cases,
    generation,
    prompt,
)
from tests.langchain.lines import line_of

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ASKED = prompt(QUESTION, **GRAPH)
TEXT = generation(ANSWER, **GRAPH, stream="events")
MESSAGE = {**TEXT, "$generation_id": "message"}
PREFIXED = f"In short: {ANSWER}"


@dataclass
class Asked:
    """A dataclass that names the question and the answer."""

    question: str
    hits: int = 0
    answer: str = ""


@dataclass
class Talk:
    """A dataclass that holds messages, and something beside them."""

    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    summary: str = "Nothing yet"


@dataclass
class Private:
    """A dataclass whose names say nothing."""

    where: str
    what: str
    said: str = ""


class Form(pydantic.BaseModel):
    """A pydantic model that names the question and the answer."""

    question: str
    hits: int = 0
    answer: str = ""


class TalkForm(pydantic.BaseModel):
    """A pydantic model that holds messages, and something beside them."""

    messages: Annotated[list[AnyMessage], add_messages] = []
    summary: str = "Nothing yet"


class Notes(MessagesState):
    """The messages of a graph, and notes beside them."""

    notes: Annotated[list[str], operator.add]


def answers(state: Any) -> dict[str, Any]:
    """Ask the model with the question that the state names."""
    return {"answer": model().invoke(f"Stuffed: {state.question}").content, "hits": 1}


def talks(state: Any) -> dict[str, Any]:
    """Ask the model with the state's messages."""
    return {"messages": [model().invoke(state.messages)]}


def talks_of_its_own(state: Any) -> dict[str, Any]:
    """Ask with names of its own, and answer with more than the model said."""
    text = model().invoke(f"Stuffed: {state.what} {state.where}").content
    return {"said": f"In short: {text}"}


def notes(state: Any) -> dict[str, Any]:
    """Answer in messages, and note something beside them."""
    return {"messages": [model().invoke(state["messages"])], "notes": ["Noted."]}


HISTORY: list[Any] = [HumanMessage("Hello"), AIMessage("Hi", id="a-1"), HumanMessage(QUESTION)]
PRIVATE = {"where": "Lisbon", "what": QUESTION}
OWN = [ASKED, {**TEXT, "$text": PREFIXED}]

SHAPES = (
    Shape(
        "dataclass, given as a dict",
        lambda: line_of(answers, state=Asked),
        {"question": QUESTION},
        [ASKED, TEXT],
    ),
    Shape(
        "dataclass, given", lambda: line_of(answers, state=Asked), Asked(QUESTION), [ASKED, TEXT]
    ),
    Shape(
        "dataclass, messages",
        lambda: line_of(talks, state=Talk),
        {"messages": HISTORY},
        [ASKED, MESSAGE],
    ),
    Shape(
        "dataclass, messages given",
        lambda: line_of(talks, state=Talk),
        Talk(HISTORY),
        [ASKED, MESSAGE],
    ),
    Shape(
        "pydantic, given as a dict",
        lambda: line_of(answers, state=Form),
        {"question": QUESTION},
        [ASKED, TEXT],
    ),
    Shape(
        "pydantic, given",
        lambda: line_of(answers, state=Form),
        Form(question=QUESTION),
        [ASKED, TEXT],
    ),
    Shape(
        "pydantic, messages",
        lambda: line_of(talks, state=TalkForm),
        {"messages": HISTORY},
        [ASKED, MESSAGE],
    ),
    Shape(
        "pydantic, messages given",
        lambda: line_of(talks, state=TalkForm),
        TalkForm(messages=HISTORY),
        [ASKED, MESSAGE],
    ),
    Shape(
        "keys, by name",
        lambda: line_of(talks_of_its_own, state=Private),
        PRIVATE,
        OWN,
        handler={"input_key": "what", "output_key": "said"},
    ),
    Shape(
        "keys, by name, of a dataclass",
        lambda: line_of(talks_of_its_own, state=Private),
        Private(**PRIVATE),
        OWN,
        handler={"input_key": "what", "output_key": "said"},
    ),
    Shape(
        "keys, functions",
        lambda: line_of(talks_of_its_own, state=Private),
        PRIVATE,
        [
            prompt(f"{QUESTION} (Lisbon)", **GRAPH),
            {**TEXT, "$text": f"{PREFIXED} Truly."},
        ],
        handler={
            "input_key": lambda given: f"{given['what']} ({given['where']})",
            "output_key": lambda state: f"{state['said']} Truly.",
        },
    ),
    Shape(
        "keys, over the messages",
        lambda: line_of(notes, state=Notes),
        {"messages": [("user", "Stuffed")], "notes": [QUESTION]},
        [ASKED, {**TEXT, "$text": "Noted."}],
        handler={
            "input_key": lambda given: given["notes"][0],
            "output_key": lambda state: state["notes"][-1],
        },
    ),
)


@pytest.mark.parametrize(
    ("shape", "mode"), cases([one._replace(marks=IN_NODES) for one in SHAPES]), ids=case_id
)
async def test_state(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each kind of state is told exactly as written beside it, in each mode."""
    await assert_told(shape, mode, sink)
