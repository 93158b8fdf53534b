"""Other instrumentations of the same SDK at once: each sees each question once, in any order.

They run in an environment of their own: `make test-versions ARGS=others`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    "openinference": "openinference",
    "opentelemetry": "opentelemetry.instrumentation.openai_v2",
    "langfuse": "langfuse",
    "logfire": "logfire",
}
EACH = ["Prompt", "Generation"] * 4  # one pair for each way to ask
FOREVER = {"langfuse"}  # has no way to take it off


def observed(name: str, order: str) -> dict[str, Any]:
    """Return what both saw in each stage, in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.openai.beside", name, order],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return stages


@pytest.mark.parametrize("off", ["ours-off-first", "theirs-off-first"])
@pytest.mark.parametrize("on", ["ours-on-first", "theirs-on-first"])
@pytest.mark.parametrize("name", MODULES)
def test_beside(name: str, on: str, off: str) -> None:
    """Both see each question once, the app's answers stay, and each leaves the other in place."""
    pytest.importorskip(MODULES[name], reason=f"{name} is not installed")
    stages = observed(name, f"{on},{off}")
    answers = stages["nobody"]["answers"]
    spans = stages["both"]["spans"]
    assert [stage["answers"] for stage in stages.values()] == [answers] * len(stages)
    assert {what: stage["events"] for what, stage in stages.items()} == _our_events(name, off)
    assert len(spans) >= len(answers)
    for what, stage in stages.items():
        theirs = what in {"both", "only theirs"} or (name in FOREVER and what == "ours again")
        assert stage["spans"] == (spans if theirs else []), what


def _our_events(name: str, off: str) -> dict[str, list[str]]:
    """Return the events of each stage."""
    ends = {"nobody again": [], "ours again": EACH}
    if name in FOREVER:
        return {"nobody": [], "both": EACH, "only theirs": [], "ours again": EACH}
    if off == "ours-off-first":
        return {"nobody": [], "both": EACH, "only theirs": [], **ends}
    return {"nobody": [], "both": EACH, "only ours": EACH, **ends}
