"""The reference has all that it is for, and so do the words on the architecture."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import trubrics_instrument
from tests.test_layers import FLOORS
from trubrics_instrument import _config, _events, configure
from trubrics_instrument._observing.reader import Usage

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", sorted({*trubrics_instrument.__all__} - {"__version__"}))
def test_public_names(name: str) -> None:
    """What can be imported is described."""
    assert f":: {name}\n" in (DOCS / "reference/python.md").read_text()


@pytest.mark.parametrize("name", inspect.signature(configure).parameters)
def test_options(name: str) -> None:
    """What can be configured is in the table, with its variable if it has one."""
    variable = f"`TRUBRICS_{name.upper()}`" if name in _config._FROM_ENVIRONMENT else ""
    assert f"| `{name}` | {variable}" in (DOCS / "reference/configuration.md").read_text()


@pytest.mark.parametrize("name", _events.EVENT_NAMES)
def test_events(name: str) -> None:
    """Each event that we send by ourselves is in the table."""
    assert f"| `{name}` | " in (DOCS / "reference/events.md").read_text()


@pytest.mark.parametrize("name", sorted(_events.OUR_NAMES | {*Usage._fields}))
def test_our_names(name: str) -> None:
    """Each name that is ours is in the table, the counts of tokens among them."""
    assert name in _events.OUR_NAMES
    lines = (DOCS / "reference/events.md").read_text().splitlines()
    assert any(f"`{name}`" in line.split(" | ")[0] for line in lines if line.startswith("| "))


@pytest.mark.parametrize("room", sorted(frozenset[str]().union(*FLOORS) - {"_version"}))
def test_rooms(room: str) -> None:
    """Each room stands on a floor of the page on the architecture."""
    words = (DOCS / "explanation/architecture.md").read_text()
    assert f"`{room}.py`" in words or f"`{room}/`" in words
