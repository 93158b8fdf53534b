"""A pytest plugin for the SDK's own tests: note how each ends, with our patch on if asked for.

It runs in the SDK's environment, beside the SDK's own `tests` package, so it uses nothing of ours
but the package itself.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_outcomes: dict[str, str] = {}
_delivered: list[str] = []


class _Sink(http.server.BaseHTTPRequestHandler):
    """An ingestion endpoint that takes everything; some tests forbid every new connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a batch of events."""
        body: list[dict[str, str]] = json.loads(
            self.rfile.read(int(self.headers["content-length"]))
        )
        _delivered.extend(event["event"] for event in body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


def pytest_configure() -> None:
    """Put the patch on, before the SDK is imported."""
    if not os.environ.get("TRUBRICS_PATCHED"):
        return
    import trubrics_instrument

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trubrics_instrument.configure(host=f"http://127.0.0.1:{server.server_port}", spool="off")
    trubrics_instrument.patch_openai()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how one phase of a test ended, and by which exception."""
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    # The message may hold an address or a port; the exception's name and the line do not.
    why = f" {crash.message.partition(':')[0][:80]} line {crash.lineno}" if crash else ""
    known = _outcomes.get(report.nodeid, "")
    _outcomes[report.nodeid] = f"{known} {report.when}:{report.outcome}{why}".strip()


def pytest_sessionfinish() -> None:
    """Leave a report for whoever compares the two runs."""
    faults: dict[str, int] = {}
    if os.environ.get("TRUBRICS_PATCHED"):
        import trubrics_instrument

        trubrics_instrument.flush(10)
        faults = dict(trubrics_instrument.stats().faults)
    told = {name: _delivered.count(name) for name in sorted(set(_delivered))}
    report = {"outcomes": _outcomes, "events": told, "faults": faults}
    Path(os.environ["TRUBRICS_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
