"""How numbers, times and people's texts are written on a page."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trubrics_instrument.collector.fields import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING = "\N{EN DASH}"
_CONTROL_PICTURES = 0x2400
_VISIBLE = {
    code: chr(_CONTROL_PICTURES + code) for code in range(0x20) if chr(code) not in "\t\n\r"
} | {0x0D: None, 0x7F: "\N{SYMBOL FOR DELETE}"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SPANS = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (30 * 86400, 86400, "d"))
_THOUSAND = 1000
_SIXTY = 60
_LEAST_DOLLARS = 0.0001


def visible(text: str) -> str:
    """Show control characters as the pictures that Unicode has for them."""
    return text.translate(_VISIBLE)


def shorten(text: str, limit: int = 160) -> str:
    """Return the text on one line, cut at `limit` characters."""
    line = " ".join(text[: limit * 4].split())
    return visible(line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…")


def number(value: float | None) -> str:
    """Write a count: 1,234 in full, from a hundred thousand on as 123k or 1.2M."""
    if value is None:
        return NOTHING
    if value < 100 * _THOUSAND:
        return f"{value:,.0f}"
    for divisor, unit in ((_THOUSAND, "k"), (_THOUSAND**2, "M"), (_THOUSAND**3, "B")):
        scaled = value / divisor
        if round(scaled) < _THOUSAND or unit == "B":
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"  # noqa: PLR2004 - digits
    raise AssertionError("the last unit takes everything")


def counted(value: float, noun: str) -> str:
    """Write a count with what is counted: 1 event, 2 events."""
    return f"{number(value)} {noun}" if value == 1 else f"{number(value)} {noun}s"


def money(value: float | None) -> str:
    """Write dollars with the digits that matter."""
    if not value:
        return NOTHING if value is None else "$0"
    if value < _LEAST_DOLLARS:
        return f"<${_LEAST_DOLLARS}"
    if value < 0.01:  # noqa: PLR2004 - a cent
        return f"${value:.4f}"
    return f"${value:,.2f}" if value < _THOUSAND else f"${number(value)}"


def cost(sums: Mapping[str, Any]) -> str:
    """Write what a row of sums has cost, if that is known of any of its events."""
    return money(sums["cost_usd"] if sums["priced"] else None)


def duration(seconds: float | None) -> str:
    """Write a duration: 480 ms, 3.2 s, 2 min 5 s, 1 h 10 min."""
    if seconds is None:
        return NOTHING
    if round(seconds * 1000) < _THOUSAND:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < _SIXTY:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _SIXTY)
    if minutes < _SIXTY:
        return f"{minutes} min {rest} s"
    return f"{minutes // _SIXTY} h {minutes % _SIXTY} min"


def moment(timestamp: str) -> str:
    """Write a stored timestamp to the second."""
    return timestamp[:19].replace("T", " ")


def clock(timestamp: str) -> str:
    """Write the time of day of a stored timestamp."""
    return timestamp[11:19]


def period(name: str) -> str:
    """Write the name of a period: an hour as 22 Nov 13:00, a day as 22 Nov, a month as Nov 2026."""
    date, _, hour = name.partition("T")
    year, month, *day = date.split("-")
    short = _MONTHS[int(month) - 1]
    if not day:
        return f"{short} {year}"
    return f"{int(day[0])} {short}" + (f" {hour}:00" if hour else "")


def ago(timestamp: str, now: datetime | None = None) -> str:
    """Write how long ago a stored timestamp was; from a month on, its day."""
    now = now or datetime.now(timezone.utc)
    seconds = max(0.0, (now - parse_timestamp(timestamp)).total_seconds())
    for limit, unit_s, unit in _SPANS:
        if seconds < limit:
            return f"{int(seconds // unit_s)} {unit} ago"
    return timestamp[:10]


def path_to(key: str, kind: str) -> str:
    """Return the path of a thread's or a user's page.

    Browsers fold `.` and `..` away even when they are quoted, and no route takes a line break, so
    these go into the query.
    """
    if key in {"", ".", ".."} or "\n" in key:
        return f"/{kind.removesuffix('s')}?id={quote(key, safe='')}"
    return f"/{kind}/{quote(key, safe='')}"


FILTERS: dict[str, Callable[..., str]] = {
    "ago": ago,
    "clock": clock,
    "cost": cost,
    "counted": counted,
    "duration": duration,
    "moment": moment,
    "money": money,
    "number": number,
    "path_to": path_to,
    "period": period,
    "shorten": shorten,
    "visible": visible,
}
