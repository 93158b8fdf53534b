"""In whatever modes a graph is streamed, the app gets the same, and the turn is told the same."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langchain.agents", reason="needs langchain 1.x")

from langgraph.types import StreamWriter  # noqa: TC002 - LangGraph reads the annotation

from tests.langchain.chains import weather
from tests.langchain.driving import LOST_IN_NODES, assert_nothing_left, tokens, turns_told
from tests.langchain.graphs import ASKED, USER, agent, answered, used
from tests.langchain.lines import kept_line
from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ALONE = ("values", "updates", "messages", "custom", "debug", "tasks", "checkpoints")
TOGETHER = (
    ["values"],
    ["updates", "messages"],
    ["messages", "custom"],
    ["values", "updates", "custom"],
)
CASES = [
    pytest.param(
        kind,
        modes,
        subgraphs,
        id=f"{kind}-{'+'.join(modes) if isinstance(modes, list) else modes}-{subgraphs}",
        marks=LOST_IN_NODES if kind == "astream" else (),
    )
    for kind in ("stream", "astream")
    for modes in (*ALONE, *TOGETHER)
    for subgraphs in (False, True)
]
VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[0-9:.+]+|[0-9a-f]{32}|object at \w+"
)


def says_so(_: Any, writer: StreamWriter) -> Any:
    """Tell the app's own stream something."""
    writer({"progress": "half way"})
    return {"messages": []}


def built() -> Any:
    """Return a graph with an agent inside, a node that writes into the stream, and checkpoints."""
    return kept_line(says_so, agent(weather))


def config(*handlers: Any) -> Any:
    """Return a config of a conversation, with these handlers."""
    return {"callbacks": [*handlers], "configurable": {"thread_id": "t-1"}}


def handler() -> TrubricsCallbackHandler:
    """Return a handler."""
    return TrubricsCallbackHandler("ada")


async def pieces(kind: str, about: Any, **how: Any) -> list[Any]:
    """Return all that the app gets."""
    if kind == "stream":
        return list(built().stream(USER, about, **how))
    return [one async for one in built().astream(USER, about, **how)]


def comparable(value: Any) -> str:
    """Return it as text, without ids, times and the handler."""
    return VARYING.sub("-", re.sub(r"'callbacks': [^,]*,", "", repr(value)))


@pytest.mark.parametrize(("kind", "modes", "subgraphs"), CASES)
async def test_stream_mode(kind: str, modes: Any, subgraphs: bool, sink: Sink) -> None:
    """One prompt, one tool, one answer; what the app gets is what it gets without a handler."""
    how = {"stream_mode": modes, "subgraphs": subgraphs}
    seen = await pieces(kind, config(handler()), **how)
    assert seen
    assert comparable(seen) == comparable(await pieces(kind, config(), **how))
    told = answered(tool_calls=1, model_calls=2, **tokens(2))
    told = {**told, "stream": "messages" in modes or None}
    assert turns_told(sink) == [
        [ASKED, used("weather"), {key: one for key, one in told.items() if one is not None}]
    ]
    assert_nothing_left()


@pytest.mark.parametrize(("kind", "modes", "subgraphs"), CASES)
async def test_stream_mode_left_early(kind: str, modes: Any, subgraphs: bool, sink: Sink) -> None:
    """A stream in any mode that is left at its first piece leaves nothing, and tells no lie."""
    how: Any = {"stream_mode": modes, "subgraphs": subgraphs}
    if kind == "stream":
        for _ in built().stream(USER, config(handler()), **how):
            break
    else:
        stream = built().astream(USER, config(handler()), **how)
        async for _ in stream:
            break
        await stream.aclose()
    for turn in turns_told(sink):
        assert turn[0] == ASKED
        assert [one["event"] for one in turn if one["event"] == "Generation"] == ["Generation"]
        assert turn[-1]["status"] == "incomplete"
    assert_nothing_left()
