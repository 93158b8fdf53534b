"""An event's form on the wire."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from trubrics_instrument._events import Event, iso_time, to_wire


@given(st.floats(0, 4e9))
@example(0.29)
@example(1.9999999)
@example(1732545867.9999996)
def test_a_time_is_told_as_datetime_tells_it(time_s: float) -> None:
    """UTC to the millisecond, cut and not rounded, with its second kept for the next event."""
    moment = datetime.fromtimestamp(time_s, tz=timezone.utc)

    assert iso_time(time_s) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_what_is_absent_hides_nothing() -> None:
    """A property of the app's own that is None neither is sent nor takes a field's place."""
    event = Event("Prompt", "u", 0.0, "hi", "t")
    own = {"$thread_id": None, "n": 1, "m": None}

    assert to_wire(event, "ada", own)["properties"] == {"$text": "hi", "$thread_id": "t", "n": 1}
