"""Where a user's files lie, for users without a home too."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import platformdirs

_NAME = "trubrics-instrument"
# A container's user may have no home. Nothing can be made below a device, so whoever tries to is
# told as of any other folder that cannot be written.
_NOWHERE = Path(os.devnull) / _NAME
_ROOT = 0
_OTHERS = 0o077


def state_folder() -> Path:
    """Return the folder for what waits to be delivered."""
    try:
        return _absolute(platformdirs.user_state_dir(_NAME))
    except RuntimeError:  # platformdirs 4.14 without a home; those before leave the "~" as it is
        return _NOWHERE


def data_folder() -> Path:
    """Return the folder for what was collected."""
    try:
        return _absolute(platformdirs.user_data_dir(_NAME, appauthor=False))
    except RuntimeError:
        return _NOWHERE


def is_there(path: Path) -> bool:
    """Whether a path exists, as far as this user may look."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where it must not look


def make_private(path: Path) -> None:
    """Make a file, or see that the one that is there is this user's own, and for nobody else.

    Whoever owns the folder may own the file too: they could put any file in its place, and some
    network file systems name one owner for all.
    It is not opened: to close it would take away the locks that SQLite has on it in this process.
    Source: sqlite.org, "How To Corrupt An SQLite Database File", 2.2.

    Raises:
        OSError: It cannot be made, or it is a link, or somebody else's.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        there = path.lstat()
        if not stat.S_ISREG(there.st_mode):
            raise PermissionError(errno.EPERM, "It is no regular file", str(path)) from None
        me = os.geteuid() if hasattr(os, "geteuid") else there.st_uid  # Windows has no such users
        if there.st_uid not in {me, path.parent.stat().st_uid} and me != _ROOT:
            raise PermissionError(errno.EPERM, "It belongs to another user", str(path)) from None
        if there.st_mode & _OTHERS:
            with contextlib.suppress(OSError):  # a file system may have no modes
                path.chmod(0o600)


def _absolute(folder: str) -> Path:
    path = Path(folder)
    return path if path.is_absolute() else _NOWHERE
