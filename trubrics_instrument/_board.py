"""What the processes of one machine know together of their conversations, in shared memory.

A table of fixed size: digests of what was said, and the thread where it was. There is no text in
it, and no lock around it: an entry that another process is writing fails its checksum, and is then
not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import struct
import sys
import time
import uuid
import zlib
from pathlib import Path

FOLDER = Path("/dev/shm")  # noqa: S108 - memory, not disk; the file is the user's own, see `_open`
# Key, thread, time in seconds; and the checksum of these.
_ENTRY = struct.Struct("<8s16sI")
_SUM = struct.Struct("<I")
_ENTRY_BYTES = _ENTRY.size + _SUM.size
_ENTRIES = 4
_BUCKET_BYTES = _ENTRIES * _ENTRY_BYTES
_TIMES = struct.Struct("<" + "24xI4x" * _ENTRIES)
_BUCKETS = 16_384
BOARD_BYTES = _BUCKETS * _BUCKET_BYTES
_KEY_BYTES = 8
_OURS_ALONE = 0o600
_UUID_CHARS = 36
_KEPT_S = 30 * 24 * 3600


class Board:
    """A bounded map from digests to threads that are UUIDs; it forgets the oldest.

    Args:
        memory: `BOARD_BYTES` of it, all zeros at first.
    """

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory

    def get(self, key: bytes) -> str | None:
        """Return the thread that was noted last under this digest, by any process."""
        bucket = self._bucket(_bucket_start(key))
        offset = _place_of(key, bucket)
        if offset is None:
            return None
        end = offset + _ENTRY.size
        (checksum,) = _SUM.unpack_from(bucket, end)
        if checksum != zlib.crc32(bucket[offset:end]):
            return None
        return str(uuid.UUID(bytes=bucket[offset + _KEY_BYTES : offset + _KEY_BYTES + 16]))

    def put(self, key: bytes, thread_id: str) -> None:
        """Note a thread under a digest; one with a name that the app gave stays unknown."""
        if len(thread_id) != _UUID_CHARS:
            return
        try:
            thread = uuid.UUID(thread_id).bytes
        except ValueError:
            return
        start = _bucket_start(key)
        bucket = self._bucket(start)
        offset = _place_of(key, bucket)
        if offset is None:
            times = _TIMES.unpack(bucket)
            offset = times.index(min(times)) * _ENTRY_BYTES
        entry = _ENTRY.pack(key[:_KEY_BYTES], thread, int(time.time()))
        place = start + offset
        self._memory[place : place + _ENTRY_BYTES] = entry + _SUM.pack(zlib.crc32(entry))

    def _bucket(self, start: int) -> bytes:
        return bytes(self._memory[start : start + _BUCKET_BYTES])


def _bucket_start(key: bytes) -> int:
    return int.from_bytes(key[-4:], "little") % _BUCKETS * _BUCKET_BYTES


def _place_of(key: bytes, bucket: bytes) -> int | None:
    """Return where in a bucket the entry of a key is."""
    offset = bucket.find(key[:_KEY_BYTES])
    while offset > 0 and offset % _ENTRY_BYTES:
        offset = bucket.find(key[:_KEY_BYTES], offset + 1)
    return None if offset < 0 else offset


def shared_board(project: str, folder: Path = FOLDER) -> Board | None:
    """Return the board of a project (its host and key) that this user's processes share.

    None where there is no such memory, or where the file is somebody else's.
    """
    if sys.platform != "linux" or not folder.is_dir():
        return None
    name = hashlib.sha256(f"{os.getuid()}\0{project}".encode()).hexdigest()[:24]
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
