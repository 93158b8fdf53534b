"""The command, in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import requests

from tests.collector.conftest import TIMEOUT_S, until
from trubrics_instrument.collector.fields import to_timestamp
from trubrics_instrument.collector.rows import to_row
from trubrics_instrument.collector.store import Store

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = """
import argparse, sys
from trubrics_instrument.collector.cli import add_parser
parser = argparse.ArgumentParser()
add_parser(parser.add_subparsers())
arguments = parser.parse_args()
sys.exit(arguments.run(arguments))
"""


def start(*arguments: str, before: str = "") -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-c", before + COMMAND, "collector", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fails(*arguments: str, before: str = "") -> str:
    """Run the command, which fails, and return what it says."""
    with start(*arguments, before=before) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (2, "")
    return err


def test_it_says_where_it_is_and_how_to_send_to_it(tmp_path: Path) -> None:
    """The printed address opens, and Ctrl-C ends it without a traceback."""
    with start("--port", "0", "--db", str(tmp_path / "db")) as process:
        assert process.stdout
        told = [process.stdout.readline() for _ in range(6)]
        url = told[0].split()[-1]
        assert url.startswith("http://127.0.0.1:")
        assert requests.get(url, timeout=TIMEOUT_S).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert told[4:] == [
        f"  export TRUBRICS_HOST={url}\n",
        "  trubrics-instrument run python app.py\n",
    ]
    assert (process.returncode, out, err) == (0, "", "")


def test_a_host_that_nobody_knows(tmp_path: Path) -> None:
    """Another port would be of no help."""
    told = fails("--host", "host.invalid", "--api-key", "k", "--db", str(tmp_path / "db"))
    assert told == "Cannot listen on host.invalid: no address of that name is known here.\n"


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    """No traceback, exit code 2, and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert fails("--port", str(port), "--db", str(tmp_path / "db")) == (
            f"Cannot listen on 127.0.0.1 port {port}: Address already in use. "
            "Another collector may be running; --port 0 picks a free port.\n"
        )


def test_a_missing_extra_is_one_clear_line(tmp_path: Path) -> None:
    """The command starts without starlette, to say what to install."""
    without = "import sys; sys.modules['starlette'] = None\n"
    before = without + "import importlib.util as u; real = u.find_spec\n"
    before += "u.find_spec = lambda name: None if name == 'starlette' else real(name)\n"
    assert fails("--db", str(tmp_path / "db"), before=before) == (
        "The collector needs starlette: pip install 'trubrics-instrument[collector]'\n"
    )


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    """What is no database of the collector is named and not touched."""
    file = tmp_path / "notes.txt"
    file.write_bytes(b"my notes, " * 200)
    assert fails("--port", "0", "--db", str(file)) == (
        f"{file} is not used: file is not a database\n"
    )
    assert file.read_bytes() == b"my notes, " * 200


def test_a_file_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    """A directory is no file."""
    assert fails("--port", "0", "--db", str(tmp_path)) == (
        f"Cannot open {tmp_path}: It is no regular file\n"
    )


def test_what_is_older_than_the_retention_is_deleted(tmp_path: Path) -> None:
    """From the start on, and every hour."""
    path = tmp_path / "db"
    now = datetime.now(timezone.utc)
    ages = (timedelta(days=3), timedelta(hours=23), timedelta(0))
    with closing(Store(path)) as store:
        store.add([to_row("ada", str(age), to_timestamp(now - age), {}) for age in ages]).result()
        with start("--port", "0", "--db", str(path), "--retention", "1d") as process:
            until(lambda: _events(store) == [str(age) for age in ages[1:]])
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)


def _events(store: Store) -> list[str]:
    with store.reading() as db:
        return [event for (event,) in db.execute("SELECT event FROM events ORDER BY id")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--retention", "soon"), "--retention soon: write it as 30d (days) or 12h (hours)\n"),
        (("--retention", "0d"), "--retention 0d: write it as 30d (days) or 12h (hours)\n"),
        (("--port", "70000"), "--port 70000: a port is a number from 0 to 65535\n"),
    ],
)
def test_an_impossible_value_is_one_clear_line(arguments: tuple[str, str], words: str) -> None:
    """Said before anything is opened."""
    assert fails(*arguments) == words
