"""What waits on disk, seen from outside: for the command line."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from .set_aside import aside_since_s
from .spool import MICRO, WRITER_BITS
from .spool_file import GIVE_BACK, connect, directory, spool_path

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_SPOOL = re.compile(r"[0-9a-f]{16}\.sqlite")


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


class Unread(NamedTuple):
    """A file that may hold events, and cannot be read.

    Attributes:
        path: The file.
        why: What is wrong with it.
        is_damaged: Whether nobody ever will.
    """

    path: Path
    why: str
    is_damaged: bool


class Found(NamedTuple):
    """What there is in a folder."""

    spools: list[Leftover]
    unread: list[Unread]


def leftovers(spool_dir: str | None) -> Found:
    """Return every spool in the folder, and what was one; other files are left out.

    Raises:
        OSError: It is there, and cannot be looked into: `Path.glob` would find nothing.
    """
    found = Found([], [])
    try:
        paths = sorted(directory(spool_dir).iterdir())
    except FileNotFoundError:
        return found
    for path in paths:
        if not _is_ours(path):
            continue
        if aside_since_s(path) is not None:
            found.unread.append(Unread(path, "it was no database, and is set aside", True))
            continue
        try:
            found.spools.append(look(path))
        except sqlite3.Error as error:
            is_damaged = type(error) is sqlite3.DatabaseError
            found.unread.append(Unread(path, str(error), is_damaged))
    return found


def look(path: Path) -> Leftover:
    """Return what waits in a spool.

    Raises:
        sqlite3.DatabaseError: It is no spool.
        sqlite3.OperationalError: It cannot be read now, or is not begun to the end.
    """
    with _opened(path) as db:
        events, oldest = db.execute("SELECT count(*), min(id) FROM event").fetchone()
        named = db.execute("SELECT value FROM about WHERE name = 'host'").fetchone()
    if named is None:
        raise sqlite3.OperationalError("it does not say for which host it is, yet")
    (host,) = named
    if not (isinstance(host, str) and host.isprintable() and isinstance(oldest, int | None)):
        raise sqlite3.DatabaseError("it is another kind of database")
    since_s = None if oldest is None else (oldest >> WRITER_BITS) / MICRO
    return Leftover(path, host, events, since_s)


def own_path(spool_dir: str | None, host: str, api_key: str | None) -> Path:
    """Return where the spool of this host and key is."""
    return spool_path(spool_dir, host, api_key)


def clear(leftover: Leftover) -> int:
    """Delete what waits; return how many events that were.

    Raises:
        OSError: It is not this user's.
        sqlite3.Error: It cannot be written now.
    """
    db = connect(leftover.path, leftover.host)
    try:
        number = db.execute("DELETE FROM event").rowcount
        db.executescript(GIVE_BACK.format(""))
    finally:
        db.close()
    return number


def _is_ours(path: Path) -> bool:
    """Tell whether it is called as a spool is, and a file: to read another kind can take for ever.

    The folder may be one that the app has for its own databases too.
    """
    is_named = _SPOOL.fullmatch(path.name) is not None or aside_since_s(path) is not None
    return is_named and path.is_file() and not path.is_symlink()


@contextlib.contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()
