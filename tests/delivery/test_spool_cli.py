"""`trubrics-instrument spool` says what waits, sends it, or deletes it after asking."""

from __future__ import annotations

import argparse
import io
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.delivery.children import COUNT
from tests.delivery.faulty_server import FaultyServer, refuse, take
from tests.delivery.processes import run as run_child
from trubrics_instrument import spool_cli

if TYPE_CHECKING:
    from pathlib import Path


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    spool_cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["spool", *arguments])
    code: int = args.run(args)
    return code


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """Give a host for which 250 events wait on disk, and the configuration that fits."""
    server = FaultyServer(refuse(503))
    run_child("exit_at_once", server, "auto", tmp_path)
    monkeypatch.setenv("TRUBRICS_HOST", server.url)
    monkeypatch.setenv("TRUBRICS_API_KEY", "secret-key")
    monkeypatch.setenv("TRUBRICS_SPOOL_DIR", str(tmp_path))
    return server


def test_it_says_how_many_wait_for_whom(
    left: FaultyServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One line for each spool, in whichever way the folder is given."""
    with left:
        assert _run() == 0
        assert f"{COUNT} events wait for {left.url}, since 20" in capsys.readouterr().out
        monkeypatch.chdir(tmp_path)
        assert _run("list", "--dir", ".") == 0
        assert f"{COUNT} events wait for {left.url}, since 20" in capsys.readouterr().out


def test_an_empty_folder_is_said_to_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing to do is no failure."""
    assert _run("send", "--dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == "No event waits on disk.\n"


def test_a_folder_that_cannot_be_looked_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not said to be empty, and there is no traceback."""
    folder = tmp_path / ("x" * 300)
    assert _run("list", "--dir", str(folder)) == 1
    assert capsys.readouterr().err == f"Cannot look into {folder}: File name too long\n"
    folder = tmp_path / "file"
    folder.touch()
    assert _run("list", "--dir", str(folder)) == 1
    assert capsys.readouterr().err == f"Cannot look into {folder}: Not a directory\n"
    assert _run("list", "--dir", str(tmp_path / "none")) == 0


def test_an_impossible_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told in a line."""
    monkeypatch.setenv("TRUBRICS_SPOOL", "never")
    assert _run() == 2
    assert capsys.readouterr().err == (
        "TRUBRICS_SPOOL='never' is unknown: use one of auto, always, strict, off\n"
    )


@pytest.mark.parametrize("watched", [True, False])
def test_send_delivers_them_now(
    left: FaultyServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    watched: bool,
) -> None:
    """Each arrives once; a terminal shows how far it is, a log has nothing but the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: watched)
    with left:
        left.mood = take
        assert _run("send") == 0
        assert Counter(left.numbers()) == Counter(range(COUNT))
        said = capsys.readouterr()
        assert said.out == f"{COUNT} events were delivered to {left.url}, 0 refused.\n"
        *_, last = said.err.split("\r")
        assert last == (f"[{'#' * 30}] {COUNT} of {COUNT}\n" if watched else "")


def test_send_to_a_host_in_trouble_ends_and_keeps_them(
    left: FaultyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gives up after its patience, says why, and fails."""
    with left:
        assert _run("send", "--patience", "0.5") == 1
        assert f"{COUNT} still wait: HTTP 503." in capsys.readouterr().out
        assert _run() == 0
        assert f"{COUNT} events wait" in capsys.readouterr().out


def test_send_without_the_key_says_what_is_missing(
    left: FaultyServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is not on disk, so it must be given."""
    monkeypatch.delenv("TRUBRICS_HOST")
    with left:
        assert _run("send") == 1
        assert "set TRUBRICS_HOST and TRUBRICS_API_KEY" in capsys.readouterr().out


def test_send_with_another_key_than_the_wrong_one(
    left: FaultyServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tracked with a wrong key goes with the right one, if it is said so."""
    monkeypatch.setenv("TRUBRICS_API_KEY", "another-key")
    with left:
        left.mood = take
        assert _run("send") == 1
        assert "with another key: set that, or add --any-key" in capsys.readouterr().out
        assert _run("send", "--any-key") == 0
        assert Counter(left.numbers()) == Counter(range(COUNT))
        assert _run() == 0
        assert capsys.readouterr().out.endswith("No event waits on disk.\n")


@pytest.mark.parametrize(("answer", "waiting"), [("y\n", 0), ("\n", COUNT)])
def test_clear_asks_first(
    left: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    waiting: int,
) -> None:
    """Only a yes deletes."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    with left:
        assert _run("clear") == (1 if waiting else 0)
        capsys.readouterr()
        assert _run() == 0
        assert capsys.readouterr().out.startswith(f"{waiting or 'No'} event")
