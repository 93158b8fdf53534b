"""How numbers and times are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trubrics_instrument.collector import wording

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("write", "value", "written"),
    [
        (wording.money, None, wording.NOTHING),
        (wording.money, 0, "$0"),
        (wording.money, 0.00004, "<$0.0001"),
        (wording.money, 0.0012, "$0.0012"),
        (wording.money, 0.5, "$0.50"),
        (wording.money, 999.99, "$999.99"),
        (wording.money, 123_456, "$123k"),
        (wording.number, 99_999, "99,999"),
        (wording.number, 999_999, "1.0M"),
        (wording.duration, 0.48, "480 ms"),
        (wording.duration, 0.9996, "1.0 s"),
        (wording.duration, 59.97, "1 min 0 s"),
        (wording.duration, 75.3, "1 min 15 s"),
        (wording.duration, 7_260, "2 h 1 min"),
        (wording.period, "2026-11-22T09", "22 Nov 09:00"),
        (wording.period, "2026-11-02", "2 Nov"),
        (wording.period, "2026-11", "Nov 2026"),
    ],
)
def test_a_value_is_written_for_people(
    write: Callable[[object], str], value: object, written: str
) -> None:
    """Nothing that is there is written as nothing, and no unit overflows into the next."""
    assert write(value) == written
