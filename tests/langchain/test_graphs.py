"""The same for graphs and agents, where LangGraph is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("langchain.agents", reason="needs langchain 1.x")

from tests.langchain.driving import (
    Mode,
    Shape,
    assert_nothing_left,
    case_id,
    cases,
    drive_shape,
    expected,
    turns_told,
)
from tests.langchain.graphs import GRAPHS

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("shape", "mode"), cases(GRAPHS), ids=case_id)
async def test_shape(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each shape is told exactly as written beside it, in each of its modes."""
    await drive_shape(shape, mode)
    assert turns_told(sink) == expected(shape, mode)
    assert_nothing_left()
