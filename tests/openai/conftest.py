"""Fixtures for the tests of the OpenAI client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.openai.chatbot import Bot
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback


@pytest.fixture(autouse=True)
def as_quick_clients(quick_clients: None) -> None:
    """Have all the tests' clients made quickly."""


@pytest.fixture
def bots(server: Loopback) -> Iterator[Any]:
    """Give a maker of chatbots, observed."""
    patch_openai()
    made: list[Bot] = []

    def make(window: int = 100) -> Bot:
        made.append(Bot(server, window))
        return made[-1]

    yield make
    for bot in made:
        bot.client.close()
