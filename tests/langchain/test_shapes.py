"""Whatever an app is built like: one prompt, one answer, nothing else, and nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.langchain.chains import BARE, CHAINS
from tests.langchain.driving import KNOWS_V3, V3, Mode, Shape, assert_told, case_id, cases

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    # Deprecated since langchain-core 1.6, and in use everywhere.
    pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated"),
]


# Source: langchain-core 1.8.3, where it raises NotImplementedError.
WITHOUT_V3 = frozenset({"text model"})
IN_V3 = [one for one in BARE if one.name not in WITHOUT_V3]


@pytest.mark.parametrize(("shape", "mode"), cases((*BARE, *CHAINS)), ids=case_id)
async def test_shape(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each shape is told exactly as written beside it, in each of its modes."""
    await assert_told(shape, mode, sink)


@KNOWS_V3
@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize(("shape", "mode"), cases(IN_V3, V3), ids=case_id)
async def test_v3(shape: Shape, mode: Mode, sink: Sink) -> None:
    """`stream_events` and `astream_events` of version 3 are told like any other stream."""
    await assert_told(shape, mode, sink)
