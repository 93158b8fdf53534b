"""Fixtures for the web tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.web.serving import Model
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback


@pytest.fixture
def model(server: Loopback) -> Iterator[Model]:
    """Give a model that repeats the question, observed."""
    patch_openai()
    ready = Model(server)
    yield ready
    ready.client.close()
