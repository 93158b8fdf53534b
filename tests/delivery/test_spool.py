"""What is on disk is safe, private, bounded, and nobody's alone; a disk that fails is no fault."""

from __future__ import annotations

import signal
import sqlite3
import stat
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.delivery.children import COUNT
from tests.delivery.faulty_server import FaultyServer, Reply, Request, hang, refuse, take
from tests.delivery.processes import Child, run
from tests.delivery.senders import sending, wait_until
from tests.homeless import be_homeless
from trubrics_instrument._delivery import Outgoing, SenderOptions
from trubrics_instrument._delivery.spool import Spool
from trubrics_instrument._delivery.spool_file import SpoolFile, Unavailable, connect, spool_path
from trubrics_instrument._delivery.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

SPOOLING = pytest.mark.parametrize("spool", ["auto", "always", "strict"])


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


def _secretive(item: object, event_id: str) -> Outgoing:
    text = "a very private question " * 20
    return Outgoing(str(item), {"event_id": event_id, "n": item, "text": text})


def _large(item: object, event_id: str) -> Outgoing:
    return Outgoing(str(item), {"event_id": event_id, "n": item, "text": "x" * 1000})


def test_a_file_that_somebody_else_locks_holds_nobody_up_for_long(tmp_path: Path) -> None:
    """The worker waits about two seconds for it, not a second for each of ten tries."""
    options = SenderOptions("http://127.0.0.1:9", None, spool_dir=str(tmp_path))
    file = SpoolFile(options, Tally(options), usable=True)
    locking = sqlite3.connect(file.path, isolation_level=None)
    with closing(locking):
        locking.execute("BEGIN EXCLUSIVE")
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            file.transact(lambda _: None)
        assert time.monotonic() - began_s < 5
        locking.execute("ROLLBACK")
    wait_until(file.is_usable)
    file.transact(lambda _: None)
    file.close()
