"""What the langchain tests share: clients of their own servers, and no runs of others."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.langchain.driving import assert_nothing_left
from trubrics_instrument._base import shield
from trubrics_instrument.langchain import model, observed, runs
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument.testing import Events


@pytest.fixture(autouse=True)
def fresh_clients(quick_clients: None) -> None:
    """Forget the clients that langchain-openai keeps by address: a port may come again."""
    with suppress(ImportError, AttributeError):
        from langchain_openai.chat_models import _client_utils

        _client_utils._cached_sync_httpx_client.cache_clear()
        _client_utils._cached_async_httpx_client.cache_clear()


@pytest.fixture(autouse=True)
def no_runs_of_others() -> Iterator[None]:
    """Forget the runs that a failed test left."""
    yield
    runs._open.clear()
    runs._watches.clear()
    observed._open.clear()
    model.awaiting.clear()


@pytest.fixture
def events() -> Iterator[Events]:
    """Collect what is told; nothing is left open, and no fault is ours."""
    with capture() as taken:
        yield taken
    assert_nothing_left()
    assert not shield.faults()
