"""Finding conversations: by who, when and how they went, and by what was said in them.

What a conversation is as a whole (its user, its failures) is looked up in the sums. What one of
its events is (words, model, any property) is looked for event by event, newest first, for a
limited time; then the page says how far back it got, and goes on from there when asked.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.collector.rows import clean

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping

THREADS_PER_PAGE = 25
BUDGET_S = 0.15
_FIRST_WINDOW = 20_000
_WIDEST_WINDOW = 2_000_000
_QUICK_S = 0.03
_CONTEXT_BEFORE = 24  # so that the match is seen on a phone
_CONTEXT_AFTER = 120
_LARGEST_ID = 2**62
_END_OF_DAY = "~"  # sorts after every time of that day
_TERM = re.compile(r'"([^"]+)"|(\S+)')
# Scripts that put no spaces between words, so that an index of words cannot find a part.
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


class Wanted(NamedTuple):
    """What is looked for; an empty string asks for nothing.

    Attributes:
        q: Words in a text; in quotes, words that follow each other.
        user: The user, in full.
        model: `$assistant_id` of one of its events.
        event: The name of one of its events.
        since: The first day, as 2026-11-22.
        until: The last day.
        prop: A property that one of its events has.
        value: The value which that property has.
        only: "failures", "feedback", or anything.
    """

    q: str = ""
    user: str = ""
    model: str = ""
    event: str = ""
    since: str = ""
    until: str = ""
    prop: str = ""
    value: str = ""
    only: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Wanted:
        """Read the form's fields."""
        return cls(**{name: clean(query.get(name, "").strip())[:1000] for name in cls._fields})

    @property
    def within_events(self) -> bool:
        """Return whether single events have to be looked at."""
        return bool(self.q or self.model or self.event or self.prop)


class Found(NamedTuple):
    """One page of conversations.

    Attributes:
        threads: The conversations, each as a row of `threads`.
        excerpts: What was said that matches, by thread; pieces, every second one a match.
        after: Where the next page starts; "" when there is none.
        searched_to: The day down to which was searched, when time ran out; else "".
    """

    threads: list[sqlite3.Row]
    excerpts: Mapping[str, list[str]]
    after: str
    searched_to: str


def find(
    db: sqlite3.Connection,
    wanted: Wanted,
    after: str,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Return the conversations that are wanted, the latest first.

    Args:
        db: The database.
        wanted: What to look for.
        after: `Found.after` of the page before, or "".
        clock: Seconds, for the limit on the time.
    """
    if wanted.within_events:
        return _find_by_events(db, wanted, after, clock)
    return _find_by_thread(db, wanted, after)


def _find_by_thread(db: sqlite3.Connection, wanted: Wanted, after: str) -> Found:
    conditions, values = _thread_conditions(wanted)
    last_at, _, number = after.partition(" ")
    if number.isdecimal() and len(number) < 19:  # noqa: PLR2004 - digits
        conditions.append("(last_at, number) < (?, ?)")
        values += [last_at, int(number)]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    threads = db.execute(
        f"SELECT * FROM threads {where} "  # noqa: S608 - conditions from this file, values bound
        "ORDER BY last_at DESC, number DESC LIMIT ?",
        (*values, THREADS_PER_PAGE + 1),
    ).fetchall()
    page = threads[:THREADS_PER_PAGE]
    more = len(threads) > THREADS_PER_PAGE
    return Found(page, {}, f"{page[-1]['last_at']} {page[-1]['number']}" if more else "", "")


def _thread_conditions(wanted: Wanted) -> tuple[list[str], list[object]]:
    offered = (
        ("user_id = ?", wanted.user, wanted.user),
        ("last_at >= ?", wanted.since, wanted.since),
        ("first_at <= ?", wanted.until, wanted.until + _END_OF_DAY),
    )
    conditions = [condition for condition, given, _ in offered if given]
    values: list[object] = [value for _, given, value in offered if given]
    if wanted.only in {"failures", "feedback"}:
        conditions.append(f"{wanted.only} > 0")
    return conditions, values


def _find_by_events(
    db: sqlite3.Connection, wanted: Wanted, after: str, clock: Callable[[], float]
) -> Found:
    start = int(after) if after.isdecimal() and len(after) < 19 else _LARGEST_ID  # noqa: PLR2004 - digits
    matches: dict[str, int] = {}
    next_id = 0
    deadline = clock() + BUDGET_S
    for low, rows in _windows(db, wanted, start, clock):
        for event_id, thread_id in rows:
            matches.setdefault(thread_id, event_id)
            if len(matches) == THREADS_PER_PAGE:
                next_id = event_id
                break
        if next_id:
            break
        if clock() > deadline and low > 0:
            return _show(db, wanted, matches, low, ran_out=True)
    return _show(db, wanted, matches, next_id, ran_out=False)


def _windows(
    db: sqlite3.Connection, wanted: Wanted, start: int, clock: Callable[[], float]
) -> Iterator[tuple[int, Iterator[tuple[int, str]]]]:
    """Yield the matching events of one stretch of ids after another, going back.

    A stretch grows while it is quick: events that match are dense for one search and years apart
    for another.
    """
    query, values = _event_query(wanted)
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    high, width = min(start, newest + 1), _FIRST_WINDOW
    while high > 0:
        low = max(0, high - width)
        started = clock()
        yield low, db.execute(query, (low, high, *values))
        high = low
        if clock() - started < _QUICK_S:
            width = min(width * 4, _WIDEST_WINDOW)


def _event_query(wanted: Wanted) -> tuple[str, list[object]]:
    conditions, values = _event_conditions(wanted)
    source = "events e"
    if wanted.q and not _SPACELESS.search(wanted.q):
        source = "search s CROSS JOIN events e ON e.id = s.rowid"
        stretch = "s.rowid >= ? AND s.rowid < ? AND search MATCH ?"
        values.insert(0, match_expression(wanted.q))
        order = "s.rowid"
    else:
        stretch, order = "e.id >= ? AND e.id < ?", "e.id"
        if wanted.q:
            conditions.append("instr(e.text, ?)")
            values.append(wanted.q)
    where = " AND ".join([stretch, "e.thread_id IS NOT NULL", *conditions])
    query = f"SELECT e.id, e.thread_id FROM {source} WHERE {where} ORDER BY {order} DESC"  # noqa: S608 - conditions from this file, values bound
    return query, values


def _event_conditions(wanted: Wanted) -> tuple[list[str], list[object]]:
    offered = (
        ("e.user_id = ?", wanted.user, wanted.user),
        ("e.assistant_id = ?", wanted.model, wanted.model),
        ("e.event = ?", wanted.event, wanted.event),
        ("e.timestamp >= ?", wanted.since, wanted.since),
        ("e.timestamp <= ?", wanted.until, wanted.until + _END_OF_DAY),
    )
    conditions = [condition for condition, given, _ in offered if given]
    values: list[object] = [value for _, given, value in offered if given]
    if wanted.only in {"failures", "feedback"}:
        conditions.append(
            f"e.thread_id IN (SELECT thread_id FROM threads WHERE {wanted.only} > 0)"  # noqa: S608 - one of two words
        )
    if wanted.prop:
        # A look at the JSON's text first: reading it takes much longer.
        conditions.append("instr(e.properties, ?) AND EXISTS (" + _PROPERTY + ")")
        in_json = json.dumps(wanted.prop, ensure_ascii=False)
        values += [in_json, wanted.prop, wanted.value, wanted.value]
    return conditions, values


_PROPERTY = """
SELECT 1 FROM json_each(e.properties) p WHERE p.key = ? AND (? = '' OR ? =
    CASE p.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE cast(p.value AS TEXT) END)
"""


def match_expression(q: str) -> str:
    """Return what FTS5 understands: every word as the start of one, a quotation as it stands."""
    terms: list[str] = []
    for quoted, word in _TERM.findall(q.replace("\0", " ")):
        term = (quoted or word).replace('"', '""')
        terms.append(f'"{term}"' if quoted else f'"{term}"*')
    return " AND ".join(terms) or '""'


def _show(
    db: sqlite3.Connection,
    wanted: Wanted,
    matches: Mapping[str, int],
    next_id: int,
    *,
    ran_out: bool,
) -> Found:
    lookup = "SELECT * FROM threads WHERE thread_id = ?"
    threads = [db.execute(lookup, (thread_id,)).fetchone() for thread_id in matches]
    excerpts = {thread_id: _excerpt(db, wanted.q, event) for thread_id, event in matches.items()}
    day = ""
    if ran_out:
        query = "SELECT timestamp FROM events WHERE id >= ? ORDER BY id LIMIT 1"
        day = db.execute(query, (next_id,)).fetchone()[0][:10]
    return Found(threads, excerpts, str(next_id) if next_id else "", day)


def _excerpt(db: sqlite3.Connection, q: str, event_id: int) -> list[str]:
    """Cut the surroundings of the first match out, as text, match, text."""
    if not q:
        return []
    query = "SELECT substr(text, 1, 100000) FROM events WHERE id = ?"
    text: str = db.execute(query, (event_id,)).fetchone()[0] or ""
    words = [quoted or word for quoted, word in _TERM.findall(q)] or [q]
    match = re.search("|".join(map(re.escape, words)), text, re.IGNORECASE)
    if not match:
        return [text[:160]]
    start = max(0, match.start() - _CONTEXT_BEFORE)
    before = ("…" if start else "") + text[start : match.start()]
    return [before, match.group(), text[match.end() : match.end() + _CONTEXT_AFTER]]
