"""What waits on disk, seen from outside: for the command line."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from .spool import MICRO, WRITER_BITS
from .spool_file import GIVE_BACK, connect, directory, spool_path

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class Leftover(NamedTuple):
    """One spool.

    Attributes:
        path: Its file.
        host: Where its events are to go.
        events: How many wait.
        since_s: When the oldest was tracked, in seconds since the epoch; None when none waits.
    """

    path: Path
    host: str
    events: int
    since_s: float | None


def leftovers(spool_dir: str | None) -> list[Leftover]:
    """Return every spool in the folder; a file that is no spool is left out.

    Raises:
        OSError: It is there, and cannot be looked into: `Path.glob` would find nothing.
    """
    found: list[Leftover] = []
    try:
        paths = sorted(directory(spool_dir).iterdir())
    except FileNotFoundError:
        return found
    for path in paths:
        if path.suffix == ".sqlite":
            with contextlib.suppress(sqlite3.Error):
                found.append(look(path))
    return found


def look(path: Path) -> Leftover:
    """Return what waits in a spool.

    Raises:
        sqlite3.Error: It is no spool.
    """
    with _opened(path) as db:
        events, oldest = db.execute("SELECT count(*), min(id) FROM event").fetchone()
        (host,) = db.execute("SELECT value FROM about WHERE name = 'host'").fetchone()
    since_s = None if oldest is None else (oldest >> WRITER_BITS) / MICRO
    return Leftover(path, host, events, since_s)


def own_path(spool_dir: str | None, host: str, api_key: str | None) -> Path:
    """Return where the spool of this host and key is."""
    return spool_path(spool_dir, host, api_key)


def clear(leftover: Leftover) -> int:
    """Delete what waits; return how many events that were."""
    db = connect(leftover.path, leftover.host)
    try:
        number = db.execute("DELETE FROM event").rowcount
        db.executescript(GIVE_BACK.format(""))
    finally:
        db.close()
    return number


@contextlib.contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()
