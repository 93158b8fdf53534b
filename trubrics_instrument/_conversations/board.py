"""What the processes of one machine know together of their conversations, in shared memory.

A table of fixed size: numbers that stand for what was said, and the thread where it was. There is
no text in it, and no lock around it: an entry that another process is writing fails its checksum,
and is then not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import sys
import time
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from trubrics_instrument._base.uuids import uuid_bytes, uuid_text

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path("/dev/shm")  # noqa: S108 - memory, not disk; the file is the user's own, see `_open`
# A name, its thread, and their checksum: that of the thread, over which the name is laid.
_ENTRY = Struct("<q16sq")
_NAME_BYTES = 8
_BUCKET_BYTES = 4 * _ENTRY.size
_BUCKETS = 16_384
BOARD_BYTES = _BUCKETS * _BUCKET_BYTES
# Whoever lays entries out in another way has another file.
_LAYOUT = 3
_OURS_ALONE = 0o600
_KEPT_S = 30 * 24 * 3600
# Each takes memory, and a test suite may have a project for each of its runs.
_KEPT = 8
_DIGITS = 24  # of a file's name


def number_as_id(number: int) -> str:
    """Return a number of 48 bits as what a board takes."""
    return f"00000000-0000-0000-0000-{number:012x}"


def number_in(value: str) -> int:
    """Return the number that was put on a board."""
    return int(value[-12:], 16)


class Board:
    """A bounded map from names (numbers of 64 bits) to threads that are UUIDs as we make them.

    A bucket has its entries in the order in which they were noted, and forgets the oldest.

    Args:
        memory: `BOARD_BYTES` of it, all zeros at first.
    """

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory

    def get(self, name: int) -> str | None:
        """Return the thread that was noted last under this name, by any process."""
        start = name % _BUCKETS * _BUCKET_BYTES
        key = name.to_bytes(_NAME_BYTES, "little", signed=True)
        found = self._memory.find(key, start, start + _BUCKET_BYTES)
        if found < 0:
            return None
        # Another process may be writing here: then name, thread and checksum do not fit together.
        _, thread, checksum = _ENTRY.unpack_from(self._memory, found - found % _ENTRY.size)
        return uuid_text(thread) if checksum == crc32(thread) ^ name else None

    def put(self, names: Iterable[int], thread_id: str) -> None:
        """Note a thread under names; one that the app has named stays unknown."""
        thread = uuid_bytes(thread_id)
        if thread is None:
            return
        memory, checksum = self._memory, crc32(thread)
        for name in names:
            entry = _ENTRY.pack(name, thread, checksum ^ name)
            start = name % _BUCKETS * _BUCKET_BYTES
            gone = memory.find(entry[:_NAME_BYTES], start, start + _BUCKET_BYTES)
            if gone < 0 or gone % _ENTRY.size:
                gone = start + _BUCKET_BYTES - _ENTRY.size
            memory[start : gone + _ENTRY.size] = entry + memory[start:gone]


def shared_board(project: str, folder: Path = FOLDER) -> Board | None:
    """Return the board of a project (its host and key) that this user's processes share.

    None where there is no such memory, no room in it, or where the file is somebody else's.
    """
    if sys.platform != "linux":
        return None
    name = hashlib.sha256(f"{_LAYOUT}\0{os.getuid()}\0{project}".encode()).hexdigest()[:_DIGITS]
    try:
        board = Board(_open(folder / f"trubrics-{name}"))
    except OSError:
        return None
    with contextlib.suppress(OSError):  # another process may be doing the same
        _sweep(folder)
    return board


def _open(path: Path) -> mmap.mmap:
    """Map the file, made if it is not there; a link or a file of another user is refused."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, _OURS_ALONE)
    try:
        about = os.fstat(descriptor)
        if about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077:
            raise PermissionError(f"{path.name} is not this user's alone")
        # All of it is taken now: memory that is not there when it is written to ends the process.
        # The file's time tells `_sweep` that it is in use.
        os.posix_fallocate(descriptor, 0, BOARD_BYTES)
        # Held by the mapping, until the last process that has it ends; without waiting for whoever
        # is removing the file now.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return mmap.mmap(descriptor, BOARD_BYTES)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove this user's boards that no process uses, if they are old or too many."""
    boards = folder.glob(f"trubrics-{'[0-9a-f]' * _DIGITS}")
    found = [(path.lstat(), path) for path in boards]
    ours = [(about.st_mtime, path) for about, path in found if about.st_uid == os.getuid()]
    for position, (opened_s, path) in enumerate(sorted(ours, reverse=True)):
        if position >= _KEPT or time.time() - opened_s > _KEPT_S:
            _remove_unused(path)


def _remove_unused(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(BlockingIOError):  # some process has it open
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)
