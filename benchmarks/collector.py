"""How many events a second the collector takes, and how fast its pages are over many events.

    python benchmarks/collector.py [--events 5000000] [--db PATH] [--fill-s SECONDS]

The rate is what clients see: another process, which posts batches of 100 over 16 kept-alive
connections, first into an empty database, then into the large one. That one is filled through the
store itself; with --db it is kept and used again, and --fill-s fills it piece by piece.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import statistics
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import requests

from trubrics_instrument import collector
from trubrics_instrument.collector.fields import parse_timestamp, to_timestamp
from trubrics_instrument.collector.rows import Row, to_row
from trubrics_instrument.collector.store import Store
from trubrics_instrument.collector.wording import path_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet", "mistral-large")
DAYS = 90
USERS = 20_000
BATCH = 100
FAILING = 0.02
FILLED_AT_ONCE = 50_000
MEASURED_EVENTS = 200_000
CONNECTIONS = 16  # as four busy processes would have
REPEATS = 11
RATES = 3
_SYLLABLES = [f"{a}{b}" for a in "bdfgklmnprst" for b in "aeiou"]
_ENDINGS = ("n", "rs", "l", "tt", "")
# As in a language: the short words come often, and most words seldom.
_STEMS = [*_SYLLABLES, *(f"{a}{b}" for a in _SYLLABLES for b in _SYLLABLES)]
_WORDS = [f"{stem}{ending}" for stem in _STEMS for ending in _ENDINGS]
_OFTEN = list(accumulate(1 / (rank + 10) for rank in range(len(_WORDS))))


class Page(NamedTuple):
    """What one page took, in milliseconds."""

    name: str
    median_ms: float
    worst_ms: float


class Rate(NamedTuple):
    """Events taken per second, and what one costs the server."""

    per_s: float
    cpu_us: float


def events(
    count: int, seed: int, start: datetime, span: timedelta, *, made: int = 0
) -> Iterator[Row]:
    """Yield conversations of 1 to 6 turns, in the order in which they were held.

    `made` of the `count` events were made earlier, and are left out.
    """
    draw = random.Random(seed)
    run = f"{seed & 0xFFFFFFFFFFFF:012x}"
    while made < count:
        at = start + span * (made / count)
        thread = _conversation(draw, at, f"{run}-{made}")
        made += len(thread)
        yield from thread


def _conversation(draw: random.Random, at: datetime, run: str) -> list[Row]:
    busy = draw.random() < 0.3  # noqa: PLR2004 - a few users ask a great deal, most ask a little
    user_id = f"user-{int(draw.paretovariate(1)) % USERS if busy else draw.randrange(USERS)}"
    thread_id, model = str(uuid.UUID(int=draw.getrandbits(128))), draw.choice(MODELS)
    rows: list[Row] = []
    for turn in range(draw.randint(1, 6)):
        prompt_id = f"{thread_id}-{turn}"
        shared = {"$thread_id": thread_id, "$prompt_id": prompt_id, "environment": "production"}
        asked = {**shared, "$text": _text(draw, 12), "event_id": f"{run}.{turn}p"}
        rows.append(to_row(user_id, "Prompt", to_timestamp(at), asked))
        latency_s = draw.lognormvariate(0.5, 0.6)
        at += timedelta(seconds=latency_s)
        end = {**shared, "$assistant_id": model, "event_id": f"{run}.{turn}g"}
        if draw.random() < FAILING:
            rows.append(
                to_row(user_id, "Generation failed", to_timestamp(at), {**end, "status": "error"})
            )
            continue
        answered = {
            **end,
            "$text": _text(draw, 40),
            "$generation_id": f"{prompt_id}-a",
            "latency": latency_s,
            "input_tokens": draw.randint(50, 900),
            "output_tokens": draw.randint(20, 600),
            "cost_usd": round(draw.random() / 100, 6),
        }
        rows.append(to_row(user_id, "Generation", to_timestamp(at), answered))
        at += timedelta(seconds=draw.randint(10, 200))
    return rows


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, cum_weights=_OFTEN, k=words))


def fill(path: Path, count: int, until: float) -> bool:
    """Bring the database to `count` events, as far as it gets until that moment of the clock.

    Returns whether it is full. The rows are written as those of requests are.
    """
    with closing(Store(path)) as store:
        with store.reading() as db:
            (held,) = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
            (first,) = db.execute("SELECT min(timestamp) FROM events").fetchone()
        span = timedelta(days=DAYS)
        start = parse_timestamp(first) if first else datetime.now(timezone.utc) - span
        rows = events(count, held, start, span, made=held)
        writing = store.add([])
        while chunk := list(islice(rows, FILLED_AT_ONCE)):
            writing.result()
            if time.monotonic() > until:
                return False
            writing = store.add(chunk)
        writing.result()
        while not _is_indexed(store):
            time.sleep(0.1)
    return True


def _is_indexed(store: Store) -> bool:
    query = "SELECT (SELECT through FROM indexed) = (SELECT max(id) FROM events)"
    with store.reading() as db:
        return bool(db.execute(query).fetchone()[0])


def bodies(count: int, seed: int) -> list[bytes]:
    """Return ready request bodies, so that making them is not measured."""
    now = datetime.now(timezone.utc)
    rows = [_as_sent(row) for row in events(count, seed, now, timedelta(minutes=5))]
    return [json.dumps(rows[at : at + BATCH]).encode() for at in range(0, len(rows), BATCH)]


def _as_sent(row: Row) -> dict[str, object]:
    ids = {"$thread_id": row.thread_id, "$prompt_id": row.prompt_id, "$text": row.text}
    if row.assistant_id:
        ids["$assistant_id"] = row.assistant_id
    properties = {**ids, **json.loads(row.properties)}
    return {
        "user_id": row.user_id,
        "event": row.event,
        "timestamp": row.timestamp,
        "properties": properties,
    }


def post_all(host: str, waiting: Sequence[bytes]) -> float:
    """Post every body over a few connections, and return the seconds it took."""

    def post(part: Sequence[bytes]) -> None:
        headers = {"Content-Type": "application/json"}
        with closing(HTTPConnection(host, timeout=60)) as connection:
            for body in part:
                connection.request("POST", "/publish_events", body, headers)
                answer = json.loads(connection.getresponse().read())
                assert answer["duplicates"] == 0, answer

    started = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(post, [waiting[at::CONNECTIONS] for at in range(CONNECTIONS)]))
    return time.perf_counter() - started


def _send(host: str, seed: int, seconds: multiprocessing.SimpleQueue[float]) -> None:
    seconds.put(post_all(host, bodies(MEASURED_EVENTS, seed)))


def measure_rate(url: str) -> Rate:
    """Return what is taken from another process."""
    context = multiprocessing.get_context("spawn")
    seconds: multiprocessing.SimpleQueue[float] = context.SimpleQueue()
    host = url.removeprefix("http://")
    process = context.Process(target=_send, args=(host, time.time_ns(), seconds))
    started_s = time.process_time()
    process.start()
    process.join()
    cpu_s = time.process_time() - started_s
    return Rate(MEASURED_EVENTS / seconds.get(), cpu_s / MEASURED_EVENTS * 1e6)


def print_rates(path: Path, what: str) -> None:
    """Measure the rate a few times, and print it."""
    with collector.running(path) as server:
        rates = [measure_rate(server.url) for _ in range(RATES)]
    each = ", ".join(f"{rate.per_s:,.0f}" for rate in rates)
    cpu_us = statistics.median(rate.cpu_us for rate in rates)
    print(f"{each} events/s into {what}; {cpu_us:.0f} µs of the server's CPU an event", flush=True)


def addresses(path: Path) -> dict[str, str]:
    """Return what is opened: every page, and the searches and filters that cost most."""
    with closing(Store(path)) as store, store.reading() as db:
        thread_id, user_id = db.execute("SELECT thread_id, user_id FROM threads LIMIT 1").fetchone()
        (busiest,) = db.execute("SELECT user_id FROM users ORDER BY events DESC LIMIT 1").fetchone()
    ranges = {f"overview, {name}": f"/?range={name}" for name in ("24h", "7d", "30d", "90d", "all")}
    return {
        **ranges,
        "conversations": "/threads",
        "conversations, a common word": "/threads?q=ban",
        "conversations, four words": "/threads?q=ban+dars+fin+gol",
        "conversations, a word nobody used": "/threads?q=zebra",
        "conversations, one model": "/threads?model=gpt-4o",
        "conversations, a property nobody has": "/threads?prop=plan&value=pro",
        "conversations, only failures": "/threads?only=failures",
        "conversations, only with feedback": "/threads?only=feedback",
        "one conversation": path_to(thread_id, "threads"),
        "users": "/users",
        "one user": path_to(user_id, "users"),
        "the busiest user": path_to(busiest, "users"),
        "live": "/live",
        "keep and delete": "/data",
    }


def measure_page(url: str, name: str, address: str) -> Page:
    """Open a page a few times and return what it took."""
    taken: list[float] = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        requests.get(url + address, timeout=120).raise_for_status()
        taken.append((time.perf_counter() - started) * 1000)
    return Page(name, statistics.median(taken), max(taken))


def main() -> None:
    """Fill, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--db", type=Path)
    parser.add_argument("--fill-s", type=float, help="fill for so long, then end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.db or Path(folder) / "large.sqlite3"
        started = time.monotonic()
        full = fill(path, arguments.events, started + (arguments.fill_s or math.inf))
        size_mib = path.stat().st_size >> 20
        print(f"filled in {time.monotonic() - started:.0f} s, {size_mib} MiB", flush=True)
        if arguments.fill_s or not full:
            return
        with collector.running(path) as server:
            for name, address in addresses(path).items():
                page = measure_page(server.url, name, address)
                print(f"{page.median_ms:8.0f} ms  {page.worst_ms:8.0f} ms at worst  {page.name}")
        print_rates(Path(folder) / "empty.sqlite3", "an empty database")
        print_rates(path, f"one of {arguments.events:,}")


if __name__ == "__main__":
    main()
