"""The database: what it survives, what it refuses, and that its sums stay true."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.collector.conftest import TIMEOUT_S, until
from trubrics_instrument.collector import log
from trubrics_instrument.collector.log import Log
from trubrics_instrument.collector.placing import ANSWER
from trubrics_instrument.collector.removal import delete_before, delete_user
from trubrics_instrument.collector.rows import COLUMNS, Row, to_row
from trubrics_instrument.collector.schema import (
    APPLICATION_ID,
    ForeignDatabaseError,
    create_events,
    prepare,
)
from trubrics_instrument.collector.store import STEPS, Store

if TYPE_CHECKING:
    from pathlib import Path

_NEWER = "it was written by a newer version"
_UPGRADE = "pip install -U trubrics-instrument"
SUMMED = ("threads", "users", "model_sums", "user_sums", "latencies")


def _rows(user_id: str, thread_id: str, day: int) -> list[Row]:
    shared = {"$thread_id": thread_id, "$prompt_id": "p"}
    asked = {**shared, "$text": f"a question of {user_id}"}
    rated = {"$generation_id": f"g-{user_id}-{thread_id}-{day}"}
    answered = {
        **shared,
        **rated,
        "$text": "an answer",
        "$assistant_id": "gpt-4o",
        "latency": 1.5,
        "total_tokens": 10,
        "cost_usd": 0.5,
    }
    return [
        to_row(user_id, "Prompt", f"2026-01-{day:02d}T10:00:00.000Z", asked),
        to_row(user_id, "Generation", f"2026-01-{day:02d}T10:00:02.000Z", answered),
        to_row(user_id, "Sign in", f"2026-01-{day:02d}T11:00:00.000Z", {}),
        to_row(user_id, "Feedback", f"2026-01-{day:02d}T11:00:01.000Z", {**rated, "score": 1}),
    ]


def _sums(store: Store) -> dict[str, list[dict[str, object]]]:
    """Return every sum; a thread's number says only when it was first seen."""
    with store.reading() as db:
        return {
            table: sorted(
                (
                    {**row, "number": None}
                    for row in map(dict, db.execute(f"SELECT * FROM {table}"))
                ),
                key=str,
            )
            for table in SUMMED
        }


def _talks(store: Store) -> dict[str, list[str]]:
    """Return what was said in each thread, in order, as its page finds it."""
    query = (
        "SELECT t.thread_id, e.event || ' ' || e.timestamp FROM threads t "
        "JOIN thread_events o USING (number) JOIN events e ON e.id = o.event "
        "ORDER BY o.number, o.timestamp, o.event"
    )
    talks: dict[str, list[str]] = {}
    with store.reading() as db:
        for thread_id, said in db.execute(query):
            talks.setdefault(thread_id, []).append(said)
        (left,) = db.execute("SELECT count(*) FROM thread_events").fetchone()
    assert left == sum(map(len, talks.values()))
    return talks


def _found(store: Store, word: str) -> int:
    query = "SELECT count(*) FROM search WHERE search MATCH ?"
    with store.reading() as db:
        return int(db.execute(query, (word,)).fetchone()[0])


def _is_indexed(store: Store) -> bool:
    query = "SELECT (SELECT through FROM indexed) = (SELECT max(id) FROM events)"
    with store.reading() as db:
        return bool(db.execute(query).fetchone()[0])


def test_deleting_a_user_leaves_what_would_be_there_without_them(tmp_path: Path) -> None:
    """Sums, threads that others share, and the index of words: as if they had never been."""
    others = [*_rows("ada", "t-1", 1), *_rows("eve", "t-2", 3)]
    with closing(Store(tmp_path / "a")) as without, closing(Store(tmp_path / "b")) as store:
        without.add(others).result()
        store.add([*_rows("zzyzx", "t-2", 2), *others, *_rows("zzyzx", "t-3", 3)]).result()
        until(lambda: _is_indexed(store))
        assert delete_user(store, "zzyzx") == 8
        assert _sums(store) == _sums(without)
        assert _talks(store) == _talks(without)
        assert (_found(store, "zzyzx"), _found(store, "eve")) == (0, 1)
        for file in tmp_path.glob("b*"):
            assert b"zzyzx" not in file.read_bytes()


def test_retention_deletes_what_is_older(tmp_path: Path) -> None:
    """The day before goes, the day itself stays, and a thread starts where it now starts."""
    with closing(Store(tmp_path / "a")) as without, closing(Store(tmp_path / "b")) as store:
        kept = [*_rows("ada", "t-1", 3), *_rows("ada", "t-1", 4)]
        without.add(kept).result()
        store.add([*_rows("zzyzx", "t-1", 1), *_rows("bob", "t-9", 2), *kept]).result()
        until(lambda: _is_indexed(store))
        assert delete_before(store, "2026-01-03") == 8
        assert _sums(store) == _sums(without)
        assert _talks(store) == _talks(without)
        for file in tmp_path.glob("b*"):
            assert b"zzyzx" not in file.read_bytes()


def _feedback(at: str, **properties: object) -> Row:
    return to_row("ada", "Feedback", f"2026-01-{at}:00.000Z", {"$generation_id": "g", **properties})


def _answer(at: str, thread_id: str, user_id: str = "ada") -> Row:
    properties = {"$text": "Yes.", "$thread_id": thread_id, "$generation_id": "g"}
    return to_row(user_id, "Generation", f"2026-01-{at}:00.000Z", properties)


@pytest.mark.parametrize(
    ("batches", "thread_id"),
    [
        ([[_answer("05T10:00", "t-1")], [_feedback("05T10:01")]], "t-1"),
        ([[_feedback("05T10:01")], [_answer("05T10:00", "t-1")]], "t-1"),
        ([[_answer("05T10:00", "t-1"), _feedback("05T10:01")]], "t-1"),
        ([[_feedback("05T10:01"), _answer("05T10:00", "t-1")]], "t-1"),
        # Weeks later; and before the end of the answer, by a clock of another day.
        ([[_answer("01T10:00", "t-1")], [_feedback("31T10:01")]], "t-1"),
        ([[_answer("05T00:00", "t-1")], [_feedback("04T23:59")]], "t-1"),
        # Some servers give the same ids again: it is for the last one until then.
        (
            [
                [
                    _answer("03T10:00", "t-1"),
                    _answer("05T10:00", "t-2"),
                    _answer("05T09:00", "t-3"),
                ],
                [_answer("07T10:00", "t-4")],
                [_feedback("05T10:01")],
            ],
            "t-2",
        ),
        # It has a conversation already.
        ([[_answer("05T10:00", "t-1")], [_feedback("05T10:01", **{"$thread_id": "t-9"})]], "t-9"),
    ],
)
def test_feedback_without_a_thread_has_that_of_its_answer(
    tmp_path: Path, batches: list[list[Row]], thread_id: str
) -> None:
    """In whichever order they come, everything is counted as if it had said so itself."""
    with closing(Store(tmp_path / "a")) as saying, closing(Store(tmp_path / "b")) as store:
        for batch in batches:
            store.add(batch).result()
            said = [row._replace(thread_id=thread_id) for row in batch if row.kind == "feedback"]
            saying.add([row for row in batch if row.kind != "feedback"] + said).result()
        assert _sums(store) == _sums(saying)
        assert _talks(store) == _talks(saying)


def test_an_answer_is_looked_up_in_an_index(tmp_path: Path) -> None:
    """The day, the id and the user lead to it, among any number of answers."""
    with closing(Store(tmp_path / "db")) as store, store.reading() as db:
        plan = db.execute(f"EXPLAIN QUERY PLAN {ANSWER}", _feedback("05T10:01")._asdict())
        assert (
            "SEARCH a USING INDEX events_answers (<expr>=? AND generation_id=? AND user_id=?)"
            in [row["detail"] for row in plan]
        )


@pytest.mark.parametrize(
    "other",
    [
        [_answer("05T10:00", "t-1", "bob")],
        [_answer("07T10:00", "t-1")],
        [_answer("05T10:00", "t-1")._replace(generation_id="another")],
        [_answer("05T10:00", "t-1")._replace(thread_id=None)],
        [_answer("05T10:00", "t-1")._replace(kind="other")],
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_feedback_for_nothing_that_is_there_stands_alone(
    tmp_path: Path, other: list[Row], first: bool
) -> None:
    """An answer of somebody else, of later, of another name, or outside of conversations."""
    with closing(Store(tmp_path / "db")) as store:
        for batch in (
            [other, [_feedback("05T10:01")]] if first else [[_feedback("05T10:01")], other]
        ):
            store.add(batch).result()
        assert [
            said for talk in _talks(store).values() for said in talk if "Feedback" in said
        ] == []


def test_a_conversation_that_feedback_begins_outlives_who_else_was_in_it(tmp_path: Path) -> None:
    """By the clock of another process it may come first; then its thread is measured again."""
    kept = [_answer("05T00:00", "t-1"), _feedback("04T23:59")]
    with closing(Store(tmp_path / "a")) as without, closing(Store(tmp_path / "b")) as store:
        without.add(kept).result()
        store.add([*kept, *_rows("bob", "t-1", 6)]).result()
        assert delete_user(store, "bob") == 4
        assert (_sums(store), _talks(store)) == (_sums(without), _talks(without))


def test_feedback_whose_answer_is_deleted_belongs_to_the_one_that_is_left(tmp_path: Path) -> None:
    """To another answer of that name, or to none, and then to the next that comes."""
    with closing(Store(tmp_path / "db")) as store:

        def talks() -> dict[str, list[str]]:
            return {
                name: [said.partition(" ")[0] for said in talk]
                for name, talk in _talks(store).items()
            }

        store.add([_answer("03T10:00", "t-2"), _feedback("05T10:01")]).result()
        store.add([_answer("04T10:00", "t-1")]).result()
        assert talks() == {"t-2": ["Generation", "Feedback"], "t-1": ["Generation"]}
        assert delete_before(store, "2026-01-04") == 1
        assert talks() == {"t-1": ["Generation", "Feedback"]}
        assert delete_before(store, "2026-01-05") == 1
        assert talks() == {}
        store.add([_answer("05T10:00", "t-3")]).result()
        assert talks() == {"t-3": ["Generation", "Feedback"]}
        assert delete_user(store, "ada") == 2
        with store.reading() as db:
            assert db.execute("SELECT * FROM loose_feedback").fetchall() == []


# What the second and the third form had besides the events and the index of words.
_FORMER_SUMS = """
CREATE TABLE threads (thread_id TEXT PRIMARY KEY, events INTEGER) WITHOUT ROWID;
CREATE TABLE users (user_id TEXT PRIMARY KEY, events INTEGER) WITHOUT ROWID;
CREATE TABLE model_sums (grain TEXT, period TEXT, assistant_id TEXT, events INTEGER);
CREATE TABLE user_days (user_id TEXT, day TEXT, events INTEGER, PRIMARY KEY (user_id, day));
CREATE INDEX user_days_by_day ON user_days (day);
CREATE TABLE latencies (grain TEXT, period TEXT, bucket INTEGER, events INTEGER);
CREATE TABLE deliveries (target TEXT PRIMARY KEY, through INTEGER, sending INTEGER);
INSERT INTO threads VALUES ('wrong', 7);
INSERT INTO user_days VALUES ('wrong', '2026-01-01', 7);
INSERT INTO deliveries VALUES ('a host', 2, 2);
"""


# And the fourth, until costs that are known were counted.
_FOURTH_SUMS = """
CREATE TABLE thread_events (number INTEGER, event INTEGER);
CREATE TABLE user_sums (grain TEXT, period TEXT, user_id TEXT, events INTEGER);
INSERT INTO thread_events VALUES (7, 7);
INSERT INTO user_sums VALUES ('day', '2026-01-01', 'wrong', 7);
"""


@pytest.mark.parametrize("form", [1, 2, 3, 4])
def test_an_older_database_is_brought_up_to_date(tmp_path: Path, form: int) -> None:
    """It is then as a new one that took the same events; how far they were forwarded stays."""
    rows = [*_rows("ada", "t-1", 1), *_rows("bob", "t-2", 2)]
    with closing(sqlite3.connect(tmp_path / "old", isolation_level=None)) as old:
        assert prepare(old, STEPS[:form]) == form
        marks = ", ".join("?" * len(Row._fields))
        old.executemany(f"INSERT INTO events ({COLUMNS}) VALUES ({marks})", rows)
        if form > 1:
            old.executescript(_FORMER_SUMS)
        if form > 3:
            old.executescript(_FOURTH_SUMS)
    with closing(Store(tmp_path / "new")) as new, closing(Store(tmp_path / "old")) as store:
        new.add(rows).result()
        assert (_sums(store), _talks(store)) == (_sums(new), _talks(new))
        assert _tables(store) == _tables(new)
        with store.reading() as db:
            delivered = [tuple(row) for row in db.execute("SELECT * FROM deliveries")]
        assert delivered == ([("a host", 2, 2)] if form > 1 else [])
        store.catch_up()
        until(lambda: _found(store, "question") == 2)
        assert store.add(_rows("ada", "t-1", 3)).result() == (4, 0)


def _tables(store: Store) -> dict[str, str]:
    """Return how each table and index is made, in one form of writing."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    with store.reading() as db:
        return {name: " ".join(sql.split()) for name, sql in db.execute(query)}


def test_the_index_of_an_older_database_writes_larger_parts(tmp_path: Path) -> None:
    """The second form had the index with SQLite's own settings, which cost twice as much."""
    with closing(sqlite3.connect(tmp_path / "old", isolation_level=None)) as old:
        assert prepare(old, STEPS[:2]) == 2
    with closing(Store(tmp_path / "old")) as store, store.reading() as db:
        settings = dict(db.execute("SELECT k, v FROM search_config"))
        assert settings == {"version": 4, "hashsize": 16 * 1024 * 1024, "automerge": 8}


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["CREATE TABLE notes (text)"], "it is a database of something else"),
        (["PRAGMA user_version = 1"], "it is a database of something else"),
        (["PRAGMA application_id = 7"], "it is a database of something else"),
        (
            [f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 99"],
            f"{_NEWER} (schema 99, this one knows {len(STEPS)}): {_UPGRADE}",
        ),
    ],
)
def test_a_foreign_database_is_refused(tmp_path: Path, statements: list[str], reason: str) -> None:
    """Another program's file, or a newer version's, is not opened, and not changed."""
    file = tmp_path / "foreign"
    with closing(sqlite3.connect(file)) as db:
        for statement in statements:
            db.execute(statement)
    before = file.read_bytes()
    with pytest.raises(ForeignDatabaseError) as refusal:
        Store(file)
    assert str(refusal.value) == f"{file} is not used: {reason}"
    assert file.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """All steps or none: the next start finds what was there."""

    def fail(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (done)")
        raise RuntimeError("half way")

    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as db:
        with pytest.raises(RuntimeError, match="half way"):
            prepare(db, (create_events, fail))
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_file_that_cannot_be_opened_any_more_refuses_events(tmp_path: Path) -> None:
    """Whoever waits for them to be written is told, each time, and does not wait for ever."""
    path = tmp_path / "db"
    with closing(Store(path)) as store:
        path.unlink()
        path.mkdir()
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
                store.add(_rows("ada", "t-1", 1)).result(timeout=10)


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds people's conversations."""
    path = tmp_path / "new" / "db"
    Store(path).close()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_file_that_is_there_is_made_private(tmp_path: Path) -> None:
    """It may have been copied there; and a link was made by whoever names it."""
    file, link = tmp_path / "file.sqlite3", tmp_path / "link.sqlite3"
    file.touch(0o644)
    file.chmod(0o644)
    link.symlink_to(file)
    Store(link).close()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert file.stat().st_size > 0


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """A server that is killed while it takes events has every one that it answered for."""
    script = """
import os, sys, threading
import requests
from trubrics_instrument import collector
from tests.collector.conftest import event
with collector.running(sys.argv[1]) as server:
    def send(name):
        for number in range(1_000_000):
            batch = [event(properties={"event_id": f"{name}-{number}-{i}"}) for i in range(5)]
            requests.post(f"{server.url}/publish_events", json=batch).raise_for_status()
            os.write(1, f"{name}-{number}\\n".encode())
    for name in "abcd":
        threading.Thread(target=send, args=(name,), daemon=True).start()
    threading.Event().wait()
"""
    path = tmp_path / "db"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        first = [process.stdout.readline() for _ in range(40)]
        process.kill()
        acknowledged = [line.strip() for line in [*first, *process.stdout] if line.endswith("\n")]
    with closing(Store(path)) as store, store.reading() as db:
        stored = {row[0] for row in db.execute("SELECT event_id FROM events")}
        assert {f"{name}-{i}" for name in acknowledged for i in range(5)} <= stored
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        (summed,) = db.execute("SELECT sum(events) FROM users").fetchone()
        assert summed == len(stored)
        assert len(stored) % 5 == 0


def _add_much(store: Store, times: int = 200) -> list[int]:
    """Add 20 MiB and more, and return how long the log was in between."""
    at = "2026-01-01T00:00:00.000Z"
    sizes: list[int] = []
    for number in range(times):
        store.add([to_row("ada", "Prompt", at, {"$text": f"{number} " * 200})] * 100).result()
        sizes.append(store.path.with_name("db-wal").stat().st_size)
    return sizes


def test_the_log_stays_short_while_events_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is moved into the file beside the writer, and started anew again and again."""
    monkeypatch.setattr(log, "MOVED_AT_BYTES", 1024 * 1024)
    with closing(Store(tmp_path / "db")) as store:
        sizes = _add_much(store)
        with store.reading() as db:
            assert tuple(db.execute("SELECT count(*) FROM events").fetchone()) == (20_000,)
            assert tuple(db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
    assert max(sizes) < 8 * 1024 * 1024
    assert sum(size < before for before, size in pairwise(sizes)) > 2


def test_the_writer_waits_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in faster than it can be moved would fill the disk with the log."""
    monkeypatch.setattr(log, "MOVED_AT_BYTES", 1024 * 1024)
    quick = threading.Event()
    move = Log._move

    def move_slowly(self: Log) -> None:
        quick.wait(TIMEOUT_S)
        move(self)

    monkeypatch.setattr(Log, "_move", move_slowly)
    with closing(Store(tmp_path / "db")) as store:
        sender = threading.Thread(target=_add_much, args=(store,))
        sender.start()
        sender.join(1)
        assert (tmp_path / "db-wal").stat().st_size < 8 * 1024 * 1024
        quick.set()
        sender.join()
        with store.reading() as db:
            assert tuple(db.execute("SELECT count(*) FROM events").fetchone()) == (20_000,)


def test_no_deleted_text_stays_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cleared, even where somebody is moving it at that moment."""
    monkeypatch.setattr(log, "MOVED_AT_BYTES", 0)
    with closing(Store(tmp_path / "db")) as store:
        for _ in range(20):
            store.add(_rows("zzyzx", "t-1", 1) * 20).result()
            assert delete_user(store, "zzyzx") == 80
            assert (tmp_path / "db-wal").read_bytes() == b""


def test_a_log_that_is_not_there_yet_is_no_trouble(tmp_path: Path) -> None:
    """It comes with the first transaction, and the writer may have had nothing to do."""
    path = tmp_path / "db"
    with closing(Store(path)), closing(sqlite3.connect(path)) as db:
        Log(path, lambda: db).tend(db)


def test_the_log_grows_while_somebody_reads_and_shrinks_when_they_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long export sees one moment of the file; what came in meanwhile is moved after it."""
    monkeypatch.setattr(log, "MOVED_AT_BYTES", 256 * 1024)
    with closing(Store(tmp_path / "db")) as store:

        def add_some() -> int:
            at = "2026-01-01T00:00:00.000Z"
            store.add([to_row("ada", "Prompt", at, {"$text": "a word " * 900})] * 20).result()
            return (tmp_path / "db-wal").stat().st_size

        add_some()
        with store.reading() as db:
            assert tuple(db.execute("SELECT count(*) FROM events").fetchone()) == (20,)
            until(lambda: add_some() > 4 * 1024 * 1024)
            assert tuple(db.execute("SELECT count(*) FROM events").fetchone()) == (20,)
        until(lambda: add_some() < 1024 * 1024)
        sizes = [0]

        def started_anew() -> bool:
            sizes.append(add_some())
            return sizes[-1] < sizes[-2]

        until(started_anew)
        assert max(sizes) < 4 * 1024 * 1024
