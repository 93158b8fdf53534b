"""A pytest plugin for LangChain's own tests: the same, with a handler of ours on every run.

It runs in LangChain's environment, beside LangChain's own `tests` package, so it uses nothing of
ours but the package itself and the plugin for openai's tests.
"""

from __future__ import annotations

import gc
import http.server
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import langchain_witness as witness  # type: ignore[import-not-found] # both stand beside, on
import openai_sdk_plugin  # type: ignore[import-not-found] # PYTHONPATH
import pytest
from openai_sdk_plugin import pytest_runtest_logreport

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_runtest_logreport",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
]


def pytest_configure() -> None:
    """Put the handler on, before LangChain is imported."""
    if not os.environ.get("TRUBRICS_PATCHED"):
        return
    import trubrics_instrument

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), openai_sdk_plugin._Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trubrics_instrument.configure(host=f"http://127.0.0.1:{server.server_port}", spool="off")
    trubrics_instrument.patch_langchain()


def pytest_collection_finish() -> None:
    """Make the collections quick that come after each test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Judge what a test's runs are told as."""
    if not os.environ.get("TRUBRICS_PATCHED"):
        return (yield)
    with witness.witnessed(item.nodeid):
        return (yield)


def pytest_sessionfinish() -> None:
    """Leave a report, in which a run of ours that is left over counts as a fault."""
    if os.environ.get("TRUBRICS_PATCHED"):
        from trubrics_instrument._base.shield import _faults

        gc.collect()
        _faults.update(witness.left_over())
    openai_sdk_plugin.pytest_sessionfinish()
    report = Path(os.environ["TRUBRICS_REPORT"])
    # What was told, and not what has arrived: a cassette lets nothing else onto the network.
    own = {"events": dict(sorted(witness.told.items())), "broken": witness.broken}
    known = json.loads(report.read_text(encoding="utf-8")) | own
    report.write_text(json.dumps(known), encoding="utf-8")
