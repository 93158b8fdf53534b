"""The table of a run, and whether it reaches the targets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from benchmarks.delivery_clients import FLOOR, WITH_JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

Results: TypeAlias = "Mapping[tuple[str, str, str], float]"

MANY = 100
US = "trubrics-instrument"
OFFICIAL = "trubrics"
NO_OTHERS = (US, OFFICIAL, WITH_JSON, FLOOR)
UNITS = {
    "p50": "µs, p50",
    "p99": "µs, p99",
    "p999": "µs, p99.9",
    "per_s": "events/s",
    "cpu_s_per_100k": "CPU s per 100,000",
    "share": "delivered",
    "track_s": "s on the caller",
    "all_s": "s to the last",
    "mib": "MiB more",
    "exit_s": "s to exit",
    "ms": "CPU ms",
}


class Target(NamedTuple):
    """One line of what is to be reached: `ours <= most` or `ours >= least`."""

    what: str
    ours: float
    bound: float
    at_most: bool


def table(results: Results, versions: Mapping[str, str]) -> str:
    """Return the medians as a Markdown table, a row for each measurement and unit."""
    clients = list(versions)
    head = " | ".join(f"{client} {versions[client]}" for client in clients)
    lines = [f"| measurement | {head} |", f"|---|{'---:|' * len(clients)}"]
    for name, unit in dict.fromkeys((name, unit) for _, name, unit in results):
        cells = " | ".join(_number(results.get((client, name, unit))) for client in clients)
        lines.append(f"| {name}: {UNITS[unit]} | {cells} |")
    return "\n".join(lines) + "\n"


def verdicts(results: Results) -> str:
    """Return the targets as a Markdown table, with what was reached."""
    lines = ["| target | reached | bound | |", "|---|---:|---:|---|"]
    for target in _targets(results):
        good = target.ours <= target.bound if target.at_most else target.ours >= target.bound
        sign = "≤" if target.at_most else "≥"
        bound = f"{sign} {_number(target.bound)}"
        mark = "yes" if good else "**no**"
        lines.append(f"| {target.what} | {_number(target.ours)} | {bound} | {mark} |")
    return "\n".join(lines) + "\n"


def _targets(results: Results) -> list[Target]:
    found = [*_caller(results), *_rate(results), *_bounds(results)]
    return [target for target in found if not math.isnan(target.ours + target.bound)]


def _caller(results: Results) -> list[Target]:
    rows: list[Target] = []
    for name in dict.fromkeys(name for _, name, _ in results if name.startswith("cost")):
        ours = _get(results, US, name, "p50")
        official = _get(results, OFFICIAL, name, "p50")
        rows += [
            Target(f"{name}: half of trubrics (µs)", ours, official / 2, at_most=True),
            Target(
                f"{name}: a tenth of the best other (µs)",
                ours,
                min(_others(results, name, "p50"), default=math.nan) / 10,
                at_most=True,
            ),
            Target(f"{name}: p99.9 (µs)", _get(results, US, name, "p999"), 1000, at_most=True),
        ]
    return rows


def _rate(results: Results) -> list[Target]:
    rows: list[Target] = []
    for name, factor in (
        ("throughput 600 B", 4),
        ("throughput 20 kB", 4),
        ("throughput 600 B, 50 ms", 8),
    ):
        ours = _get(results, US, name, "per_s")
        official = _get(results, OFFICIAL, name, "per_s")
        best = max(_others(results, name, "per_s"), default=math.nan)
        rows += [
            Target(
                f"{name}: {factor} times trubrics (1/s)", ours, factor * official, at_most=False
            ),
            Target(f"{name}: above every other (1/s)", ours, best, at_most=False),
        ]
    cpu = "throughput 600 B"
    quarter = _get(results, OFFICIAL, cpu, "cpu_s_per_100k") / 4
    ours = _get(results, US, cpu, "cpu_s_per_100k")
    return [
        *rows,
        Target("CPU: a quarter of trubrics (s per 100,000)", ours, quarter, at_most=True),
    ]


def _bounds(results: Results) -> list[Target]:
    return [
        Target("burst: delivered", _get(results, US, "burst", "share"), 1, at_most=False),
        Target("host hangs: MiB", _get(results, US, "memory", "mib"), 64 * 1.2, at_most=True),
        Target("import: CPU ms", _get(results, US, "import", "ms"), 25, at_most=True),
        Target("healthy exit: s", _get(results, US, "exit", "exit_s"), 0.3, at_most=True),
    ]


def _get(results: Results, client: str, name: str, unit: str) -> float:
    return results.get((client, name, unit), math.nan)


def _others(results: Results, name: str, unit: str) -> list[float]:
    return [
        number
        for (client, at, of), number in results.items()
        if client not in NO_OTHERS and (at, of) == (name, unit)
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= MANY else f"{value:.3g}"
