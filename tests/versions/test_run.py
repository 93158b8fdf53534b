"""The runner of versions: it looks where pip looks, and neither a hang nor a skip is a pass."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import environments
from tests.versions import run
from tests.versions.matrix import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep what a run leaves out of the real environments."""
    monkeypatch.setattr(run, "HOME", tmp_path)
    environments.pip_settings.cache_clear()
    yield tmp_path
    environments.pip_settings.cache_clear()


def suite_of(home: Path, code: str, ends_at_s: float) -> run.Outcome:
    """Run a pytest whose only module has this code, with the Python of the tests."""
    module = home / "test_it.py"
    module.write_text(code, encoding="utf-8")
    suites = run.Suites([], ends_at_s, fresh=False)
    return asyncio.run(suites._tested(Environment("it", (), (str(module),)), Path(sys.executable)))


def test_uv_looks_where_pip_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that pip is told of in the environment is one of uv's, before any in a file."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://one.invalid https://two.invalid")
    options = list(environments._where_pip_looks())
    indexes = [value for name, value in itertools.pairwise(options) if name == "--index"]
    assert indexes == ["https://one.invalid", "https://two.invalid"]


def test_no_such_python() -> None:
    """A Python that is not on the machine is none, whatever a shim says."""
    assert environments.find_python("3.99") is None
    assert environments.find_python("") is None


def test_a_deadline(home: Path) -> None:
    """A suite that hangs is ended when its time is up, and did not pass."""
    start_s = time.monotonic()
    outcome = suite_of(home, "def test(): __import__('time').sleep(60)", start_s + 2)
    assert time.monotonic() - start_s < 30
    assert not outcome.passed
    assert outcome.told.startswith("FAILED: STOPPED at the deadline")


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        ("def test(): pass", True),
        ("def test(): assert False", False),
        ("import pytest\ndef test(): pytest.skip('nothing is installed')", False),
        ("", False),
    ],
    ids=["passes", "fails", "skips", "empty"],
)
def test_what_passes(home: Path, code: str, *, passed: bool) -> None:
    """Only a suite in which a test passed and none failed has passed: all skipped has not."""
    assert suite_of(home, code, time.monotonic() + 60).passed is passed


def test_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that cannot be built is a failure, with uv's words for it."""
    monkeypatch.setattr(run, "built", _refuse)
    suites = run.Suites([], time.monotonic() + 60, fresh=False)
    outcome = asyncio.run(suites.run(Environment("it", ("nothing",), ())))
    assert outcome == run.Outcome("it", passed=False, told="NOT BUILT: no such version")


def _refuse(*_: object, **__: object) -> Path:
    raise environments.NotBuiltError("no such version")
