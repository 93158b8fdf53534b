"""Finding conversations: by who, when and how they went, and by what was said in them.

What a conversation is as a whole (its user, its failures) is looked up in the sums. What one of
its events is (words, model, any property) is looked for event by event, newest first, for a
limited time; then the page says how far back it got, and goes on from there when asked.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.collector.wanted import event_query, terms, thread_conditions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping

    from trubrics_instrument.collector.wanted import Wanted

THREADS_PER_PAGE = 25
BUDGET_S = 0.15
_FIRST_WINDOW = 20_000
_WIDEST_WINDOW = 2_000_000
_QUICK_S = 0.03
_CONTEXT_BEFORE = 24  # so that the match is seen on a phone
_CONTEXT_AFTER = 120
_LARGEST_ID = 2**62


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
    conditions, values = thread_conditions(wanted)
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
    query, values = event_query(wanted)
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    high, width = min(start, newest + 1), _FIRST_WINDOW
    while high > 0:
        low = max(0, high - width)
        started = clock()
        yield low, db.execute(query, (low, high, *values))
        high = low
        if clock() - started < _QUICK_S:
            width = min(width * 4, _WIDEST_WINDOW)


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
    words = [term for term, _ in terms(q)] or [q]
    match = re.search("|".join(map(re.escape, words)), text, re.IGNORECASE)
    if not match:
        return [text[:160]]
    start = max(0, match.start() - _CONTEXT_BEFORE)
    before = ("…" if start else "") + text[start : match.start()]
    return [before, match.group(), text[match.end() : match.end() + _CONTEXT_AFTER]]
