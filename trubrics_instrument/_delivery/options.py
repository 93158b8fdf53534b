"""What the sender takes and what it tells: plain values, no behaviour."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    import requests

SpoolMode = Literal["auto", "always", "strict", "off"]
OnDrop = Callable[[list[dict[str, object]], str], None]

MIB = 1024 * 1024


class Outgoing(NamedTuple):
    """What `prepare` makes of an item that is to be sent.

    Attributes:
        key: Events with the same key (a thread, a user) keep their order.
        body: The event as it goes on the wire; values that JSON cannot hold degrade.
    """

    key: str
    body: dict[str, object]


class Skip(NamedTuple):
    """What `prepare` says of an item that is not to be sent.

    Attributes:
        reason: Counted under this word in `SenderStats.dropped`: "sampled", "before_send".
    """

    reason: str


Prepare = Callable[[Any, str], Outgoing | Skip]
"""Called with an accepted item and its event id, on the worker (`strict`: inside `put`)."""


@dataclass(frozen=True)
class SenderOptions:
    """Where to deliver, and within which bounds.

    Attributes:
        host: The ingestion API's base URL, without the endpoint.
        api_key: The write-only project key; None for a collector of one's own.
        flush_interval_s: How long the first event of a batch waits for company.
        max_batch: Most events in a request; the service takes 100.
        spool: When events go to disk: see `docs/explanation/delivery.md`.
        spool_dir: Where; None is the user's state directory.
        spool_path: The file, instead of the one there for this host and key.
        on_drop: Called on a sender's thread with events that were given up, and the reason.
        session: The app's own `requests.Session` (proxies, certificates); copied, never shared.
        max_batch_bytes: A request's size, smaller once the host has answered 413.
        max_memory_bytes: What accepted events may take; then the disk, then `put` refuses.
        max_connections: To a host that is slower than the app.
        connect_timeout_s: For a connection.
        read_timeout_s: For each piece of an answer.
        exit_timeout_s: What the end of the process may be delayed by.
        spool_quota_bytes: On disk; then the oldest are dropped.
        spool_age_s: On disk; older ones are dropped.
        lease_s: After this silence of its process, an event on disk is anybody's.
        look_s: How often to look for events that other processes left.
        replay_spread_s: A new process looks after a random part of this.
        replay_gap_s: Between batches from disk after an outage.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        chance: A random number from 0 to 1.
    """

    host: str
    api_key: str | None = field(repr=False)
    flush_interval_s: float = 0.1
    max_batch: int = 100
    spool: SpoolMode = "auto"
    spool_dir: str | None = None
    spool_path: Path | None = None
    on_drop: OnDrop | None = None
    session: requests.Session | None = None
    max_batch_bytes: int = MIB
    max_memory_bytes: int = 64 * MIB
    max_connections: int = 4
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    exit_timeout_s: float = 3.0
    spool_quota_bytes: int = 256 * MIB
    spool_age_s: float = 72 * 3600.0
    lease_s: float = 15.0
    look_s: float = 60.0
    replay_spread_s: float = 5.0
    replay_gap_s: float = 0.1
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random


@dataclass(frozen=True)
class SenderStats:
    """How a sender has fared so far, in this process.

    Attributes:
        accepted: Items that `put` took.
        delivered: Events that the host confirmed; replayed ones of other processes included.
        dropped: Items given up or refused, by reason.
        queued: Events in memory, in flight included.
        queued_bytes: An estimate of the memory that they hold.
        spooled: Events that wait on disk, as last seen.
        requests: Requests made.
        retries: Requests that failed in a way that is worth another try.
        duplicates_possible: Requests whose answer got lost: their events are sent again.
        last_error: The last failure, without content or key.
    """

    accepted: int = 0
    delivered: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    queued: int = 0
    queued_bytes: int = 0
    spooled: int = 0
    requests: int = 0
    retries: int = 0
    duplicates_possible: int = 0
    last_error: str | None = None
