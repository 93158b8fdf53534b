"""Measure the redaction: recall and false positives for each kind, and its cost.

Run `python -m benchmarks.redaction`; `--misses` also lists what was missed or wrongly taken.
"""

from __future__ import annotations

import sys
import time
import timeit

from tests.labelled import labelled, scores, table
from trubrics_instrument._privacy import Redactor, redactors_from

_PROSE = "Please tell me what the model should answer when revenue grew by 12% in May, and why. "
_TEXT_CHARS = 2048
_RUNS = 500


def main() -> None:
    """Print two tables in Markdown."""
    strings = labelled()
    found = scores(_redacted_pii, strings)
    without = sum(not one.marks for one in strings)
    print(f"{len(strings)} strings, {without} of them with nothing to redact\n")
    print("| kind | marked | gone | recall | wrongly taken |")
    print("|---|---|---|---|---|")
    print("\n".join(table(found)))
    if "--misses" in sys.argv:
        for one in found:
            print(f"\n{one.kind}: missed {one.missed}; wrong {one.wrong}")
    _print_cost()


def _print_cost() -> None:
    text = (_PROSE * _TEXT_CHARS)[:_TEXT_CHARS]
    print("\n| 2 KB of prose | µs of CPU |")
    print("|---|---|")
    for name in ("secrets", "pii"):
        redactors = redactors_from(name)

        def run(redactors: tuple[Redactor, ...] = redactors) -> None:
            _apply(redactors, text)

        best_s = min(timeit.repeat(run, timer=time.process_time, number=_RUNS, repeat=5)) / _RUNS
        print(f"| {name} | {best_s * 1e6:.0f} |")


def _apply(redactors: tuple[Redactor, ...], text: str) -> str:
    for redactor in redactors:
        text = redactor(text)
    return text


def _redacted_pii(text: str) -> str:
    return _apply(redactors_from("pii"), text)


if __name__ == "__main__":
    main()
