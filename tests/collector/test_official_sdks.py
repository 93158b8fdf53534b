"""Trubrics' own SDKs, unchanged, pointed at the collector.

They are installed when the tests run, beside and not into the environment of this project.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.strict import STRICT_PYTHON

if TYPE_CHECKING:
    from pathlib import Path

    from tests.collector.conftest import Collector

INSTALL_TIMEOUT_S = 100
RUN_TIMEOUT_S = 60

PYTHON_SDK = """
import sys
from datetime import datetime, timezone
from trubrics import Trubrics
trubrics = Trubrics(api_key="any", host=sys.argv[1], flush_periodic_check=0.05)
at = datetime(2026, 1, 1, 10, tzinfo=timezone.utc)
trubrics.track("ada", "Sign in", {"plan": "pro"}, timestamp=at)
trubrics.track_llm("ada", "Why?", "Because.", assistant_id="gpt-4o", timestamp=at, latency=2,
                   thread_id="t-1", properties={"plan": "pro"})
trubrics.track_llm("ada", "And?", "So.", timestamp=at)
trubrics.close()
"""
BETA_SDK = """
import sys
from trubrics_beta import Trubrics
trubrics = Trubrics(api_key="any", host=sys.argv[1])
trubrics.track("ada", "Sign in", {"plan": "pro"})
trubrics.executor.shutdown()
"""
JAVASCRIPT_SDK = """
import { Trubrics } from "@trubrics/trubrics";
const trubrics = new Trubrics({ apiKey: "any", host: process.argv[2] });
const timestamp = new Date(Date.UTC(2026, 0, 1, 10));
trubrics.track({ user_id: "ada", event: "Sign in", properties: { plan: "pro" }, timestamp });
trubrics.trackLLM({ user_id: "ada", prompt: "Why?", generation: "Because.", latency: 2,
                    assistant_id: "gpt-4o", thread_id: "t-1", timestamp });
await trubrics.flush();
process.exit(0);
"""
STORED = "SELECT kind, timestamp, text, thread_id, assistant_id FROM events ORDER BY id"
AT = "2026-01-01T10:00:00.000Z"
ASKED = ("prompt", "2026-01-01T09:59:58.000Z", "Why?", "t-1", None)
ANSWERED = ("generation", AT, "Because.", "t-1", "gpt-4o")


def _install(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the SDK could not be installed: {' '.join(command[-2:])} ({error})")


def _run_python(script: str, package: str, host: str, folder: Path) -> str:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    _install([*pip, "--target", str(folder), package], folder)
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{script}"
    return _run([*STRICT_PYTHON, "-c", code, host], folder)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("prefix", ["", "/api/ingestion"])
def test_the_python_sdk_works_unchanged(server: Collector, tmp_path: Path, prefix: str) -> None:
    """`trubrics` 1.8.5: events, conversations, and no retry, which it would wait 5 s for."""
    said = _run_python(PYTHON_SDK, "trubrics==1.8.5", server.url + prefix, tmp_path)
    assert ("Error" in said, "Retrying" in said) == (False, False)
    assert server.select(STORED) == [
        ("other", AT, None, None, None),
        ASKED,
        ANSWERED,
        ("prompt", "2026-01-01T09:59:59.000Z", "And?", None, None),
        ("generation", AT, "So.", None, None),
    ]


def test_the_beta_python_sdk_works_unchanged(server: Collector, tmp_path: Path) -> None:
    """`trubrics-beta` 0.3.0 posts one event at a time."""
    _run_python(BETA_SDK, "trubrics-beta==0.3.0", server.url, tmp_path)
    assert server.select("SELECT user_id, event, properties FROM events") == [
        ("ada", "Sign in", '{"plan":"pro"}')
    ]


def test_the_javascript_sdk_works_unchanged(server: Collector, tmp_path: Path) -> None:
    """`@trubrics/trubrics` 0.5.25, in Node."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        pytest.skip("Node and npm are needed for the JavaScript SDK")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    _install([npm, "install", "--no-audit", "--no-fund", "@trubrics/trubrics@0.5.25"], tmp_path)
    (tmp_path / "send.js").write_text(JAVASCRIPT_SDK)
    assert "Error" not in _run([node, "send.js", f"{server.url}/api/ingestion"], tmp_path)
    assert server.select(STORED) == [("other", AT, None, None, None), ASKED, ANSWERED]
