"""What has arrived at the collector on this machine, and how much of it is known."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument._base.folders import is_there
from trubrics_instrument.collector.cli import default_db, missing_extra
from trubrics_instrument.doctor.finding import Finding, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_LAST = 5_000
_ENOUGH = 0.5
_LAST_EVENTS = """
SELECT event, assistant_id, properties FROM events
WHERE kind IN ('prompt', 'generation')
ORDER BY id DESC LIMIT ?
"""


class _Row(NamedTuple):
    event: str
    assistant_id: str | None
    properties: dict[str, Any]


def seen(db: Path | None = None) -> Iterator[Finding]:
    """Yield the state of the collector's file, and the fill rates of what is in it."""
    missing = missing_extra()
    if missing:
        yield note("collector", "not installed", missing)
    file = db or default_db()
    if not is_there(file):
        yield note("collector", "nothing collected here yet", "trubrics-instrument run --local ...")
        return
    try:
        rows = _read(file)
    except sqlite3.Error as error:
        yield note("collector", f"{file} cannot be read ({type(error).__name__})")
        return
    yield ok("collector", f"{len(rows)} prompts and answers looked at, the last in {file}")
    if rows:
        yield from _fill_rates(rows)


def _read(file: Path) -> list[_Row]:
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute(_LAST_EVENTS, (_LAST,)).fetchall()
    return [_Row(event, assistant_id, json.loads(text)) for event, assistant_id, text in found]


def _fill_rates(rows: Sequence[_Row]) -> Iterator[Finding]:
    answers = [row for row in rows if row.assistant_id]
    yield _rate(
        "user",
        [not row.properties.get("anonymous") for row in rows],
        "say who asks: context(user_id=...), identify(), or the middleware",
    )
    yield _rate(
        "thread",
        [not row.properties.get("thread_inferred") for row in rows],
        "say which conversation: context(thread_id=...)",
    )
    yield _rate(
        "model",
        [bool(row.properties.get("model")) for row in rows],
        "name it: TrubricsCallbackHandler(assistant_id=...)",
    )
    yield _rate(
        "tokens",
        [bool(row.properties.get("total_tokens")) for row in answers],
        'streams tell them only if asked: stream_options={"include_usage": True}',
    )


def _rate(what: str, known: Sequence[bool], remedy: str) -> Finding:
    if not known:
        return note(f"{what} known", "no answers yet")
    share = sum(known) / len(known)
    said = f"{share:.0%} of {len(known)}"
    enough = share >= _ENOUGH
    return ok(f"{what} known", said) if enough else note(f"{what} known", said, remedy)
