"""What was collected, in the form in which it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument.collector.rows import Row, to_properties

if TYPE_CHECKING:
    import sqlite3

    from trubrics_instrument._events import WireEvent


def to_wire(event: sqlite3.Row) -> WireEvent:
    """Return a stored event as `publish_event` took it."""
    row = Row(**{name: event[name] for name in Row._fields})
    return {
        "user_id": row.user_id,
        "event": row.event,
        "timestamp": row.timestamp,
        "properties": to_properties(row),
    }
