"""Every measurement in turn, or those that are named: `make bench ARGS="delivery threads"`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


MEASUREMENTS = ("delivery", "openai_calls", "langchain_runs", "threads", "redaction", "collector")


def purpose(name: str) -> str:
    """Return the first line of what a measurement says of itself."""
    return (HERE / f"{name}.py").read_text().split('"""')[1].splitlines()[0]


def main() -> int:
    """Run them, and return the first exit code that is not 0."""
    wanted = sys.argv[1:] or [*MEASUREMENTS]
    if unknown := [name for name in wanted if name not in MEASUREMENTS]:
        print(f"no such measurement: {', '.join(unknown)}; there are:", file=sys.stderr)
        for name in MEASUREMENTS:
            print(f"  {name:16} {purpose(name)}", file=sys.stderr)
        return 2
    codes: list[int] = []
    for number, name in enumerate(wanted, 1):
        print(f"[{number}/{len(wanted)}] {name}: {purpose(name)}", flush=True)
        codes.append(subprocess.call([sys.executable, "-m", f"benchmarks.{name}"]))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
