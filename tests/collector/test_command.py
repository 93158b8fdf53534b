"""The command, in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import requests

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
TIMEOUT_S = 30


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
        f"Cannot open {tmp_path}: Is a directory\n"
    )
