"""A pytest plugin for LangChain's own tests: the same, with a handler of ours on every run.

It runs in LangChain's environment, beside LangChain's own `tests` package, so it uses nothing of
ours but the package itself and the plugin for openai's tests.
"""

from __future__ import annotations

import http.server
import os
import threading

import openai_sdk_plugin  # type: ignore[import-not-found] # it stands beside, on PYTHONPATH
from openai_sdk_plugin import pytest_runtest_logreport

__all__ = ["pytest_configure", "pytest_runtest_logreport", "pytest_sessionfinish"]


def pytest_configure() -> None:
    """Put the handler on, before LangChain is imported."""
    if not os.environ.get("TRUBRICS_PATCHED"):
        return
    import trubrics_instrument

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), openai_sdk_plugin._Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trubrics_instrument.configure(host=f"http://127.0.0.1:{server.server_port}", spool="off")
    trubrics_instrument.patch_langchain()


def pytest_sessionfinish() -> None:
    """Leave a report, in which a run of ours that is left over counts as a fault."""
    if os.environ.get("TRUBRICS_PATCHED"):
        import gc

        from trubrics_instrument._shield import _faults
        from trubrics_instrument.langchain import runs

        gc.collect()
        if runs.count():
            _faults["runs left over"] = runs.count()
    openai_sdk_plugin.pytest_sessionfinish()
