"""`opentelemetry-instrument` finds us in every environment; without a key nothing happens."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from tests.zero_code.running import environ
from trubrics_instrument.zero_code.otel import TrubricsInstrumentor

if TYPE_CHECKING:
    from tests.loopback import Loopback

# What OpenTelemetry's loader does with each entry point.
LOADED = """
from importlib.metadata import entry_points
(entry,) = entry_points(group="opentelemetry_instrumentor", name="trubrics")
instrumentor = entry.load()()
instrumentor.instrument(skip_dep_check=True)
import openai
before = hasattr(openai.OpenAI.request, "__wrapped__")
instrumentor.uninstrument()
print(before, hasattr(openai.OpenAI.request, "__wrapped__"))
"""


def test_the_entry_point_is_declared() -> None:
    """It is found under the group's name, and needs no OpenTelemetry to be loaded."""
    (entry,) = entry_points(group="opentelemetry_instrumentor", name="trubrics")
    assert entry.load() is TrubricsInstrumentor


@pytest.mark.parametrize(
    ("variables", "patched"),
    [
        ({}, False),
        ({"TRUBRICS_HOST": "http://127.0.0.1:9"}, True),
        ({"TRUBRICS_API_KEY": "any"}, True),
        ({"TRUBRICS_API_KEY": "any", "TRUBRICS_ENABLED": "0"}, False),
    ],
)
def test_it_is_on_where_events_can_go(
    server: Loopback, variables: dict[str, str], patched: bool
) -> None:
    """Nobody who has not asked for it is observed, and it is taken off again."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=environ(server, None, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == (f"{patched} False\n", "")


def test_an_impossible_setting_costs_nothing(server: Loopback) -> None:
    """OpenTelemetry's own start goes on; what is wrong is one warning."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=environ(server, None, TRUBRICS_SPOOL="sometimes"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == "False False\n"
    assert "A fault in trubrics_instrument while starting from OpenTelemetry" in ran.stderr
