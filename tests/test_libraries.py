"""One table has the libraries that we observe: whoever needs them all has them from there."""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.provider import parrot
from tests.provider.one_file import patch_parrot
from trubrics_instrument import zero_code
from trubrics_instrument._libraries import LIBRARIES, Library
from trubrics_instrument.doctor import installed, patched
from trubrics_instrument.doctor.finding import Finding
from trubrics_instrument.zero_code import imports, otel

# Any package that nobody has imported by then.
PATCHED = "tests.sdk"
PARROT = Library("parrot", parrot.__name__, patch_parrot, PATCHED)
SITE = Path(zero_code.__file__).parent / "_site" / "sitecustomize.py"


def watched() -> tuple[str, ...]:
    """Return what the start of a process watches, which imports nothing of ours to know it."""
    tree = ast.parse(SITE.read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WATCHED"
    )
    found: tuple[str, ...] = ast.literal_eval(value)
    return found


def test_each_is_watched_and_examined() -> None:
    """What has no access to the table, or has other names, knows the same libraries."""
    assert watched() == tuple(one.module for one in LIBRARIES)
    distributions = tuple(one.module.replace("_", "-") for one in LIBRARIES)
    assert distributions == installed.OBSERVED
    assert {*installed.OBSERVED} <= installed.OLDEST.keys()
    assert all(find_spec(one.patched) for one in LIBRARIES)


@pytest.mark.usefixtures("one_more")
def test_one_more_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library is said to be off, or is tried by what it has patched."""
    monkeypatch.delitem(sys.modules, PATCHED, raising=False)
    assert found(app=True)[:3] == ("parrot patch", "note", "off")
    assert PATCHED not in sys.modules
    assert found(app=False) == Finding("parrot patch", "ok", "can be put on")
    assert PATCHED in sys.modules


@pytest.mark.usefixtures("one_more")
def test_one_more_is_patched_without_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put on with all others, and taken off with them."""
    monkeypatch.setenv("TRUBRICS_HOST", "http://127.0.0.1:9")
    instrumentor = otel.TrubricsInstrumentor()
    instrumentor.instrument()
    assert hasattr(parrot.Parrot.chat, "__wrapped__")
    instrumentor.uninstrument()
    assert not hasattr(parrot.Parrot.chat, "__wrapped__")


def found(*, app: bool) -> Finding:
    """Return what the doctor finds of one more library."""
    return next(one for one in patched.patched(app=app) if one.check == "parrot patch")


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one more library observed."""
    for room in (patched, imports, otel):
        monkeypatch.setattr(room, "LIBRARIES", (*LIBRARIES, PARROT))
