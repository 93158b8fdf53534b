"""What the langchain tests share: quick garbage collections, and clients of their own servers."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

# They collect garbage often: what is there before them is not worth a look.
gc.freeze()


@pytest.fixture(autouse=True)
def fresh_clients() -> None:
    """Forget the clients that langchain-openai keeps by address: a port may come again."""
    with suppress(ImportError, AttributeError):
        from langchain_openai.chat_models import _client_utils

        _client_utils._cached_sync_httpx_client.cache_clear()
        _client_utils._cached_async_httpx_client.cache_clear()
