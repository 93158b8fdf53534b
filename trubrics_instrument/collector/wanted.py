"""What is looked for among the conversations, and how SQL says it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.collector.placing import THREAD
from trubrics_instrument.collector.rows import ID_PROPERTIES, clean

if TYPE_CHECKING:
    from collections.abc import Mapping

_END_OF_DAY = "~"  # sorts after every time of that day
_TERM = re.compile(r'"([^"]+)"|(\S+)')
# Scripts that put no spaces between words, so that an index of words cannot find a part.
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_PROPERTY = """
SELECT 1 FROM json_each(e.properties) p WHERE p.key = ? AND (? = '' OR ? =
    CASE p.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE cast(p.value AS TEXT) END)
"""


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


def thread_conditions(wanted: Wanted) -> tuple[list[str], list[object]]:
    """Return the conditions on a row of `threads`, and their values."""
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


def event_query(wanted: Wanted) -> tuple[str, list[object]]:
    """Return the query for events of a stretch of ids, the last first, and its other values."""
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
    where = " AND ".join([stretch, f"{THREAD} IS NOT NULL", *conditions])
    query = f"SELECT e.id, {THREAD} FROM {source} WHERE {where} ORDER BY {order} DESC"  # noqa: S608 - conditions from this file, values bound
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
            f"{THREAD} IN (SELECT thread_id FROM threads WHERE {wanted.only} > 0)"  # noqa: S608 - one of two words
        )
    column = ID_PROPERTIES.get(wanted.prop)
    if column:
        conditions.append(f"e.{column} IS NOT NULL AND (? = '' OR ? = e.{column})")
        values += [wanted.value, wanted.value]
    elif wanted.prop:
        # A look at the JSON's text first: reading it takes much longer.
        conditions.append(f"instr(e.properties, ?) AND EXISTS ({_PROPERTY})")
        in_json = json.dumps(wanted.prop, ensure_ascii=False)
        values += [in_json, wanted.prop, wanted.value, wanted.value]
    return conditions, values


def match_expression(q: str) -> str:
    """Return what FTS5 understands: every word as the start of one, a quotation as it stands."""
    written = [
        '"{}"{}'.format(term.replace('"', '""'), "" if quoted else "*")
        for term, quoted in terms(q.replace("\0", " "))
    ]
    return " AND ".join(written) or '""'


def terms(q: str) -> list[tuple[str, bool]]:
    """Return the words and quotations that are searched for, each with whether it was quoted."""
    return [(quoted or word, bool(quoted)) for quoted, word in _TERM.findall(q)]
