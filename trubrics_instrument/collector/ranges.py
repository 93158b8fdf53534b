"""The time ranges that the overview offers, and the periods that each is cut into."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

DEFAULT = "30d"
CHOICES = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days", "all": "All"}
_MOST_DAYS_SHOWN = 100
_HOUR = len("2026-11-22T13")
_DAY = len("2026-11-22")
_MONTH = len("2026-11")
_DAYS = {"7d": 7, "30d": 30, "90d": 90}
_UNITS = {_HOUR: "hour", _DAY: "day", _MONTH: "month"}


class Range(NamedTuple):
    """A span of time that ends now.

    Attributes:
        key: Its name in an address.
        start: The first period; text order is time order, as with every stored timestamp.
        grain: Which sums it is read from, "hour" or "day".
        width: How many characters of a timestamp name a period.
        periods: Every period, without a gap.
    """

    key: str
    start: str
    grain: str
    width: int
    periods: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Return what a period is called."""
        return _UNITS[self.width]


def choose(key: str, now: datetime, first: str | None) -> Range:
    """Return the range of that name, or the default one.

    Args:
        key: As given in the address, so anything.
        now: Where it ends, in UTC.
        first: The timestamp of the first event, where "all" starts.
    """
    key = key if key in CHOICES else DEFAULT
    if key == "24h":
        hours = [now - timedelta(hours=back) for back in range(23, -1, -1)]
        names = tuple(moment.isoformat()[:_HOUR] for moment in hours)
        return Range(key, names[0], "hour", _HOUR, names)
    if key != "all":
        return _days(key, _DAYS[key], now)
    days = _days_since(first, now)
    return _days(key, days, now) if days <= _MOST_DAYS_SHOWN else _months(key, days, now)


def _days(key: str, count: int, now: datetime) -> Range:
    days = [now - timedelta(days=back) for back in range(count - 1, -1, -1)]
    names = tuple(day.isoformat()[:_DAY] for day in days)
    return Range(key, names[0], "day", _DAY, names)


def _months(key: str, days: int, now: datetime) -> Range:
    every_day = (now - timedelta(days=back) for back in range(days - 1, -1, -1))
    names = tuple(dict.fromkeys(day.isoformat()[:_MONTH] for day in every_day))
    return Range(key, names[0], "day", _MONTH, names)


def _days_since(first: str | None, now: datetime) -> int:
    """At least a week, so that a first day looks like one; at most ten years, whatever is sent."""
    if first is None:
        return 7
    days = (now.date() - datetime.fromisoformat(first[:_DAY]).date()).days + 1
    return min(max(days, 7), 3650)
