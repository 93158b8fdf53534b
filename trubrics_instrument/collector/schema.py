"""The database's tables: one that holds the events, and sums that keep the pages fast.

`events` is the truth and is meant to be read by other tools. All else follows from it.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

APPLICATION_ID = 0x54525542  # "TRUB", in the header of the file

MEASURES = (
    "events",
    "prompts",
    "generations",
    "tool_calls",
    "failures",
    "feedback",
    "tokens",
    "priced",  # events whose cost is known: without any, the cost is not 0 but unknown
    "cost_usd",
)
_MEASURES = ", ".join(f"{name} {'REAL' if name == 'cost_usd' else 'INTEGER'}" for name in MEASURES)

_EVENTS = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT UNIQUE,
    user_id TEXT NOT NULL,
    event TEXT NOT NULL,
    kind TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    text TEXT,
    thread_id TEXT,
    assistant_id TEXT,
    prompt_id TEXT,
    generation_id TEXT,
    latency_s REAL,
    tokens INTEGER,
    cost_usd REAL,
    properties TEXT NOT NULL
);
CREATE INDEX events_by_time ON events (timestamp, kind, user_id);
CREATE INDEX events_by_user ON events (user_id, timestamp);
CREATE INDEX events_loose ON events (user_id, timestamp) WHERE thread_id IS NULL;
CREATE INDEX events_by_thread ON events (thread_id, timestamp) WHERE thread_id IS NOT NULL;
"""

# What a user did in a period is about who was there and who asked.
USER_MEASURES = MEASURES[:2]
_USER_MEASURES = ", ".join(f"{name} INTEGER" for name in USER_MEASURES)

_SUMS = f"""
CREATE TABLE threads (
    number INTEGER PRIMARY KEY, thread_id TEXT UNIQUE, user_id TEXT, assistant_id TEXT, title TEXT,
    first_at TEXT, last_at TEXT, {_MEASURES}
);
CREATE INDEX threads_by_last ON threads (last_at);
CREATE INDEX threads_by_first ON threads (first_at);
CREATE INDEX threads_by_prompts ON threads (prompts, last_at);
CREATE INDEX threads_by_user ON threads (user_id, last_at);
CREATE INDEX threads_failed ON threads (last_at) WHERE failures > 0;
CREATE INDEX threads_rated ON threads (last_at) WHERE feedback > 0;

CREATE TABLE thread_events (
    number INTEGER, timestamp TEXT, event INTEGER, PRIMARY KEY (number, timestamp, event)
) WITHOUT ROWID;

CREATE TABLE users (
    user_id TEXT PRIMARY KEY, first_at TEXT, last_at TEXT, {_MEASURES}
) WITHOUT ROWID;
CREATE INDEX users_by_last ON users (last_at);

CREATE TABLE model_sums (
    grain TEXT, period TEXT, assistant_id TEXT, {_MEASURES},
    PRIMARY KEY (grain, period, assistant_id)
) WITHOUT ROWID;
CREATE TABLE user_sums (
    grain TEXT, period TEXT, user_id TEXT, {_USER_MEASURES},
    PRIMARY KEY (grain, period, user_id)
) WITHOUT ROWID;
CREATE TABLE latencies (
    grain TEXT, period TEXT, assistant_id TEXT, bucket INTEGER, events INTEGER,
    PRIMARY KEY (grain, period, assistant_id, bucket)
) WITHOUT ROWID;
"""

# Feedback that came without its conversation, and the answer that it is for, once that is there.
# Answers are looked up day by day, as an index of ids that are made up at random would change all
# over the file; by day it changes in one place.
_PLACES = """
CREATE TABLE loose_feedback (
    event INTEGER PRIMARY KEY, user_id TEXT, generation_id TEXT, answer INTEGER, thread_id TEXT
);
CREATE INDEX loose_feedback_waiting ON loose_feedback (generation_id, user_id)
    WHERE answer IS NULL;
CREATE INDEX loose_feedback_answers ON loose_feedback (answer) WHERE answer IS NOT NULL;
CREATE INDEX events_answers ON events (substr(timestamp, 1, 10), generation_id, user_id)
    WHERE kind = 'generation' AND generation_id IS NOT NULL AND thread_id IS NOT NULL;
"""

_SUM_TABLES = (
    *("threads", "thread_events", "users"),
    *("model_sums", "user_sums", "user_days", "latencies"),
)

# How far each target of `forward` is: this follows from nothing else.
_DELIVERIES = """
CREATE TABLE IF NOT EXISTS deliveries (target TEXT PRIMARY KEY, through INTEGER, sending INTEGER)
"""

# An index over `events.text` that holds no second copy of it. It follows the events, in larger
# steps than they come in; `indexed` says how far it is, and the trigger keeps it true to deletions.
_SEARCH = """
CREATE VIRTUAL TABLE search USING fts5(
    text, content='events', content_rowid='id', tokenize="unicode61 remove_diacritics 2"
);
CREATE TABLE indexed (through INTEGER);
INSERT INTO indexed VALUES (0);
CREATE TRIGGER events_deleted AFTER DELETE ON events
WHEN old.text IS NOT NULL AND old.id <= (SELECT through FROM indexed) BEGIN
    INSERT INTO search (search, rowid, text) VALUES ('delete', old.id, old.text);
END;
"""


class ForeignDatabaseError(Exception):
    """The file is not a database of this collector, or of a newer one."""


def prepare(db: sqlite3.Connection, steps: tuple[Callable[[sqlite3.Connection], None], ...]) -> int:
    """Bring the database up to date, step by step, and return how many steps it took.

    Raises:
        ForeignDatabaseError: It holds something else, or comes from a newer version; it is
            left as it was.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db, newest=len(steps))
        for step in steps[version:]:
            step(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return len(steps) - version


def create_events(db: sqlite3.Connection) -> None:
    """Step 1: the events."""
    _run(db, _EVENTS)


def create_search(db: sqlite3.Connection) -> None:
    """Step 2: the text index, empty (and the first form of the sums, once)."""
    _run(db, _SEARCH)


def gather_words(db: sqlite3.Connection) -> None:
    """Step 3: the index of words writes larger parts, and merges them less often.

    Source: sqlite.org/fts5.html, "hashsize" (1 MiB unless told) and "automerge" (4 unless told).
    A step of the index then costs half as much.
    """
    db.execute("INSERT INTO search (search, rank) VALUES ('hashsize', ?)", (16 * 1024 * 1024,))
    db.execute("INSERT INTO search (search, rank) VALUES ('automerge', 8)")


def drop_indexes(db: sqlite3.Connection) -> None:
    """Step 4: fewer indexes, which cost with every event (and a form of the sums, once).

    An index that is ordered by ids made up at random changes all over the file.
    """
    for index in ("events_by_user", "events_by_thread", "events_by_time"):
        db.execute(f"DROP INDEX {index}")
    db.execute("CREATE INDEX events_by_time ON events (timestamp, user_id)")


def renew_sums(db: sqlite3.Connection) -> None:
    """Step 5: how many events have a known cost, and where feedback belongs.

    Any earlier form of the sums is thrown away; `fill_sums` fills them.
    """
    for table in _SUM_TABLES:
        db.execute(f"DROP TABLE IF EXISTS {table}")
    _run(db, _SUMS)
    _run(db, _PLACES)
    db.execute(_DELIVERIES)


def _version(db: sqlite3.Connection, newest: int) -> int:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id == 0 and version == 0 and tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise ForeignDatabaseError("it is a database of something else")
    if version > newest:
        raise ForeignDatabaseError(
            f"it was written by a newer version (schema {version}, this one knows {newest}): "
            "pip install -U trubrics-instrument"
        )
    return int(version)


def _run(db: sqlite3.Connection, script: str) -> None:
    """`executescript` would commit the transaction that a migration must stay inside."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
