"""`trubrics-instrument spool` says what waits, sends it, or deletes it after asking."""

from __future__ import annotations

import argparse
import io
import os
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.delivery.children import COUNT
from tests.delivery.faulty_server import FaultyServer, refuse, take
from tests.delivery.processes import run as run_child
from trubrics_instrument import spool_cli
from trubrics_instrument._delivery.spool_file import SCHEMA

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


def test_a_damaged_spool_is_shown_and_cleared(
    left: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Set aside or not found out yet: it holds what people wrote."""
    (spool,) = tmp_path.glob("*.sqlite")
    aside = tmp_path / f"{spool.name}.corrupt-1000-7"
    aside.write_bytes(b"a private question")
    torn = tmp_path / f"{'f' * 16}.sqlite"
    torn.write_bytes(b"a private question" * 100)
    shown = (
        f"{aside} cannot be read: it was no database, and is set aside; spool clear deletes it\n"
        f"{torn} cannot be read: file is not a database; spool clear deletes it\n"
    )
    with left:
        assert _run() == 0
        waiting, _, unread = capsys.readouterr().out.partition("\n")
        assert (waiting.startswith(f"{COUNT} events wait"), unread) == (True, shown)
        assert _run("clear", "--yes") == 0
        deleted = "250 events were deleted.\n2 files were deleted that could not be read.\n"
        assert capsys.readouterr().out == f"{waiting}\n{shown}{deleted}"
        assert (aside.exists(), torn.exists(), spool.exists()) == (False, False, True)
        assert _run() == 0
        assert capsys.readouterr().out == "No event waits on disk.\n"


def test_a_spool_that_is_only_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever goes on with it writes the host: it is no damage."""
    path = tmp_path / f"{'a' * 16}.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
    said = f"{path} cannot be read: it does not say for which host it is, yet\n"
    assert _run("list", "--dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == said
    assert _run("clear", "--yes", "--dir", str(tmp_path)) == 1
    assert capsys.readouterr().out == f"{said}Nothing was deleted.\n"
    assert path.exists()


@pytest.mark.parametrize(
    ("host", "first"), [("h", "one"), (7, 1), ("h\nno event waits", 1), ("\x1b[2Jh", 1)]
)
def test_another_kind_of_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: object, first: object
) -> None:
    """There is no traceback, and nothing of it is said."""
    path = tmp_path / f"{'a' * 16}.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE about (name, value); CREATE TABLE event (id);")
        db.execute("INSERT INTO about VALUES ('host', ?)", (host,))
        db.execute("INSERT INTO event VALUES (?)", (first,))
        db.commit()
    assert _run("list", "--dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == (
        f"{path} cannot be read: it is another kind of database; spool clear deletes it\n"
    )


def test_a_terminal_is_told_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What SQLite says of a file may be the file's own words."""
    path = tmp_path / f"{'a' * 16}.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            'CREATE TABLE "\x1b[2J" (id); PRAGMA writable_schema = ON;'
            "UPDATE sqlite_master SET sql = 'CREATE TABLE (';"
        )
    assert _run("list", "--dir", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{path} cannot be read: malformed database schema ([2J)")
    assert "\x1b" not in said


def test_what_is_no_file_of_ours_is_not_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe would hang, and the app may have databases of its own there."""
    os.mkfifo(tmp_path / f"{'a' * 16}.sqlite")
    (tmp_path / f"{'b' * 16}.sqlite").mkdir()
    (tmp_path / f"{'c' * 16}.sqlite").symlink_to(tmp_path / "app.sqlite")
    os.mkfifo(tmp_path / f"{'d' * 16}.sqlite.corrupt-1000-7")
    (tmp_path / "app.sqlite").write_bytes(b"no database" * 100)
    assert _run("clear", "--yes", "--dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == "No event waits on disk.\n"
    assert len(list(tmp_path.iterdir())) == 5
