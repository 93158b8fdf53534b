"""What every command of ours needs: where it is added, and what it writes to who runs it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import argparse

USAGE_ERROR = 2
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns; argparse has no public name for it."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's name
        """Add a command."""
        ...


def say(line: str = "") -> None:
    """Write a line for people."""
    sys.stdout.write(f"{_plain(line)}\n")
    sys.stdout.flush()


def redraw(line: str, end: str = "") -> None:
    """Write how far something is over the line before, where somebody watches.

    A log, such as cron's or a build's, would keep each of these lines.
    """
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}{end}")
        sys.stderr.flush()


def fail(line: str, code: int = USAGE_ERROR) -> int:
    """Write what is wrong, and return the exit code for it."""
    sys.stderr.write(f"{_plain(line)}\n")
    return code


def _plain(text: str) -> str:
    """Leave out what a terminal obeys: it may come from a file that somebody else has written."""
    return _CONTROL.sub("", text)
