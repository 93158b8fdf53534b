"""Feedback that came without its conversation: it belongs to that of the answer which it is for.

A process that has not told the answer knows its id only. The event stays as it was sent; where it
belongs is kept beside it, and follows from the id and the user, whichever of the two comes first.
Some servers give the same ids again and again, so that another user's answer proves nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trubrics_instrument.collector.rows import COLUMNS, FEEDBACK, GENERATION, Row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

# The conversation to which an event `e` belongs.
THREAD = "coalesce(e.thread_id, (SELECT thread_id FROM loose_feedback WHERE event = e.id))"
_COLUMNS = ", ".join(f"e.{name}" for name in Row._fields)
_KEEP = "INSERT INTO loose_feedback (event, user_id, generation_id) VALUES (?, ?, ?)"
_PLACE = "UPDATE loose_feedback SET answer = ?, thread_id = ? WHERE event = ?"
_IDS = "(SELECT value FROM json_each(:ids))"
_WAITING = f"""
SELECT e.id, {_COLUMNS} FROM json_each(:ids) n
CROSS JOIN events a ON a.id = n.value
CROSS JOIN loose_feedback l INDEXED BY loose_feedback_waiting
    ON l.answer IS NULL AND l.generation_id = a.generation_id AND l.user_id = a.user_id
CROSS JOIN events e ON e.id = l.event
"""  # noqa: S608 - names from Row
# The last one until the day after, as clocks differ and who rates need not wait for the end. The
# plus takes the column's affinity from the period, with which SQLite would not use the index.
ANSWER = f"""
SELECT a.id, a.thread_id FROM (
    SELECT DISTINCT period FROM model_sums
    WHERE grain = 'day' AND period <= date(:timestamp, '+1 day') ORDER BY period DESC
) d
CROSS JOIN events a INDEXED BY events_answers ON substr(a.timestamp, 1, 10) = +d.period
    AND a.generation_id = :generation_id AND a.user_id = :user_id
    AND a.kind = '{GENERATION}' AND a.thread_id IS NOT NULL
ORDER BY d.period DESC, a.timestamp DESC LIMIT 1
"""  # noqa: S608 - a name from rows.py


def place(db: sqlite3.Connection, events: Mapping[int, Row]) -> dict[int, Row]:
    """Return the feedback whose conversation these events tell, as rows of that conversation.

    It is among the events, or came before an answer that is.
    """
    loose = {event_id: row for event_id, row in events.items() if _is_loose(row)}
    db.executemany(
        _KEEP, [(event_id, row.user_id, row.generation_id) for event_id, row in loose.items()]
    )
    answers = [event_id for event_id, row in events.items() if _is_answer(row)]
    waiting = db.execute(_WAITING, {"ids": json.dumps(answers)}).fetchall()
    loose |= {event_id: Row._make(values) for event_id, *values in waiting}
    placed: dict[int, Row] = {}
    for event_id, row in loose.items():
        found = db.execute(ANSWER, row._asdict()).fetchone()
        if found is not None:
            db.execute(_PLACE, (*found, event_id))
            placed[event_id] = row._replace(thread_id=found["thread_id"])
    return placed


def release(db: sqlite3.Connection, gone: Mapping[int, Row]) -> dict[int, Row]:
    """Forget where feedback belongs that is gone, or whose answer is.

    Returns it, as rows of the conversation to which it belonged.
    """
    ids = {"ids": json.dumps(list(gone))}
    freed = db.execute(
        f"SELECT event, thread_id FROM loose_feedback WHERE event IN {_IDS} "  # noqa: S608 - bound
        f"UNION SELECT event, thread_id FROM loose_feedback WHERE answer IN {_IDS}",
        ids,
    ).fetchall()
    db.executemany("DELETE FROM loose_feedback WHERE event = ?", [(event,) for event, _ in freed])
    rows = {**gone, **_read(db, (event for event, _ in freed if event not in gone))}
    return {
        event: rows[event]._replace(thread_id=thread_id)
        for event, thread_id in freed
        if thread_id is not None
    }


def _read(db: sqlite3.Connection, ids: Iterable[int]) -> dict[int, Row]:
    query = f"SELECT id, {COLUMNS} FROM events WHERE id IN {_IDS}"  # noqa: S608 - names from Row
    found = db.execute(query, {"ids": json.dumps(list(ids))})
    return {event_id: Row._make(values) for event_id, *values in found}


def _is_loose(row: Row) -> bool:
    return row.kind == FEEDBACK and row.thread_id is None and row.generation_id is not None


def _is_answer(row: Row) -> bool:
    return row.kind == GENERATION and None not in (row.thread_id, row.generation_id)
