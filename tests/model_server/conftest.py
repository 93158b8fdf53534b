"""One model server for the folder, and clients that do not retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest
from model_server import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# The model server is for current SDKs: what is asked of it here, older ones cannot ask.
collect_ignore = (
    ["test_chat.py", "test_responses.py", "test_serving.py"] if openai.VERSION < "2" else []
)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Run one model server for a file: it keeps nothing that a test could trip over."""
    with running() as server:
        yield server.base_url


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    """Connect a client that does not retry."""
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=5) as client:
        yield client


@pytest.fixture
async def aclient(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Connect an asynchronous client that does not retry."""
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key="any", max_retries=0, timeout=5
    ) as client:
        yield client
