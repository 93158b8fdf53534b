"""The board: what the processes of one machine know together."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest

from trubrics_instrument import _config, _runtime
from trubrics_instrument._conversations import board
from trubrics_instrument._conversations.board import BOARD_BYTES, Board, shared_board
from trubrics_instrument._conversations.trail import number_of

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm")

ONE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
PROGRAM = """
import sys
from pathlib import Path
from trubrics_instrument._conversations.board import shared_board
board = shared_board("project", Path(sys.argv[1]))
print(board.get(hash((1, 2))))
board.put([hash((3, 4))], sys.argv[2])
"""


CROWDED = """
import random
import sys
import uuid
from pathlib import Path
from trubrics_instrument._conversations.board import shared_board
board = shared_board("project", Path(sys.argv[1]))
names = [hash((1, number)) for number in range(64)]
for _ in range(20_000):
    at = random.randrange(64)
    found = board.get(names[at])
    if found and uuid.UUID(found).int >> 64 != at:
        sys.exit(f"{found} under name {at}")
    board.put([names[at]], str(uuid.UUID(int=at << 64 | random.getrandbits(64))))
"""
FULL = """
import sys
from pathlib import Path
from trubrics_instrument._conversations.board import shared_board
board = shared_board("project", Path(sys.argv[1]))
if board:
    board.put([hash((1, number)) for number in range(10_000)], sys.argv[2])
print(board)
"""


def name(number: int) -> int:
    """Return a name."""
    return hash((0, number_of(str(number))))


def test_processes_share_it(tmp_path: Path) -> None:
    """What one process notes, another one knows; the file is the user's alone."""
    board = shared_board("project", tmp_path)
    assert board is not None
    board.put([hash((1, 2))], ONE)
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), OTHER],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.stdout.strip() == ONE
    assert board.get(hash((3, 4))) == OTHER
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == BOARD_BYTES


def test_projects_do_not_share_it(tmp_path: Path) -> None:
    """Another project (another host or key) has another board."""
    mine, theirs = (shared_board(project, tmp_path) for project in ("mine", "theirs"))
    assert mine is not None
    assert theirs is not None
    mine.put([name(1)], ONE)
    assert theirs.get(name(1)) is None


def test_the_last_word_counts() -> None:
    """A digest that is noted again has the new thread."""
    board = Board(bytearray(BOARD_BYTES))
    assert board.get(name(1)) is None
    board.put([name(1)], ONE)
    board.put([name(1)], OTHER)
    assert board.get(name(1)) == OTHER


def test_names_of_the_app_stay_unknown() -> None:
    """Only UUIDs as we write them fit, so that a thread comes back as it is named."""
    memory = bytearray(BOARD_BYTES)
    board = Board(memory)
    board.put([name(1)], "ada-1")
    board.put([name(1)], "x" * 36)
    board.put([name(1)], str(uuid.UUID(int=0xABC)).upper())
    board.put([name(1)], "{12345678-1234-5678-1234567812345678")
    assert not any(memory)


def test_it_is_bounded() -> None:
    """It forgets, and never grows; what was noted last is there."""
    memory = bytearray(BOARD_BYTES)
    board = Board(memory)
    for number in range(100_000):
        board.put([name(number)], ONE)
    assert len(memory) == BOARD_BYTES
    assert board.get(name(99_999)) == ONE


def test_a_torn_entry_is_not_there() -> None:
    """An entry that another process is in the middle of writing is no entry."""
    memory = bytearray(BOARD_BYTES)
    board = Board(memory)
    board.put([name(1)], ONE)
    written = next(position for position, byte in enumerate(memory) if byte)
    memory[written + 12] ^= 1
    assert board.get(name(1)) is None
    board.put([name(1)], OTHER)
    assert board.get(name(1)) == OTHER


def test_garbage_is_no_entry(tmp_path: Path) -> None:
    """A file that something has spoilt says nothing, and is used from then on."""
    assert shared_board("project", tmp_path) is not None
    (path,) = tmp_path.iterdir()
    path.write_bytes(random.Random(1).randbytes(BOARD_BYTES + 1))
    board = shared_board("project", tmp_path)
    assert board is not None
    assert {board.get(name(number)) for number in range(5_000)} == {None}
    board.put([name(1)], ONE)
    assert board.get(name(1)) == ONE


def test_processes_that_write_the_same_places(tmp_path: Path) -> None:
    """Whatever several processes write at once, nobody reads the thread of another name."""
    children = [
        subprocess.Popen([sys.executable, "-c", CROWDED, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for child in children:
        _, trouble = child.communicate(timeout=60)
        assert child.returncode == 0, trouble.decode()


def test_another_layout_has_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of this library that lay entries out differently do not meet."""
    mine = shared_board("project", tmp_path)
    monkeypatch.setattr(board, "_LAYOUT", board._LAYOUT + 1)
    theirs = shared_board("project", tmp_path)
    assert mine is not None
    assert theirs is not None
    mine.put([name(1)], ONE)
    assert theirs.get(name(1)) is None


def test_memory_that_is_full(tmp_path: Path) -> None:
    """Where there is no room for a board the process stays alone, and lives."""
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}"
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*unshare, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    child = subprocess.run(
        [*unshare, f'{mount} && exec "$0" "$@"', sys.executable, "-c", FULL, str(tmp_path), ONE],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (child.returncode, child.stdout) == (0, "None\n"), child.stderr


def test_what_only_looks_like_a_name() -> None:
    """The same bytes across two fields are no entry, and what is written stays in its place."""
    memory = bytearray(BOARD_BYTES)
    board, last_name = Board(memory), -1
    memory[-8:] = b"\xff" * 8
    assert board.get(last_name) is None
    board.put([last_name], ONE)
    assert board.get(last_name) == ONE
    assert len(memory) == BOARD_BYTES


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    """A file that others may read, or a link, is not used: the process stays alone."""
    assert shared_board("project", tmp_path) is not None
    (path,) = tmp_path.iterdir()
    path.chmod(0o644)
    assert shared_board("project", tmp_path) is None
    if os.getuid() == 0:
        path.chmod(0o600)
        os.chown(path, 1, -1)
        assert shared_board("project", tmp_path) is None
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert shared_board("project", tmp_path) is None
    assert not (tmp_path / "elsewhere").exists()
    assert shared_board("project", tmp_path / "nowhere") is None


def test_old_boards_are_removed(tmp_path: Path) -> None:
    """A board that nobody has opened for a month goes; one that is opened again is young."""
    assert shared_board("old", tmp_path) is not None
    (old,) = tmp_path.iterdir()
    os.utime(old, (0, 0))
    assert shared_board("old", tmp_path) is not None
    assert old.exists()
    os.utime(old, (0, 0))
    others = [tmp_path / f"trubrics-{'x' * 24}", tmp_path / f"trubrics-{'0' * 24}"]
    for other in others:
        other.touch()
        os.utime(other, (0, 0))
    if os.getuid() == 0:
        os.chown(others[1], 1, -1)
    else:
        others.pop().unlink()
    assert shared_board("new", tmp_path) is not None
    assert not old.exists()
    assert all(other.exists() for other in others)


def test_boards_are_few(tmp_path: Path) -> None:
    """Eight boards stay, those that were opened last; one that is in use stays in any case."""
    older = shared_board("older", tmp_path)
    (path_of_older,) = tmp_path.iterdir()
    os.utime(path_of_older, (0, time.time() - 60))
    used = shared_board("used", tmp_path)
    for number in range(12):
        assert shared_board(f"project {number}", tmp_path) is not None
    assert len(list(tmp_path.iterdir())) == 10
    assert older is not None
    del older
    assert shared_board("another", tmp_path) is not None
    assert not path_of_older.exists()
    assert len(list(tmp_path.iterdir())) == 9
    assert used is not None
    del used
    assert shared_board("one more", tmp_path) is not None
    assert len(list(tmp_path.iterdir())) == 8


def test_when_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A project's processes share it, unless the spool is off: then nothing leaves the process."""
    monkeypatch.setattr(_runtime, "shared_board", partial(shared_board, folder=tmp_path))
    for spool, shares in (("auto", True), ("off", False)):
        settings = {"host": "http://127.0.0.1:1", "spool": spool}
        state = _runtime.start(_config.build(dict(os.environ), settings))
        assert (state.threads.board is not None) is shares
    assert _runtime.start(_config.build({}, {})).threads.board is None


def test_the_very_first_entry() -> None:
    """What is noted where the memory begins is there like all else."""
    board = Board(bytearray(BOARD_BYTES))
    first = BOARD_BYTES  # a multiple of the number of buckets
    board.put([first], ONE)
    assert board.get(first) == ONE


NAMES = """
from trubrics_instrument._conversations.trail import History, Trail, name_of_answer, name_of_turn
history = History("Hi", tail=("Hi", "Hello"), answer_id="msg_1")
trail = Trail("ada", history, "Why?", "Documents. Why?")
print(name_of_answer("resp_1"), name_of_turn(("call", "call_1"), "Why?"))
print(trail.names(), trail.name_by_id(), trail.question_name(), trail.names_after(7, "msg_2"))
"""


def test_names_are_the_same_in_every_process() -> None:
    """Python salts the hash of a text in each process, so no name is made of one."""
    named = {
        subprocess.run(
            [sys.executable, "-c", NAMES],
            env={**os.environ, "PYTHONHASHSEED": salt},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(named) == 1
