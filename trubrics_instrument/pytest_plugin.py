"""The pytest plugin: the fixture `trubrics_events`; it imports next to nothing until it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument.testing import Events


@pytest.fixture
def trubrics_events() -> Iterator[Events]:
    """Give what the app would send to Trubrics in this test, as plain values."""
    from trubrics_instrument.testing import capture  # noqa: PLC0415 - see the first line

    with capture() as events:
        yield events
