"""When events go to disk, and when they come back; the clock stands still meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from trubrics_instrument._delivery import SenderOptions, keeper
from trubrics_instrument._delivery.keeper import FOREVER_S, Keeper
from trubrics_instrument._delivery.outbox import Encoded, Outbox
from trubrics_instrument._delivery.retry import Action, Answer
from trubrics_instrument._delivery.spool import Spool
from trubrics_instrument._delivery.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Process:
    """A keeper between a real outbox and a real spool, without the threads that use it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.now_s = 0.0
        chosen: dict[str, Any] = {"max_batch": 1, "replay_spread_s": 0.0, **options}
        chosen |= {"clock": lambda: self.now_s, "wall_clock": lambda: 1000.0 + self.now_s}
        settings = SenderOptions("http://127.0.0.1:9", None, spool_dir=str(folder), **chosen)
        self.tally = tally = Tally(settings)
        self.outbox = Outbox(settings)
        self.spool = Spool(settings, tally)
        self.keeper = Keeper(settings, self.outbox, self.spool, tally)

    def park(self, *keys: str) -> None:
        """Leave an event with each key on disk."""
        self.keeper.park([Encoded(0, key, b"{}") for key in keys])

    def sent_at(self, now_s: float) -> list[str]:
        """Do what is due, deliver a batch, and return its keys."""
        self.now_s = now_s
        self.keeper.tend()
        batch = self.outbox.take(0.0)
        self.keeper.settled(batch)
        self.outbox.settle(batch)
        return [event.key for event in batch]

    def ask(self, query: str) -> Any:
        """Return the first value that the spool's file answers with."""
        with closing(sqlite3.connect(self.spool.file.path)) as db:
            return db.execute(query).fetchone()[0]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Process]:
    """Give a process."""
    process = Process(tmp_path, max_memory_bytes=10_000)
    yield process
    process.spool.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Process]:
    """Give another one with the same spool."""
    process = Process(tmp_path)
    yield process
    process.spool.close()


def test_memory_that_was_three_quarters_full_takes_events_again_when_half_empty(
    one: Process,
) -> None:
    """Else each event that leaves it would switch the disk off, and the next one on."""
    diverting: list[bool] = []
    for queued_bytes in (7500, 7600, 5100, 5000, 7500, 7600):
        one.keeper.measure(queued_bytes)
        diverting.append(one.keeper.is_diverting())
    assert diverting == [False, True, True, False, False, True]


def test_nothing_comes_back_from_disk_while_memory_is_full(one: Process) -> None:
    """Nor while enough for a batch waits there already."""
    one.park("old")
    one.keeper.measure(7600)
    sent = [one.sent_at(0)]
    one.keeper.measure(0)
    one.outbox.add([Encoded(1, "new", b"{}")])
    one.keeper.tend()
    assert one.outbox.waiting() == 1
    assert [*sent, one.sent_at(0), one.sent_at(0)] == [[], ["new"], ["old"]]


def test_at_the_end_all_goes_to_disk_and_stays_there(one: Process) -> None:
    """What the worker still has in hand, too: nobody would deliver it."""
    one.park("old")
    one.keeper.closing = True
    one.keeper.place([Encoded(0, "new", b"{}")])
    assert (one.sent_at(0), one.keeper.parked()) == ([], 2)


def test_what_waits_in_memory_leaves_it_only_where_that_makes_room(one: Process) -> None:
    """A host that has failed just now, and memory that is full of what is not encoded yet."""
    one.outbox.gate.failed(Action.RETRY, Answer(503, retry_after="60"))
    one.outbox.add([Encoded(0, "small", b"{}")])
    one.keeper.measure(7600)
    one.keeper.tend()
    kept = one.outbox.waiting()
    one.outbox.add([Encoded(1, "large", b"x" * 3000)])
    one.keeper.tend()
    assert (kept, one.outbox.waiting(), one.keeper.parked()) == (1, 0, 2)


def test_what_waits_for_a_silent_host_is_in_memory_and_on_disk(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill loses only what is in flight; a host that is merely slow takes it from memory."""
    one.outbox.gate.asks("lane")
    one.outbox.add([Encoded(0, "old", b"{}")])
    seen: list[tuple[int, int, int]] = []
    for one.now_s, key in ((1.0, "a"), (1.1, "b"), (1.2, "c")):
        one.keeper.place([Encoded(1, key, b"{}")])
        one.keeper.tend()
        rows = one.ask("SELECT count(*) FROM event") if one.spool.file.is_open() else 0
        seen.append((rows, one.outbox.waiting(), one.keeper.parked()))
    assert seen == [(0, 2, 0), (3, 3, 0), (4, 4, 0)]

    def written_again(*_: object, **__: object) -> None:
        pytest.fail("written again")

    with monkeypatch.context() as patch:
        patch.setattr(one.spool, "write", written_again)
        one.keeper.tend()
    assert [one.sent_at(1.3) for _ in range(4)] == [["old"], ["a"], ["b"], ["c"]]
    assert one.ask("SELECT count(*) FROM event") == 0


def test_what_is_too_much_for_memory_waits_on_disk_for_a_silent_host(one: Process) -> None:
    """Once the lanes have eight batches to do, so that the queue does not hold the rest."""
    one.outbox.gate.asks("lane")
    one.now_s = 1.1
    for key in "abcdefghij":
        one.keeper.place([Encoded(0, key, b"{}")])
    assert (one.outbox.waiting(), one.keeper.parked()) == (8, 2)


def test_where_too_many_keys_wait_on_disk_all_that_is_new_goes_there(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of them do is known by heart, and memory has a bound."""
    monkeypatch.setattr(keeper, "MAX_KEYS", 2)
    diverting: list[bool] = []
    for key in ("a", "b", "c"):
        one.park(key)
        diverting.append(one.keeper.is_diverting())
    assert diverting == [False, False, True]


def test_the_lease_is_renewed_each_third_of_it(one: Process) -> None:
    """What a host that hangs has in hand for long stays ours."""
    one.spool.write([Encoded(0, "a", b"{}")], keep=True)
    until_s: list[float] = []
    for one.now_s in (0.0, 4.0, 5.0, 9.0, 10.0):
        one.keeper.tend()
        until_s.append(one.ask("SELECT until_s FROM owner"))
    assert until_s == [1015.0, 1015.0, 1020.0, 1020.0, 1025.0]


def test_what_others_left_comes_slowly_in_the_first_minute(one: Process, other: Process) -> None:
    """All that start together find it; what is our own comes at once."""
    one.park("a", "b")
    assert [one.sent_at(0), one.sent_at(0)] == [["a"], ["b"]]
    other.park("c", "d", "e", "f")
    assert [one.sent_at(at) for at in (0, 0.05, 0.1, 61, 61)] == [["c"], [], ["d"], ["e"], ["f"]]


def test_the_first_event_on_disk_is_looked_for_at_once_and_no_later_one(one: Process) -> None:
    """After an outage, what joins those that wait does not bring them on sooner."""
    assert one.sent_at(0) == []
    one.outbox.gate.failed(Action.RETRY, Answer(503))
    one.outbox.gate.passed()
    one.park("a", "b")
    sent = [one.sent_at(0)]
    one.park("c")
    assert [*sent, one.sent_at(0), one.sent_at(0.1)] == [["a"], [], ["b"]]


def test_who_has_events_on_disk_looks_more_often(one: Process, other: Process) -> None:
    """Each 2 s for its own, which another process may have in hand, and each minute for others'."""
    one.park("a")
    assert other.spool.claim(1)
    sent = [one.sent_at(0)]
    other.spool.close()
    sent += [one.sent_at(at) for at in (1.9, 2.0, 2.0)]
    other.park("b")
    sent += [one.sent_at(at) for at in (61.9, 62.0)]
    assert sent == [[], [], ["a"], [], [], ["b"]]


def test_what_another_process_has_delivered_waits_no_more(one: Process, other: Process) -> None:
    """New events with the same key need not go to disk from then on."""
    one.park("a")
    assert other.sent_at(0) == ["a"]
    assert one.keeper.parked() == 1
    one.keeper.tend()
    assert one.keeper.parked() == 0


@pytest.mark.parametrize(("writer", "replayed"), [(0, False), (1, True)])
def test_only_its_own_event_from_disk_ends_the_wait_of_a_key(
    one: Process, writer: int, replayed: bool
) -> None:
    """Neither one that went before it from memory, nor another process's with the same key."""
    one.park("a")
    row = one.spool.owner + writer
    one.keeper.settled([Encoded(0, "a", b"{}", row=row, replayed=replayed)])
    assert (one.keeper.parked(), one.sent_at(0), one.keeper.parked()) == (1, ["a"], 0)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_that_goes_while_it_is_open(one: Process, damaged: bool) -> None:
    """A new one takes what memory still has, and what waited in the old one is counted."""
    in_hand = Encoded(0, "a", b"{}")
    one.spool.write([in_hand], keep=True)
    one.park("b", "c")
    path = one.spool.file.path
    if damaged:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"this is no database" * 1000)
    else:
        path.unlink()
    one.keeper.park([in_hand])
    assert (one.ask("SELECT count(*) FROM event"), one.keeper.parked()) == (1, 1)
    assert one.tally.read()[1] == {"spool_gone": 2}


def test_a_file_that_goes_before_anything_is_replayed(one: Process) -> None:
    """What is not there was not delivered by another process."""
    one.park("a")
    one.spool.file.path.unlink()
    assert (one.sent_at(2.0), one.keeper.parked()) == ([], 0)
    assert one.tally.read()[1] == {"spool_gone": 1}


def test_what_was_delivered_leaves_a_disk_that_was_locked(one: Process) -> None:
    """It is deleted as soon as the lock is gone, so that nobody sends it again."""
    event = Encoded(0, "a", b"{}")
    one.spool.write([event], keep=True)
    assert one.sent_at(0) == []
    with closing(sqlite3.connect(one.spool.file.path, isolation_level=None)) as locking:
        locking.execute("BEGIN EXCLUSIVE")
        one.keeper.settled([event])
        locking.execute("ROLLBACK")
    assert one.ask("SELECT count(*) FROM event") == 1
    one.now_s += 1.0
    assert one.keeper.nap_s() == 0.1
    one.keeper.tend()
    assert one.ask("SELECT count(*) FROM event") == 0


def test_what_was_delivered_leaves_a_disk_that_was_away(tmp_path: Path) -> None:
    """However often that was tried in vain."""
    one, event = Process(tmp_path, look_s=3600.0), Encoded(0, "a", b"{}")
    one.spool.write([event], keep=True)
    assert one.sent_at(0) == []
    one.spool.file.close()
    one.spool.file.path.rename(tmp_path / "away")
    one.spool.file.path.mkdir()
    one.keeper.settled([event])
    one.now_s += 60.0
    one.keeper.tend()
    one.spool.file.path.rmdir()
    (tmp_path / "away").rename(one.spool.file.path)
    one.now_s += 60.0
    one.keeper.tend()
    assert one.ask("SELECT count(*) FROM event") == 0
    one.spool.close()


def test_what_has_come_back_from_disk_takes_no_room_there(one: Process) -> None:
    """Pages and log are given back at the first look that finds nothing, not at some exit."""
    one.spool.renew()
    one.spool.file.tidy()
    empty = _size_bytes(one)
    one.keeper.park([Encoded(0, "a", b"x" * 1_000_000)])
    full = _size_bytes(one)
    assert [one.sent_at(0), one.sent_at(0)] == [["a"], []]
    assert (full > 1_000_000, _size_bytes(one)) == (True, empty)


def _size_bytes(process: Process) -> int:
    return sum(path.stat().st_size for path in process.spool.file.path.parent.glob("*.sqlite*"))


def test_the_worker_sleeps_until_something_is_due(one: Process) -> None:
    """For ever without a spool, else until the next look; not for long while there is work."""
    naps = [one.keeper.nap_s()]
    one.spool.renew()
    one.keeper.tend()
    naps.append(one.keeper.nap_s())
    one.outbox.add([Encoded(0, "a", b"{}")])
    naps.append(one.keeper.nap_s())
    assert one.outbox.take(0.0)
    naps.append(one.keeper.nap_s())
    one.outbox.add([Encoded(1, "a", b"{}")])
    naps.append(one.keeper.nap_s())
    assert len(one.outbox.seize(in_flight=False)) == 1
    one.outbox.gate.failed(Action.RETRY, Answer(503))
    naps.append(one.keeper.nap_s())
    one.outbox.gate.passed()
    one.park("b")
    naps.append(one.keeper.nap_s())
    assert naps == [FOREVER_S, 60.0, 2.0, 2.0, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("held_at", "passed_at", "expected"),
    [
        ({0: True, 59: True, 60: True}, None, ["60 s"]),
        ({0: True, 59: False, 60: True, 119: True}, None, []),
        ({0: True, 60: True, 89: True}, 30, []),
    ],
    ids=["held", "none held between", "one passed between"],
)
def test_a_blackout_is_a_minute_in_which_events_are_held_and_none_passes(
    one: Process,
    caplog: pytest.LogCaptureFixture,
    held_at: dict[int, bool],
    passed_at: int | None,
    expected: list[str],
) -> None:
    """It counts from the first event, or from the last success."""
    for at, held in held_at.items():
        if passed_at is not None and at > passed_at:
            one.now_s = passed_at
            one.outbox.gate.passed()
            passed_at = None
        one.now_s = at
        one.keeper.warn_of_blackout(holds_events=held)
    assert [line.partition("for ")[2].partition(" (")[0] for line in caplog.messages] == expected
