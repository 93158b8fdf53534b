"""What an app calls by itself: to configure, to track, to wait, to end, and to see how it went."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from trubrics_instrument import _config, _runtime
from trubrics_instrument._base.decorate import decorate
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._base.shield import faults, stopped
from trubrics_instrument._context import scope
from trubrics_instrument._context.chat_uis import session

if TYPE_CHECKING:
    from collections.abc import Sequence

    import requests

    from trubrics_instrument._config import BeforeSend, Capture, OnDrop, Prices, Redact, Spool


class _Unset:
    """The default of an option that was not given."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()


@dataclass(frozen=True)
class Stats:
    """What has happened in this process since it started; counts of events.

    After a `shutdown()`, `configure()` starts the counts anew.

    Attributes:
        accepted: Taken over by a sender.
        delivered: Acknowledged by the host.
        queued: Waiting in memory.
        spooled: Waiting on disk.
        dropped: Given up or refused, by reason (docs/explanation/delivery.md).
        faults: Exceptions of ours that were stopped, by what was being done.
        requests: Requests made to the host.
        retries: Requests that failed, whose events are sent again.
        last_error: The last trouble with a host, without any content.
    """

    accepted: int = 0
    delivered: int = 0
    queued: int = 0
    spooled: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    faults: Mapping[str, int] = field(default_factory=dict[str, int])
    requests: int = 0
    retries: int = 0
    last_error: str | None = None


def configure(
    api_key: str | None = UNSET,
    *,
    host: str | None = UNSET,
    enabled: bool = UNSET,
    user_id: str | None = UNSET,
    environment: str | None = UNSET,
    properties: Mapping[str, object] | None = UNSET,
    capture: Capture = UNSET,
    redact: Redact = UNSET,
    before_send: BeforeSend | None = UNSET,
    prices: Prices = UNSET,
    sample_rate: float = UNSET,
    max_text_chars: int = UNSET,
    event_names: Mapping[str, str | None] | None = UNSET,
    flush_interval_s: float = UNSET,
    max_batch: int = UNSET,
    spool: Spool = UNSET,
    spool_dir: str | os.PathLike[str] | None = UNSET,
    on_drop: OnDrop | None = UNSET,
    session: requests.Session | None = UNSET,
) -> None:
    """State the whole configuration; what is not given comes from `TRUBRICS_…`, else the default.

    It may be called again: the new configuration replaces the old one. Events already taken over
    go where they were meant to go, as the new one wants them.

    Args:
        api_key: The project's write-only key. It goes to `host` and nowhere else.
        host: The ingestion API's URL, `https://app.trubrics.com/api/ingestion` if not given. A
            loopback host (`trubrics-instrument collector`) needs no key.
        enabled: False observes nothing. `TRUBRICS_ENABLED=0` wins over True.
        user_id: Who asks, where nothing else says so (a command-line tool of one person).
        environment: Such as "production", a property of every event.
        properties: Your own properties of every event: flat, JSON scalars.
        capture: "full", or "metadata" to send no text at all.
        redact: "secrets" (default), "pii" (both), a callable `str -> str`, a pattern, a dict of
            tags and patterns, a list of these, or None for nothing.
        before_send: Gets each event as it would be sent, a dict of its own, and returns it,
            changed or not, or None to drop it.
        prices: Your own prices of models, dollars for a million tokens: `{model: (input, output)}`
            or `(input, output, cached input)`; others are looked up if the extra `cost` is
            installed. Or a callable of an event's properties, whose answer is all there is.
        sample_rate: The share of conversations to send, 0 to 1; a conversation stays whole.
        max_text_chars: Longer texts are cut, and marked `text_truncated`.
        event_names: New names of events, such as `{"Prompt": "Question", "Tool call": None}`,
            those that you `track()` too; None switches one off (not Prompt and Generation).
        flush_interval_s: How long an event may wait for company, in seconds.
        max_batch: How many events one request holds, 1 to 100.
        spool: When undelivered events go to disk: "auto" in trouble and at exit, "always" before
            they are sent, "strict" before the call returns, "off" never.
        spool_dir: Where; the user's state directory if not given.
        on_drop: Called with the events (wire dicts) that are given up, and the reason.
        session: Your own `requests.Session`, for a proxy or a certificate.

    Raises:
        ValueError: An impossible value; nothing has changed then.
    """
    given = {name: value for name, value in locals().items() if value is not UNSET}
    given |= {name: _unobserved(given[name]) for name in ("redact", "before_send") if name in given}
    _runtime.start(_config.build(os.environ, given))
    _runtime.build_sender(None)


def _unobserved(option: Any) -> Any:
    """Return an option whose functions are not observed where they ask a model.

    It would make events, for which they would be called again.
    """
    if isinstance(option, (list, tuple)):
        return [_unobserved(one) for one in cast("Sequence[Any]", option)]
    return decorate(option, scope.Unobserved) if callable(option) else option


def track(
    event: str,
    properties: Mapping[str, object] | None = None,
    *,
    user_id: object = None,
    timestamp: datetime | None = None,
) -> bool:
    """Send an event of your own, such as "Sign in" or "Converted", through the same sender.

    The user and the conversation are those of `context()` and `identify()`, if not given; else
    those of the last question in the same block or request. Where nothing says either, all such
    events of the process are one anonymous user's.

    Args:
        event: Its name.
        properties: Its properties: flat, JSON scalars; `$`-properties are those of Trubrics, and
            `$thread_id` says in which conversation it happened.
        user_id: Who did it.
        timestamp: When it happened (a naive one is local time); now if not given.

    Returns:
        Whether it was accepted for delivery. A mistake in the arguments is a WARNING line, and
        counted in `stats().dropped` as "invalid": it raises nothing in a running app.
    """
    try:
        said = scope.said()
        if not said.enabled:
            return False
        # All that may change until the worker reads it is read now, and nothing else is done.
        own = {**properties} if properties else {}
        if type(user_id) is not str:
            user_id = clean_id(user_id)
        time_s = time.time() if timestamp is None else timestamp.timestamp()
        name = event if event and type(event) is str else _named(event)
        now = _runtime._state or _runtime.state()
        item = (now, name, own, user_id, time_s, said, session(), scope.turn_around())
        return _runtime.accept(now, name, None, item)
    except Exception as error:
        wrong = _wrong(event, properties, timestamp)
        if wrong:
            _runtime.refuse("invalid", f"Trubrics: track() was called in vain: {wrong}.")
        else:
            stopped("tracking an event", error)
    return False


def _named(event: object) -> str:
    if event is None or event == "":
        raise ValueError("an event has a name")
    return str(event)


def _wrong(event: object, properties: object, timestamp: object) -> str | None:
    """Return what is wrong with what `track()` was given; None if nothing is."""
    if event is None or event == "":
        return "an event must have a name"
    if not isinstance(properties, (Mapping, NoneType)):
        return f"properties must be a dict, not {type(properties).__name__}"
    if not isinstance(timestamp, (datetime, NoneType)):
        return f"timestamp must be a datetime, not {type(timestamp).__name__}"
    return None


def flush(timeout_s: float = 5.0) -> bool:
    """Wait until what was accepted by now is delivered or given up; False if time ran out first."""
    deadline = time.monotonic() + timeout_s
    senders = _runtime.senders()
    done = [sender.flush(max(0.0, deadline - time.monotonic())) for sender in senders]
    return all(done)


async def aflush(timeout_s: float = 5.0) -> bool:
    """Wait as `flush()` does, without blocking the event loop."""
    deadline = time.monotonic() + timeout_s
    done = [await one.aflush(max(0.0, deadline - time.monotonic())) for one in _runtime.senders()]
    return all(done)


def shutdown(timeout_s: float = 3.0) -> bool:
    """Deliver what is left, and accept nothing more until `configure()` is called again.

    Returns:
        Whether all of it arrived within the time; else the rest waits on disk, if it may.
    """
    senders = _runtime.state().senders  # and not those of a `configure()` that comes in between
    senders.closed = True
    deadline = time.monotonic() + timeout_s
    done = [one.shutdown(max(0.0, deadline - time.monotonic())) for one in senders.every()]
    return all(done)


def stats() -> Stats:
    """Return what has happened in this process since it started."""
    now = _runtime.state()
    told = now.senders.stats()
    return Stats(
        accepted=told.accepted,
        delivered=told.delivered,
        queued=told.queued,
        spooled=told.spooled,
        dropped=dict(Counter(now.refused) + Counter(told.dropped)),
        faults=faults(),
        requests=told.requests,
        retries=told.retries,
        last_error=told.last_error,
    )
