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
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from trubrics_instrument._uuids import uuid_bytes, uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path("/dev/shm")  # noqa: S108 - memory, not disk; the file is the user's own, see `_open`
# Name and thread; and the checksum of these.
_NAME_BYTES = 8
_NOTED_BYTES = _NAME_BYTES + 16
_SUM_BYTES = 8
_ENTRY_BYTES = _NOTED_BYTES + _SUM_BYTES
_BUCKET_BYTES = 4 * _ENTRY_BYTES
_BUCKETS = 16_384
BOARD_BYTES = _BUCKETS * _BUCKET_BYTES
# Whoever lays entries out in another way has another file.
_LAYOUT = 2
_OURS_ALONE = 0o600
_KEPT_S = 30 * 24 * 3600


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
        bucket = self._memory[start : start + _BUCKET_BYTES]
        offset = _place_of(name.to_bytes(_NAME_BYTES, "little", signed=True), bucket)
        if offset is None:
            return None
        noted = bucket[offset : offset + _NOTED_BYTES]
        whole = bucket[offset + _NOTED_BYTES : offset + _ENTRY_BYTES] == _checksum(noted)
        return uuid_text(noted[_NAME_BYTES:]) if whole else None

    def put(self, names: Iterable[int], thread_id: str) -> None:
        """Note a thread under names; one that the app has named stays unknown."""
        thread = uuid_bytes(thread_id)
        if thread is None:
            return
        for name in names:
            key = name.to_bytes(_NAME_BYTES, "little", signed=True)
            noted = key + thread
            start = name % _BUCKETS * _BUCKET_BYTES
            end = start + _BUCKET_BYTES
            others = self._memory[start:end]
            gone = _place_of(key, others)
            if gone is None:
                others = others[:-_ENTRY_BYTES]
            else:
                others = others[:gone] + others[gone + _ENTRY_BYTES :]
            self._memory[start:end] = noted + _checksum(noted) + others


def _checksum(noted: bytes | bytearray) -> bytes:
    return zlib.crc32(noted).to_bytes(_SUM_BYTES, "little")


def _place_of(name: bytes, bucket: bytes | bytearray) -> int | None:
    """Return where in a bucket the entry of a name is."""
    offset = bucket.find(name)
    while offset > 0 and offset % _ENTRY_BYTES:
        offset = bucket.find(name, offset + 1)
    return None if offset < 0 else offset


def shared_board(project: str, folder: Path = FOLDER) -> Board | None:
    """Return the board of a project (its host and key) that this user's processes share.

    None where there is no such memory, or where the file is somebody else's.
    """
    if sys.platform != "linux" or not folder.is_dir():
        return None
    name = hashlib.sha256(f"{_LAYOUT}\0{os.getuid()}\0{project}".encode()).hexdigest()[:24]
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
        if about.st_size < BOARD_BYTES:
            os.ftruncate(descriptor, BOARD_BYTES)
        os.utime(descriptor)
        return mmap.mmap(descriptor, BOARD_BYTES)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove this user's boards that no process has opened for a month."""
    for path in folder.glob("trubrics-*"):
        about = path.lstat()
        if about.st_uid == os.getuid() and time.time() - about.st_mtime > _KEPT_S:
            path.unlink()
