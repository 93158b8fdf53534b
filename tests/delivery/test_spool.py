"""What is on disk is safe, private, bounded, and nobody's alone; a disk that fails is no fault."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.children import COUNT, prepare
from tests.delivery.faulty_server import FaultyServer, Reply, Request, hang, refuse, take
from tests.delivery.processes import Child, run
from tests.delivery.senders import sending, wait_until
from tests.homeless import be_homeless
from trubrics_instrument._delivery import Outgoing, SenderOptions
from trubrics_instrument._delivery.outbox import Encoded
from trubrics_instrument._delivery.set_aside import KEPT
from trubrics_instrument._delivery.spool import Spool
from trubrics_instrument._delivery.spool_file import SpoolFile, Unavailable, connect, spool_path
from trubrics_instrument._delivery.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

SPOOLING = pytest.mark.parametrize("spool", ["auto", "always", "strict"])


def test_a_folder_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of variables is read by no shell, which would know what "~" is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert spool_path("~/waiting", "http://a.test", None).parent == tmp_path / "waiting"


def test_the_files_are_private_and_hold_no_key(tmp_path: Path) -> None:
    """Folder 0700, files 0600, and the key in none of them, nor in their names."""
    folder = tmp_path / "spool"
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, spool="always", spool_dir=str(folder)) as sender,
    ):
        sender.put(1)
        server.wait_until(lambda: bool(server.requests))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})
        for path in folder.iterdir():
            assert b"secret-key" not in path.read_bytes()
            assert "secret" not in path.name


@SPOOLING
def test_what_was_delivered_leaves_no_trace_on_disk(tmp_path: Path, spool: str) -> None:
    """Prompts are personal data: their bytes are gone once they are delivered."""
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, _secretive, spool=spool, spool_dir=str(tmp_path)) as sender,
    ):
        for n in range(200):
            sender.put(n)
        wait_until(lambda: sender.stats().spooled == 200)
        assert any(b"a very private" in path.read_bytes() for path in tmp_path.iterdir())
        server.mood = take
        assert sender.flush(20)
        sender.shutdown(3)
    assert [path for path in tmp_path.iterdir() if b"a very private" in path.read_bytes()] == []


def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    """It has been copied there, or made beforehand."""
    spool = _spool(tmp_path)
    spool.file.path.touch(0o666)
    spool.file.path.chmod(0o666)
    spool.renew()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    spool.close()


@pytest.mark.parametrize(
    ("whose", "why"),
    [("a link", "is no regular file"), ("another user's", "belongs to another user")],
)
def test_a_file_that_is_not_ours_is_not_written_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    whose: str,
    why: str,
) -> None:
    """Somebody else has put it there: it costs one WARNING, and memory has to do."""
    spool, target = _spool(tmp_path), tmp_path / "elsewhere"
    target.write_bytes(b"")
    if whose == "a link":
        spool.file.path.symlink_to(target)
    else:
        target.rename(spool.file.path)
        _give_away(spool.file.path)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    there = sorted(tmp_path.iterdir())
    with pytest.raises(Unavailable):
        spool.renew()
    assert sorted(tmp_path.iterdir()) == there
    assert {path.stat().st_size for path in there} == {0}
    assert [line for line in caplog.messages if why in line] == caplog.messages != []
    spool.close()


def test_a_file_of_the_folders_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems name one owner for all; and root may look at everybody's."""
    spool = _spool(tmp_path)
    spool.file.path.touch()
    _give_away(spool.file.path)
    spool.renew()
    spool.file.close()
    _give_away(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    spool.renew()
    spool.close()


def test_a_file_that_may_keep_what_is_deleted_is_set_aside(tmp_path: Path) -> None:
    """A trigger of somebody's would copy what people write."""
    spool = _spool(tmp_path)
    with closing(connect(spool.file.path, "http://127.0.0.1:9")) as db:
        db.execute("CREATE TRIGGER keep AFTER DELETE ON event BEGIN SELECT 1; END")
    spool.renew()
    assert (len(list(tmp_path.glob("*.corrupt-*"))), _rows(spool, "owner")) == (1, 1)
    spool.close()


@SPOOLING
@pytest.mark.parametrize("place", ["a file", "nowhere", "no home", "a forbidden one"])
def test_a_disk_that_cannot_be_written_degrades_to_memory(
    tmp_path: Path,
    spool: str,
    place: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One WARNING; everything arrives all the same."""
    (tmp_path / "a file").write_text("")
    be_homeless(monkeypatch)
    # The system refuses to look at a name of this length, as it does where it lacks permission.
    spool_dir = {
        "a file": str(tmp_path / "a file"),
        "nowhere": "/proc/nowhere",
        "no home": None,
        "a forbidden one": str(tmp_path / ("x" * 300)),
    }[place]
    with (
        FaultyServer(refuse(503)) as server,
        sending(server, spool=spool, spool_dir=spool_dir) as sender,
    ):
        for n in range(300):
            assert sender.put(n)
        wait_until(lambda: any("spool cannot be used" in line for line in caplog.messages))
        server.mood = take
        assert sender.flush(20)
        assert Counter(server.numbers()) == Counter(range(300))
        assert sum("spool cannot be used" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("spool", ["always", "strict"])
def test_a_full_disk_degrades_to_memory(tmp_path: Path, spool: str) -> None:
    """Events are accepted and delivered though no file can grow."""
    with FaultyServer() as server:
        assert run("track_on_a_full_disk", server, spool, tmp_path).code == 0
        assert Counter(server.numbers()) == Counter(list(range(COUNT)) * 8)
        assert set(server.taken.values()) == {1}


def test_what_strict_refuses_is_not_on_disk(tmp_path: Path) -> None:
    """What finds no room, because the worker is behind, is not delivered later all the same."""
    with FaultyServer() as server:
        path = spool_path(str(tmp_path), server.url, "secret-key")
        small: dict[str, Any] = {"spool_dir": str(tmp_path), "max_memory_bytes": 32 * 1024}
        with sending(server, spool="strict", **small) as sender:
            assert sender.put(0)
            assert sender.flush(20)
            with sender._run.encoder.lock:
                taken = [n for n in range(1, 60) if sender.put(n)]
            assert sender.flush(20)
            dropped = sender.stats().dropped
        with closing(connect(path, server.url)) as left:
            assert left.execute("SELECT count(*) FROM event").fetchone() == (0,)
        assert 0 < len(taken) < 59
        assert (server.numbers(), dropped) == ([0, *taken], {"queue_full": 59 - len(taken)})


def test_strict_has_room_for_no_more_than_others(tmp_path: Path) -> None:
    """Those that are on their way to the disk, from whatever thread, take room as well."""
    start, go_on = threading.Barrier(41), threading.Event()

    def held_up(item: object, event_id: str) -> Outgoing:
        assert item == -1 or go_on.wait(20)
        return Outgoing("key", {"n": item, "event_id": event_id, "text": "x" * 10_000})

    with FaultyServer() as server:
        small: dict[str, Any] = {"spool_dir": str(tmp_path), "max_memory_bytes": 100_000}
        with (
            sending(server, held_up, spool="strict", **small) as sender,
            ThreadPoolExecutor(40) as pool,
        ):
            assert sender.put(-1)
            assert sender.flush(20)

            def put(n: int) -> bool:
                start.wait(20)
                return sender.put(n)

            told = [pool.submit(put, n) for n in range(40)]
            start.wait(20)
            wait_until(lambda: sender.stats().dropped.get("queue_full", 0) > 20)
            go_on.set()
            taken = sum(one.result(20) for one in told)
            assert (taken < 20, sender.flush(20)) == (True, True)
            assert sender.stats().dropped == {"queue_full": 40 - taken}


def test_strict_at_the_end(tmp_path: Path) -> None:
    """What is not on disk yet when the sender closes, and will never be there, is refused."""
    reached, go_on = threading.Event(), threading.Event()

    def held_up(item: object, event_id: str) -> Outgoing:
        reached.set()
        assert go_on.wait(20)
        return prepare(item, event_id)

    (tmp_path / "no folder").touch()
    with (
        FaultyServer() as server,
        sending(server, held_up, spool="strict", spool_dir=str(tmp_path / "no folder")) as sender,
        ThreadPoolExecutor(1) as pool,
    ):
        told = pool.submit(sender.put, 1)
        assert reached.wait(20)
        assert sender.shutdown(5)
        go_on.set()
        assert (told.result(20), sender.stats().dropped) == (False, {"closed": 1})


LOOK_LATE: dict[str, Any] = {"replay_spread_s": 60.0, "chance": lambda: 1.0}


def test_what_is_on_its_way_to_disk_is_waited_for(tmp_path: Path) -> None:
    """A flush does not say that all is done while the disk takes its time over what is not."""
    with FaultyServer(refuse(503)) as server:
        path = spool_path(str(tmp_path), server.url, "secret-key")
        with (
            closing(connect(path, server.url)) as other,
            sending(server, spool="auto", spool_dir=str(tmp_path), **LOOK_LATE) as sender,
        ):
            other.execute("BEGIN EXCLUSIVE")
            sender.put(1)
            assert not sender.flush(4)
            other.execute("ROLLBACK")
            server.mood = take
            assert sender.flush(20)
            assert server.numbers() == [1]


@SPOOLING
def test_a_corrupt_file_is_set_aside(
    tmp_path: Path, spool: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept for a human to look at, a new one is begun, and nothing is lost meanwhile."""
    with FaultyServer(refuse(503)) as server:
        path = spool_path(str(tmp_path), server.url, "secret-key")
        path.write_bytes(b"this is no database" * 1000)
        with sending(server, spool=spool, spool_dir=str(tmp_path)) as sender:
            for n in range(300):
                sender.put(n)
            wait_until(lambda: sender.stats().spooled == 300)
            server.mood = take
            assert sender.flush(20)
            assert Counter(server.numbers()) == Counter(range(300))
        (aside,) = tmp_path.glob("*.corrupt-*")
        assert aside.read_bytes().startswith(b"this is no database")
        assert sum("set aside" in line for line in caplog.messages) == 1


def test_a_living_process_adopts_what_a_killed_one_left(tmp_path: Path) -> None:
    """Two processes share a spool; one is killed in mid-send; the other delivers for both."""
    with FaultyServer() as server:
        dead: list[int] = []

        def mood(request: Request) -> Reply:
            return take(request) if request.events[0]["pid"] not in dead else hang(request)

        server.mood = mood
        with (
            Child("carry_on", server, "always", tmp_path) as other,
            Child("announce_and_wait", server, "strict", tmp_path) as victim,
        ):
            dead.append(victim.process.pid)
            victim.wait_for_line()
            server.wait_until(lambda: len(server.requests) >= 2)  # both are sending
            victim.signal(signal.SIGKILL)
            victim.end()
            dead.clear()
            server.wait_for(COUNT + 1, 20)
            other.signal(signal.SIGTERM)
            assert other.end().code == 0
        assert Counter(server.numbers()) == Counter(range(COUNT + 1))


def test_a_lease_that_ran_out_frees_the_rows_of_a_process_that_stands_still(
    tmp_path: Path,
) -> None:
    """A process that is stopped is not gone: only its lease says that others may deliver."""
    shift = [0.0]
    with FaultyServer(hang) as server:
        with Child("announce_and_wait", server, "strict", tmp_path) as stopped:
            stopped.wait_for_line()
            server.wait_until(lambda: bool(server.requests))
            stopped.signal(signal.SIGSTOP)
            server.mood = take
            with sending(
                server,
                spool="auto",
                spool_dir=str(tmp_path),
                look_s=0.05,
                wall_clock=lambda: time.time() + shift[0],
            ) as sender:
                sender.put(COUNT)
                server.wait_for(1)
                assert _owners(server, tmp_path) == 1, "it found the rows in somebody's hands"
                shift[0] = 3600.0
                server.wait_for(COUNT + 1)
        assert Counter(server.numbers()) == Counter(range(COUNT + 1))


def test_only_one_process_replays_at_a_time(tmp_path: Path) -> None:
    """Rows of one key could overtake each other if two had some of them in hand."""
    with FaultyServer() as server:
        server.down()
        assert run("exit_at_once", server, "auto", tmp_path).code == 0
        options = SenderOptions(server.url, "secret-key", spool_dir=str(tmp_path))
        one, two = (Spool(options, Tally(options)) for _ in range(2))
        first = one.claim(100)
        assert (len(first), two.claim(100)) == (100, [])
        one.remove(row.id for row in first)
        assert two.claim(100) == []
        one.close()
        assert [row.id for row in two.claim(100)] > [row.id for row in first]
        two.close()


def test_who_has_nothing_in_hand_lets_others_replay(tmp_path: Path) -> None:
    """New events on disk, of a process whose host is in trouble, are anybody's."""
    one, two = (_spool(tmp_path) for _ in range(2))
    one.write([Encoded(n, "key", b"{}") for n in range(2)], keep=False)
    one.remove(row.id for row in one.claim(1))
    one.write([Encoded(2, "key", b"{}")], keep=False)
    assert len(two.claim(10)) == 2
    one.close()
    two.close()


def test_new_events_on_disk_let_nobody_else_replay(tmp_path: Path) -> None:
    """They join those of their key, of which the first are in hand."""
    one, two = (_spool(tmp_path) for _ in range(2))
    one.write([Encoded(n, "key", b"{}") for n in range(2)], keep=False)
    claimed = one.claim(1)
    one.write([Encoded(2, "key", b"{}")], keep=False)
    claimed_too = two.claim(1)
    one.close()
    two.close()
    assert (len(claimed), claimed_too) == (1, [])


def test_what_a_process_gives_back_is_anybody_s(tmp_path: Path) -> None:
    """Once the host is in trouble, whoever finds it well again replays, in the order of old."""
    one, two = (_spool(tmp_path) for _ in range(2))
    one.write([Encoded(n, "key", b"%d" % n) for n in range(3)], keep=False)
    mine = one.claim(2)
    one.write([Encoded(0, row.key, row.body, row=row.id, file=1) for row in mine], keep=False)
    assert [row.body for row in two.claim(3)] == [b"0", b"1", b"2"]
    one.close()
    two.close()


def test_a_process_on_another_machine_is_not_gone(tmp_path: Path) -> None:
    """A pid says nothing of it: in a folder that is shared by containers only the lease does."""
    now_s = [time.time()]
    here = _spool(tmp_path, wall_clock=lambda: now_s[0])
    here.write([Encoded(0, "key", b"{}")], keep=False)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with closing(sqlite3.connect(here.file.path)) as db, db:
        db.execute("INSERT INTO owner VALUES (77, 'elsewhere', ?, ?)", (ended.pid, now_s[0] + 9))
        db.execute("UPDATE event SET owner = 77")
    claimed = [len(here.claim(1))]
    now_s[0] += 10
    assert [*claimed, len(here.claim(1))] == [0, 1]
    here.close()


def test_a_claim_holds_no_more_than_a_request(tmp_path: Path) -> None:
    """Large events do not come into memory by the hundred; a single one always does."""
    spool = _spool(tmp_path, max_batch_bytes=100)
    spool.write([Encoded(n, "key", b"x" * 60) for n in range(3)], keep=False)
    assert [len(spool.claim(100)) for _ in range(3)] == [2, 1, 0]
    spool.close()


@pytest.mark.timeout(20)
def test_a_quota_that_nothing_can_meet(tmp_path: Path) -> None:
    """Once nothing is left to drop, the event is kept all the same."""
    spool = _spool(tmp_path, spool_quota_bytes=1)
    spool.write([Encoded(0, "key", b"{}")], keep=True)
    spool.write([Encoded(1, "key", b"{}")], keep=True)
    assert _rows(spool) == 2
    spool.close()


def test_a_disk_that_is_full_in_the_end_has_taken_nothing(tmp_path: Path) -> None:
    """What failed with the last step of its transaction is still to be stored, all of it."""
    spool = _spool(tmp_path)
    spool.renew()
    events = [Encoded(n, "key", b"x" * 300_000) for n in range(2)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(Unavailable):
            spool.write(events, keep=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [event.row for event in events] == [None, None]
    spool.close()


def test_a_disk_that_is_full_in_the_end_keeps_what_it_has(tmp_path: Path) -> None:
    """The next run delivers that, so only the rest is given up."""
    lost: list[object] = []

    def sized(item: object, event_id: str) -> Outgoing:
        return Outgoing("key", {"event_id": event_id, "n": item, "text": "x" * int(str(item))})

    def on_drop(events: list[dict[str, object]], reason: str) -> None:
        lost.extend((event["n"], reason) for event in events)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    strict: dict[str, Any] = {"spool": "strict", "spool_dir": str(tmp_path), "on_drop": on_drop}
    with FaultyServer(hang) as server, sending(server, sized, **strict) as sender:
        assert sender.put(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            assert sender.put(300_000)
            assert not sender.shutdown(0.2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert lost == [(300_000, "undelivered_at_exit")]
        assert (sender.stats().spooled, _on_disk(server, tmp_path)) == (1, 1)


def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    """With the process among its owners: else others would take what it has in hand."""
    spool = _spool(tmp_path)
    spool.renew()
    spool.file.close()
    spool.file.path.unlink()
    spool.renew()
    assert _rows(spool, "owner") == 1
    spool.close()


def test_a_file_that_is_gone_is_not_begun_anew_for_the_end(tmp_path: Path) -> None:
    """Whoever removed the folder finds it removed."""
    spool = _spool(tmp_path / "folder")
    spool.renew()
    for path in (tmp_path / "folder").iterdir():
        path.unlink()
    (tmp_path / "folder").rmdir()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_only_the_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """Not the new one that another process has begun in the meantime."""
    spool = _spool(tmp_path)
    tries: list[object] = []
    spool.renew()

    def work(db: sqlite3.Connection) -> int:
        tries.append(db)
        if len(tries) == 1:
            spool.file.path.rename(tmp_path / "set aside by another")
            connect(spool.file.path, "http://127.0.0.1:9").close()
            raise sqlite3.DatabaseError
        return int(db.execute("SELECT count(*) FROM owner").fetchone()[0])

    assert (spool.file.transact(work), list(tmp_path.glob("*.corrupt-*"))) == (0, [])
    spool.close()


def test_what_is_set_aside_stays(tmp_path: Path) -> None:
    """Also when there are two in a second."""
    spool = _spool(tmp_path, wall_clock=lambda: 1000.0)
    for text in (b"no database", b"none either"):
        spool.file.path.write_bytes(text * 1000)
        spool.renew()
        spool.file.close()
    aside = sorted(path.read_bytes()[:11] for path in tmp_path.glob("*.corrupt-1000-*"))
    assert aside == [b"no database", b"none either"]
    spool.close()


def test_what_was_set_aside_goes_at_the_age_of_events(tmp_path: Path) -> None:
    """It holds what people wrote; what another spool set aside, and other files, are not ours."""
    now = [1000.0]
    spool = _spool(tmp_path, wall_clock=lambda: now[0], spool_age_s=60.0)
    spool.file.path.write_bytes(b"no database" * 1000)
    spool.renew()
    others = {f"{'0' * 16}.sqlite.corrupt-1000-1", f"{spool.file.path.name}.corrupt-copy"}
    for name in others:
        (tmp_path / name).touch()
    now[0] = 1060.0
    spool.file.tidy()
    (aside,) = tmp_path.glob(f"{spool.file.path.name}.corrupt-1000-*")
    now[0] = 1061.0
    spool.file.tidy()
    assert not aside.exists()
    assert {path.name for path in tmp_path.glob("*.corrupt-*")} == others
    spool.close()


def test_a_disk_that_damages_files_again_and_again_is_not_filled(tmp_path: Path) -> None:
    """The last that were set aside stay, for a human to look at."""
    now = [1000.0]
    spool = _spool(tmp_path, wall_clock=lambda: now[0])
    for _ in range(KEPT + 1):
        spool.file.path.write_bytes(b"no database" * 1000)
        spool.renew()
        spool.file.close()
        now[0] += 1.0
    spool.file.tidy()
    kept = sorted(path.name.split("-")[1] for path in tmp_path.glob("*.corrupt-*"))
    assert kept == [str(1001 + number) for number in range(KEPT)]
    spool.close()


def test_an_interrupted_transaction_is_undone(tmp_path: Path) -> None:
    """Ctrl-C in the middle of one passes, leaves nothing, and is in nobody's way."""

    def interrupted(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO event VALUES (1, NULL, 'key', '{}')")
        raise KeyboardInterrupt

    spool = _spool(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        spool.file.transact(interrupted)
    spool.renew()
    assert (_rows(spool), _rows(spool, "owner")) == (0, 1)
    spool.close()


def test_a_disk_that_failed_is_left_alone_for_a_minute(tmp_path: Path) -> None:
    """Each try would keep whoever tracks waiting for it."""
    now_s = [0.0]
    (tmp_path / "a file").write_text("")
    spool = _spool(tmp_path / "a file", clock=lambda: now_s[0])
    tries: list[int] = []
    for now_s[0] in (0.0, 59.0, 60.0):
        with pytest.raises(Unavailable):
            spool.renew()
        tries.append(spool.file.openings)
    assert tries == [1, 1, 2]


@pytest.mark.parametrize("spool", ["auto", "strict"])
def test_a_clock_that_is_put_back_turns_no_order_around(tmp_path: Path, spool: str) -> None:
    """Events of one key come back from disk as they were tracked."""
    shift_s = [0.0]
    with (
        FaultyServer(refuse(503)) as server,
        sending(
            server,
            spool=spool,
            spool_dir=str(tmp_path),
            wall_clock=lambda: time.time() + shift_s[0],
        ) as sender,
    ):
        for n in (0, 10, 20):
            sender.put(n)
            wait_until(lambda: sender.stats().queued == 0)
            shift_s[0] -= 3600.0
        server.mood = take
        assert sender.flush(20)
        assert server.numbers() == [0, 10, 20]


def test_processes_that_share_a_spool_deliver_each_event_once(tmp_path: Path) -> None:
    """A row is claimed by one process only, however many come at the same time."""
    with FaultyServer() as server:
        server.down()
        writers = [Child("exit_at_once", server, "auto", tmp_path) for _ in range(3)]
        assert [writer.end().code for writer in writers] == [0, 0, 0]
        server.up()
        with (
            Child("carry_on", server, "auto", tmp_path) as one,
            Child("carry_on", server, "auto", tmp_path) as two,
        ):
            server.wait_for(3 * COUNT + 2, 20)
            for child in (one, two):
                child.signal(signal.SIGTERM)
                assert child.end().code == 0
        assert Counter(server.numbers()) == Counter([*list(range(COUNT)) * 3, COUNT, COUNT])
        assert set(server.taken.values()) == {1}


def test_the_quota_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    """Each event is delivered or handed to `on_drop`, and the newest are those that stay."""
    dropped: list[object] = []

    def on_drop(events: list[dict[str, object]], _reason: str) -> None:
        dropped.extend(event["n"] for event in events)

    with (
        FaultyServer(refuse(503)) as server,
        sending(
            server,
            _large,
            spool="auto",
            spool_dir=str(tmp_path),
            spool_quota_bytes=1_000_000,
            on_drop=on_drop,
        ) as sender,
    ):
        for n in range(3000):
            assert sender.put(n)
        wait_until(lambda: sender.stats().queued == 0 and bool(dropped))
        wait_until(
            lambda: sum(sender.stats().dropped.values()) + _on_disk(server, tmp_path) >= 3000
        )
        assert sum(path.stat().st_size for path in tmp_path.glob("*.sqlite")) < 1_400_000, (
            "rows fill pages by three quarters"
        )
        assert sender.stats().dropped == {"spool_full": len(dropped)}
        assert 0 in dropped
        assert 2999 not in dropped


def test_events_past_their_age_are_dropped_and_counted(tmp_path: Path) -> None:
    """After 72 hours on disk nobody wants to know."""
    shift = [0.0]
    with (
        FaultyServer(refuse(503)) as server,
        sending(
            server,
            spool="auto",
            spool_dir=str(tmp_path),
            wall_clock=lambda: time.time() + shift[0],
        ) as sender,
    ):
        for n in range(50):
            sender.put(n)
        wait_until(lambda: sender.stats().spooled == 50)
        shift[0] = 73 * 3600.0
        server.mood = take
        wait_until(lambda: sender.stats().dropped == {"too_old": 50})
        assert sender.flush(10)
        assert server.numbers() == []


@pytest.fixture(autouse=True)
def _files_are_closed() -> Iterator[None]:
    """A sender that is shut down holds no file of the spool."""
    yield
    links = list(Path("/proc/self/fd").iterdir())
    held = [str(link.readlink()) for link in links if link.is_symlink() and link.exists()]
    assert [name for name in held if ".sqlite" in name] == []


def _on_disk(server: FaultyServer, folder: Path) -> int:
    return _count(server, folder, "SELECT count(*) FROM event")


def _owners(server: FaultyServer, folder: Path) -> int:
    return _count(server, folder, "SELECT count(DISTINCT owner) FROM event")


def _count(server: FaultyServer, folder: Path, query: str) -> int:
    path = spool_path(str(folder), server.url, "secret-key")
    db = sqlite3.connect(path)
    try:
        return int(db.execute(query).fetchone()[0])
    finally:
        db.close()


def _rows(spool: Spool, table: str = "event") -> int:
    with closing(sqlite3.connect(spool.file.path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _give_away(path: Path) -> None:
    """Make a file another user's."""
    if os.geteuid():
        pytest.skip("only root can give a file to somebody")
    os.chown(path, 65534, 65534)


def _spool(folder: Path, **options: Any) -> Spool:
    chosen = SenderOptions("http://127.0.0.1:9", None, spool_dir=str(folder), **options)
    return Spool(chosen, Tally(chosen))


def _secretive(item: object, event_id: str) -> Outgoing:
    text = "a very private question " * 20
    return Outgoing(str(item), {"event_id": event_id, "n": item, "text": text})


def _large(item: object, event_id: str) -> Outgoing:
    return Outgoing(str(item), {"event_id": event_id, "n": item, "text": "x" * 1000})


def test_a_file_that_somebody_else_locks_holds_nobody_up_for_long(tmp_path: Path) -> None:
    """Whoever tracks waits about a second for it, in all, and so does the worker."""
    options = SenderOptions("http://127.0.0.1:9", None, spool_dir=str(tmp_path))
    file = SpoolFile(options, Tally(options), usable=True)
    locking = sqlite3.connect(file.path, isolation_level=None)
    with closing(locking):
        locking.execute("BEGIN EXCLUSIVE")
        assert _takes_s(lambda: _be_refused(file)) < 1.8
        locking.execute("ROLLBACK")
    wait_until(file.is_usable)
    with closing(connect(file.path, options.host)) as other:
        file.transact(lambda _: None)
        other.execute("BEGIN IMMEDIATE")
        assert _takes_s(lambda: _be_refused(file)) < 1.8
    file.close()


def test_a_transaction_holds_no_fork_up_for_long(tmp_path: Path) -> None:
    """A child that inherits an open file stays off the disk instead."""
    file = _spool(tmp_path).file
    with ThreadPoolExecutor(1) as pool, file._held():
        assert _takes_s(lambda: pool.submit(file.before_fork).result()) < 1
    assert not file._lock.locked()


def test_the_end_waits_for_a_locked_file_as_long_as_it_may(tmp_path: Path) -> None:
    """That is the rest of its time, and a moment where there is none left."""
    file = _spool(tmp_path, clock=lambda: 1000.0).file

    def patience_ms(db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA busy_timeout").fetchone()[0])

    found = [file.transact(patience_ms)]
    for deadline_s in (1002.0, 999.0):
        file.hurry(deadline_s)
        found.append(file.transact(patience_ms))
    assert found == [1000, 2000, 500]
    file.close()


@contextmanager
def _locked_by_another(folder: Path, server: FaultyServer) -> Generator[sqlite3.Connection]:
    path = spool_path(str(folder), server.url, "secret-key")
    with closing(connect(path, server.url)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_a_locked_file_does_not_put_the_end_off(tmp_path: Path) -> None:
    """What nobody takes by then is given up, and counted."""
    with (
        FaultyServer(hang) as server,
        _locked_by_another(tmp_path, server),
        sending(server, spool="auto", spool_dir=str(tmp_path)) as sender,
    ):
        sender.put(1)
        server.wait_until(lambda: bool(server.requests))
        assert _takes_s(lambda: sender.shutdown(0.1)) < 1.5
        assert sender.stats().dropped == {"undelivered_at_exit": 1}


def test_a_file_that_is_locked_for_a_while_takes_what_is_left(tmp_path: Path) -> None:
    """An end that has time does not give up after a second."""
    with (
        FaultyServer(refuse(503)) as server,
        _locked_by_another(tmp_path, server) as other,
        sending(server, spool="auto", spool_dir=str(tmp_path)) as sender,
    ):
        sender.put(1)
        wait_until(lambda: sender.stats().retries > 0)
        unlocking = threading.Timer(1.5, other.execute, ["ROLLBACK"])
        unlocking.start()
        assert not sender.shutdown(20)
        unlocking.join()
        assert (sender.stats().spooled, sender.stats().dropped) == (1, {})


def test_an_end_without_time_opens_no_file_for_long(tmp_path: Path) -> None:
    """Nor does it wait the usual second where the file is locked."""
    took_s: list[float] = []
    with closing(connect(_spool(tmp_path).file.path, "http://127.0.0.1:9")) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):  # the machine may be busy
            file = _spool(tmp_path).file
            file.hurry(0.0)
            took_s.append(_takes_s(lambda: _be_refused(file)))  # noqa: B023 - called at once
    assert min(took_s) < 0.9


def _takes_s(work: Callable[[], object]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def _be_refused(file: SpoolFile) -> None:
    with pytest.raises(Unavailable):
        file.transact(lambda _: None)
