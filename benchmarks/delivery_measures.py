"""The measurements, each made in a process of its own: `delivery_measures.py CLIENT MEASURE URL`.

Prints one JSON object of numbers.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.delivery_clients import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.delivery_clients import Client

WAIT_S = 60.0
USERS = 500


class Arrivals:
    """Asks the sink how much has come, over one connection, so cheaply that it does not count."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))

    def wait_for(self, count: int) -> int:
        """Wait until all have come, or for a minute; return how many have."""
        deadline = time.monotonic() + WAIT_S
        while True:
            self._socket.sendall(b"GET /count HTTP/1.1\r\n\r\n")
            had = int(self._socket.recv(4096).rsplit(b"\r\n", 1)[-1])
            if had >= count or time.monotonic() > deadline:
                return had
            time.sleep(0.01)


def properties(number: int, filler: str) -> dict[str, object]:
    """Return an event's properties, its own objects as an app's would be."""
    return {
        "$text": f"evt-{number}-{filler}"[: len(filler)],
        "$thread_id": f"thread-{number % USERS}",
        "$assistant_id": "gpt-4o",
        "latency": number / 7,
        "stream": True,
    }


def track_all(client: Client, count: int, size: int) -> None:
    """Track so many events, as fast as it goes."""
    filler = "words and more words " * (size // 21 + 1)
    filler = filler[: size - 150]
    for number in range(count):
        client.track(f"user-{number % USERS}", "Generation", properties(number, filler))


def cost(client: Client, url: str, size: int, threads: int, pace_s: float) -> dict[str, float]:
    """Time each call on the calling threads, in microseconds."""
    del url
    count = 1_000 if pace_s else 12_000_000 // size
    filler = "w" * (size - 150)
    timings: list[list[float]] = [[] for _ in range(threads)]

    def work(mine: list[float]) -> None:
        clock, track = time.perf_counter, client.track
        for number in range(count // threads):
            user, event = f"user-{number % USERS}", properties(number, filler)
            started = clock()
            track(user, "Generation", event)
            mine.append((clock() - started) * 1e6)
            if pace_s:
                time.sleep(pace_s)

    client.track("user", "Generation", properties(0, filler))
    workers = [threading.Thread(target=work, args=(mine,)) for mine in timings]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ordered = sorted(each for mine in timings for each in mine)
    return {
        name: ordered[min(int(len(ordered) * share), len(ordered) - 1)]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    }


def throughput(client: Client, url: str, size: int, count: int) -> dict[str, float]:
    """Time from the first call to the last event at the sink, and what it cost in CPU."""
    arrivals = Arrivals(url)
    client.track("user", "Generation", properties(0, "w" * size))
    client.flush()
    before = arrivals.wait_for(1)
    started, used = time.monotonic(), time.process_time()
    track_all(client, count, size)
    client.flush()
    had = arrivals.wait_for(before + count) - before
    took, used = time.monotonic() - started, time.process_time() - used
    return {"per_s": had / took, "cpu_s_per_100k": used / count * 1e5, "share": had / count}


def burst(client: Client, url: str) -> dict[str, float]:
    """Track 100,000 events at once; say what arrived, when, and the memory it took."""
    count = 100_000
    arrivals = Arrivals(url)
    before = resident_mib()
    peak = Peak()
    started = time.monotonic()
    track_all(client, count, 600)
    tracked = time.monotonic() - started
    client.flush()
    had = arrivals.wait_for(count)
    took = time.monotonic() - started
    return {"share": had / count, "track_s": tracked, "all_s": took, "mib": peak.end() - before}


def memory(client: Client, url: str) -> dict[str, float]:
    """Track 100,000 events while the sink hangs; say by how much the process grew."""
    del url
    before = resident_mib()
    peak = Peak()
    track_all(client, 100_000, 600)
    time.sleep(1.0)
    return {"mib": peak.end() - before}


def leave(client: Client, url: str) -> dict[str, float]:
    """Track 250 events and end; the caller times the exit."""
    del url
    track_all(client, 250, 600)
    return {"left_at": time.time()}


class Peak:
    """Watches the process's memory until its end."""

    def __init__(self) -> None:
        self._most = resident_mib()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> float:
        """Return the highest value seen, in MiB."""
        self._done.set()
        self._thread.join()
        return max(self._most, resident_mib())

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._most = max(self._most, resident_mib())


def resident_mib() -> float:
    """Return the process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


MEASURES: dict[str, Callable[[Client, str], dict[str, float]]] = {
    "cost 600 B": lambda client, url: cost(client, url, 600, 1, 0),
    "cost 600 B, 8 threads": lambda client, url: cost(client, url, 600, 8, 0),
    "cost 600 B, paced": lambda client, url: cost(client, url, 600, 1, 0.0005),
    "cost 20 kB": lambda client, url: cost(client, url, 20_000, 1, 0),
    "cost 20 kB, 8 threads": lambda client, url: cost(client, url, 20_000, 8, 0),
    "throughput 600 B": lambda client, url: throughput(client, url, 600, 20_000),
    "throughput 20 kB": lambda client, url: throughput(client, url, 20_000, 2_000),
    "throughput 600 B, 50 ms": lambda client, url: throughput(client, url, 600, 4_000),
    "burst": burst,
    "memory": memory,
    "exit": leave,
}
OWN_BOUNDS = ("burst", "memory")  # with the defaults; for the others queues have room

if __name__ == "__main__":
    name, measure, sink = sys.argv[1:]
    chosen = CLIENTS[name](sink, roomy=measure not in OWN_BOUNDS)
    json.dump(MEASURES[measure](chosen, sink), sys.stdout)
    sys.stdout.flush()
    if measure != "exit":
        os._exit(0)  # some clients would wait for a sink that hangs
