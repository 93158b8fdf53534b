"""Questions that a graph stops at before any model: whose they are, and how long they wait."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from tests.langchain.chains import ANSWER, QUESTION, model
from tests.langchain.driving import IN_NODES, Mode, assert_nothing_left, drive, turns_told
from tests.langchain.lines import kept_line, line_of
from tests.langchain.models import Refused, Scripted, refuses, says
from trubrics_instrument import TrubricsCallbackHandler, _config, _runtime, context, suppress
from trubrics_instrument._base import shield
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument.langchain import waiting

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio
memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
graphs: Any = pytest.importorskip("langgraph.graph")

SINGLE = [
    pytest.param(mode, marks=IN_NODES.get(mode, ()))
    for mode in ("invoke", "ainvoke", "stream", "astream")
]
OTHER = "And the train?"


class State(TypedDict, total=False):
    """A state in which nothing shows that the graph stands still."""

    question: str
    answers: Annotated[list[str], operator.add]


def answer(_: Any) -> Any:
    """Ask a model."""
    return {"answers": [str(model().invoke("?").content)]}


def stopping(*nodes: Any) -> Any:
    """Return a graph that stops before its first node."""
    return kept_line(*(nodes or (answer,)), state=State, interrupt_before=["node-0"])


def config(user_id: str = "", *, handled_for: str | None = None, thread_id: str = "main") -> Any:
    """Return a config with a conversation, and a handler."""
    configurable = {"thread_id": thread_id, **({"user_id": user_id} if user_id else {})}
    return {"callbacks": [TrubricsCallbackHandler(handled_for)], "configurable": configurable}


def told(sink: Sink) -> list[list[tuple[Any, ...]]]:
    """Return who was told to say what, turn by turn."""
    return [
        [(event["event"], event["user_id"], event.get("$text")) for event in turn]
        for turn in turns_told(sink)
    ]


def pair(user_id: str, text: str) -> list[tuple[Any, ...]]:
    """Return what is told of one question, and of its answer."""
    return [("Prompt", user_id, text), ("Generation", user_id, ANSWER)]


class Asker:
    """One of the ways in which an app says who asks."""

    def __init__(self, way: str, user_id: str) -> None:
        self.user_id = user_id
        self.config = {
            "configurable": config(user_id),
            "handler": config(handled_for=user_id),
            "context": config(),
        }[way]
        self._said = user_id if way == "context" else None

    async def drive(self, mode: Mode, graph: Any, given: Any) -> None:
        """Run a graph as this user."""
        if self._said is None:
            await drive(mode, graph, given, self.config)
            return
        with context(user_id=self._said):
            await drive(mode, graph, given, self.config)


@pytest.mark.parametrize("mode", SINGLE)
@pytest.mark.parametrize("way", ["configurable", "handler", "context"])
async def test_two_users_of_one_thread_name(mode: Mode, way: str, sink: Sink) -> None:
    """Nobody is told to have asked what another user asked, wherever the threads' names meet."""
    ada, bob = (Asker(way, user_id) for user_id in ("ada", "bob"))
    of_ada, of_bob = stopping(), stopping()
    await ada.drive(mode, of_ada, {"question": QUESTION})
    await bob.drive(mode, of_bob, {"question": OTHER})
    await ada.drive(mode, of_ada, None)
    await bob.drive(mode, of_bob, None)
    assert told(sink) == [pair("ada", QUESTION), pair("bob", OTHER)]
    assert_nothing_left()
    assert len(waiting._questions()) == 0


@pytest.mark.parametrize("mode", SINGLE)
async def test_stopped_again(mode: Mode, sink: Sink) -> None:
    """A question waits on while the graph goes on, and stops once more before any model."""
    stops = ["node-0", "node-1"]
    graph = kept_line(lambda _: {"answers": []}, answer, state=State, interrupt_before=stops)
    about = config("ada")
    await drive(mode, graph, {"question": QUESTION}, about)
    await drive(mode, graph, None, about)
    graph.update_state(about, {"answers": ["By hand."]})
    await drive(mode, graph, None, about)
    assert told(sink) == [pair("ada", QUESTION)]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_asked_anew(mode: Mode, sink: Sink) -> None:
    """A new question takes the place of the one that waits."""
    graph = stopping()
    about = config("ada")
    await drive(mode, graph, {"question": QUESTION}, about)
    await drive(mode, graph, {"question": OTHER}, about)
    await drive(mode, graph, None, about)
    assert told(sink) == [pair("ada", OTHER)]
    assert len(waiting._questions()) == 0


@pytest.fixture
def two_at_once() -> Any:
    """Give a graph that stops before two models that begin at the same moment."""
    graph: Any = graphs.StateGraph(State)
    for name in ("left", "right"):
        graph.add_node(name, answer)
        graph.add_edge(graphs.START, name)
    return graph.compile(checkpointer=memory.MemorySaver(), interrupt_before=["left", "right"])


@pytest.mark.parametrize("mode", SINGLE)
async def test_two_first_models(mode: Mode, two_at_once: Any, sink: Sink) -> None:
    """Whichever model comes first, what is told is the question that waited."""
    for turn in range(10):
        about = config("ada", thread_id=f"t-{turn}")
        await drive(mode, two_at_once, {"question": QUESTION}, about)
        await drive(mode, two_at_once, None, about)
    prompts = [event for turn in told(sink) for event in turn if event[0] == "Prompt"]
    assert prompts == [("Prompt", "ada", QUESTION)] * 10
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
async def test_no_text_of_chains(mode: Mode, sink: Sink) -> None:
    """What a chain without a model is given does not stay in memory: it cannot go on."""
    chain: Any = RunnablePassthrough() | RunnableLambda(lambda given: given)
    about: Any = {**config("ada"), "metadata": {"thread_id": "main"}}
    await drive(mode, chain, {"question": QUESTION}, about)
    assert turns_told(sink) == []
    assert len(waiting._questions()) == 0


@pytest.mark.parametrize("mode", SINGLE)
async def test_asked_quietly_meanwhile(mode: Mode, sink: Sink) -> None:
    """What the app asks inside of `suppress()` takes the place of no question that waits."""
    graph, title = stopping(), line_of(answer, state=State)
    about = config("ada")
    await drive(mode, graph, {"question": QUESTION}, about)
    with suppress():
        await drive(mode, title, {"question": "Make a title"}, about)
    await drive(mode, graph, None, about)
    assert told(sink) == [pair("ada", QUESTION)]
    assert_nothing_left()


@pytest.mark.parametrize("mode", SINGLE)
async def test_nothing_that_waits(mode: Mode, sink: Sink) -> None:
    """A graph that is asked nothing, and asks no model, leaves no question behind."""
    graph = kept_line(lambda _: {"answers": []}, state=State)
    await drive(mode, graph, {"answers": []}, config("ada"))
    assert turns_told(sink) == []
    assert not shield.faults()
    assert len(waiting._questions()) == 0


def test_a_graph_that_is_run_again_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its checkpoints are all workers'; that only one of them has answered makes no difference."""
    states: list[Any] = []
    for _ in range(2):
        _runtime.forget()
        states.append(_runtime.start(_config.build({}, {"spool": "off"})))
    states[1].threads.board = states[0].threads.board = Board(bytearray(BOARD_BYTES))
    rules = iter([says("Hello."), refuses, says("At 9.")])

    def answer(state: Any) -> Any:
        return {"messages": [Scripted(rule=next(rules)).invoke(state["messages"])]}

    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(graphs.START, "answer")
    graph = builder.compile(checkpointer=memory.MemorySaver())
    events: list[Any] = []
    for state, asked in zip((*states[:1], *states), ("Hi", "Trams?", "Trams?"), strict=True):
        monkeypatch.setattr(_runtime, "_state", state)
        monkeypatch.setattr(_runtime, "emit", lambda event, _: events.append(event))
        config: Any = {"callbacks": [TrubricsCallbackHandler("ada")]}
        with contextlib.suppress(Refused):
            config["configurable"] = {"thread_id": "t-1"}
            graph.invoke({"messages": [("user", asked)]}, config)
    names = ["Prompt", "Generation", "Prompt", "Generation failed", "Generation"]
    assert [one.name for one in events] == names
    assert len({one.prompt_id for one in events[2:]}) == 1
