"""The code in README.md and docs/ runs as tests, against servers on this machine."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

sys.path.insert(0, str(Path(__file__).parent / "examples"))

import model_server

import trubrics_instrument
from tests.sink import Sink
from trubrics_instrument import _runtime
from trubrics_instrument._base import shield

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of who runs the same tests many times, at one version after the other."""
    text = "repeat a tenth as often what is repeated thousands of times"
    parser.addoption("--fewer", action="store_true", help=text)


@pytest.fixture(scope="module")
def a_users_machine(request: pytest.FixtureRequest) -> Iterator[Sink]:
    """Give a page's code a model to talk to and a host to deliver to, and see that it did."""
    before = dict(os.environ)
    with model_server.running() as models, Sink() as sink:
        os.environ |= {
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": models.base_url,
            "TRUBRICS_HOST": sink.host,
            "TRUBRICS_SPOOL": "off",
        }
        shield.forget_faults()  # those of a test that ran before, in the same process
        trubrics_instrument.configure()
        yield sink
        trubrics_instrument.unpatch_openai()
        assert trubrics_instrument.flush(5)
        if "patch_openai" in request.node.path.read_text():
            assert {event["event"] for event in sink.events} >= {"Prompt", "Generation"}
        assert trubrics_instrument.stats().faults == {}
        trubrics_instrument.shutdown(2)
        _runtime.forget()
    os.environ.clear()
    os.environ |= before


def end_the_program(namespace: dict[str, Any]) -> None:
    """Let go of a page's clients, that no page closes, before a test is blamed for them."""
    namespace.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("python", PythonEvaluator())],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    teardown=end_the_program,
    fixtures=["a_users_machine"],
).pytest()
