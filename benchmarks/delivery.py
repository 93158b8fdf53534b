"""Compare what delivery costs with other clients, in one interleaved run on this machine.

    python -m benchmarks.delivery [--rounds 3] [--only burst] [--markdown table.md]

Needs trubrics==1.8.5, posthog, segment-analytics-python, opentelemetry-sdk and
opentelemetry-exporter-otlp-proto-http beside this package. Each number is the median of the
rounds; in each round every client is measured once, so that the machine's moods hit all alike.
The last columns are this package without orjson, where that makes a difference, and `requests` that
posts ready-made batches and does nothing else: the floor. Three rounds take eleven minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.delivery_clients import CLIENTS, FLOOR, IMPORTS, WITH_JSON
from benchmarks.delivery_measures import MEASURES
from benchmarks.delivery_report import US, Results, table, verdicts

if TYPE_CHECKING:
    from collections.abc import Generator

HERE = Path(__file__).parent
LIMIT_S = 150.0


@contextlib.contextmanager
def sink() -> Generator[str]:
    """Run the sink and give its URL."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, str(HERE / "delivery_sink.py"), str(port_file)])
        try:
            while not port_file.exists():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.kill()
            process.wait()


def measure(client: str, name: str, url: str) -> dict[str, float]:
    """Make one measurement in a fresh process with an empty spool."""
    if name == "import":
        return import_cost(client)
    mood = {"throughput 600 B, 50 ms": "?pause=0.05", "memory": "?hang=1"}.get(name, "")
    with urllib.request.urlopen(f"{url}/reset{mood}", timeout=30):
        pass
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "TRUBRICS_SPOOL_DIR": folder,
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-m", "benchmarks.delivery_measures", client, name, url]
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=LIMIT_S, text=True, check=False
        )
    ended = time.time()
    try:
        numbers: dict[str, float] = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"{client}, {name}: {done.stderr[-2000:]}")
    if name == "exit":
        return {"exit_s": ended - numbers["left_at"]}
    return numbers


def import_cost(client: str) -> dict[str, float]:
    """Return the CPU of an import, in ms, less what a bare interpreter takes."""
    timed = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"
    command = [sys.executable, "-c", timed.format(IMPORTS[client])]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {"ms": float(done.stdout) * 1000}


def main() -> None:
    """Run, print the table and whether the targets are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="measurements whose name begins with this")
    parser.add_argument("--clients", nargs="*", default=list(CLIENTS))
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    args = parser.parse_args()
    names = [name for name in (*MEASURES, "import") if name.startswith(args.only or "")]
    seen: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with sink() as url:
        for _ in range(args.rounds):
            for name in names:
                for client in args.clients:
                    if client in (WITH_JSON, FLOOR) and not name.startswith("throughput"):
                        continue
                    numbers = (
                        import_cost(client) if name == "import" else measure(client, name, url)
                    )
                    for unit, number in numbers.items():
                        seen[client, name, unit].append(number)
                sys.stderr.write(f"{name}\n")
    results: Results = {key: statistics.median(values) for key, values in seen.items()}
    versions = {client: _version(client) for client in args.clients}
    text = f"{table(results, versions)}\n{verdicts(results)}"
    print(text)
    if args.markdown:
        args.markdown.write_text(text)


def _version(client: str) -> str:
    packages = {"segment": "segment-analytics-python", "opentelemetry": "opentelemetry-sdk"}
    if client == WITH_JSON:
        return "instead of orjson"
    if client == FLOOR:
        return version("requests")
    found = version(packages.get(client, client))
    if client == US:
        with contextlib.suppress(PackageNotFoundError):
            return f"{found}, orjson {version('orjson')}"
    return found


if __name__ == "__main__":
    main()
