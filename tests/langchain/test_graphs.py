"""The same for graphs and agents, where LangGraph is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("langchain.agents", reason="needs langchain 1.x")

from tests.langchain.driving import IN_NODES, KNOWS_V3, V3, Mode, Shape, assert_told, case_id, cases
from tests.langchain.graphs import GRAPHS as SHAPES

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio


GRAPHS = tuple(one._replace(marks=IN_NODES if one.events else {}) for one in SHAPES)
# There the message is a list of blocks, of which the workflow itself makes a text with `str()`.
WITHOUT_V3 = frozenset({"functional"})
IN_V3 = [one for one in GRAPHS if "events" in one.modes and one.name not in WITHOUT_V3]


@pytest.mark.parametrize(("shape", "mode"), cases(GRAPHS), ids=case_id)
async def test_shape(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each shape is told exactly as written beside it, in each of its modes."""
    await assert_told(shape, mode, sink)


@KNOWS_V3
@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize(
    ("shape", "mode"),
    cases(IN_V3, V3),
    ids=case_id,
)
async def test_v3(shape: Shape, mode: Mode, sink: Sink) -> None:
    """`stream_events` and `astream_events` of version 3 are told like any other stream."""
    await assert_told(shape, mode, sink)
