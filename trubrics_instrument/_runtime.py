"""What holds for the whole process: the configuration and the senders; the only mutable global."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from trubrics_instrument import _config, _cost, _events, _privacy, _scope
from trubrics_instrument._board import shared_board
from trubrics_instrument._config import Destination
from trubrics_instrument._delivery import Outgoing, Sender, SenderOptions, Skip
from trubrics_instrument._delivery.encode import plain
from trubrics_instrument._events import Event
from trubrics_instrument._frameworks import Session, session
from trubrics_instrument._identity import anonymous_id, new_thread_id
from trubrics_instrument._memory import Memory
from trubrics_instrument._shield import faults, logger, shield, stopped
from trubrics_instrument._threads import Threads
from trubrics_instrument._turns import Turns
from trubrics_instrument._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime

    import requests

    from trubrics_instrument._board import Board
    from trubrics_instrument._config import (
        BeforeSend,
        Capture,
        Config,
        OnDrop,
        Prices,
        Redact,
        Spool,
    )
# Background work holds its question until its answer is fetched, so fewer than elsewhere.
MAX_PENDING = 1_000
_NOT_CONFIGURED = (
    "Trubrics: nothing is sent, because there is neither a key nor a host. Either set "
    "TRUBRICS_API_KEY (or configure(api_key=...)), or run `trubrics-instrument collector` "
    "and set TRUBRICS_HOST to the address that it prints."
)
SOURCE = f"trubrics-instrument/{__version__}"


class _Unset:
    """The default of an option that was not given."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()


@dataclass(frozen=True)
class Stats:
    """What has happened in this process since it started; counts of events.

    Attributes:
        accepted: Taken over by a sender.
        delivered: Acknowledged by the host.
        queued: Waiting in memory.
        spooled: Waiting on disk.
        dropped: Given up, by reason; `not_configured` were never accepted.
        faults: Exceptions of ours that were stopped, by what was being done.
        requests: Requests made to the host.
        retries: Requests made again.
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


class Taker(Protocol):
    """What events are handed to: a sender, or what stands in for each of them in a test."""

    def put(self, item: object) -> bool:
        """Take an event over; False if it is refused."""
        ...


@dataclass
class _State:
    """The mutable global itself. Every change is one assignment or one `setdefault`: no lock."""

    config: Config
    rules: _privacy.Rules
    senders: dict[SenderOptions, Sender] = field(default_factory=dict[SenderOptions, Sender])
    takers: dict[Destination | None, Taker] = field(
        default_factory=dict["Destination | None", Taker]
    )
    not_configured: Counter[str] = field(default_factory=Counter[str])
    observers: dict[str, Callable[[], bool]] = field(
        default_factory=dict[str, "Callable[[], bool]"]
    )
    pending: Memory[Any] = field(default_factory=lambda: Memory[Any](MAX_PENDING))
    patches: dict[str, Any] = field(default_factory=dict[str, Any])
    turns: Turns = field(default_factory=Turns)
    threads: Threads = field(default_factory=Threads)
    anonymous: str = field(default_factory=lambda: anonymous_id(new_thread_id()))
    stand_in: Taker | None = None
    explained: bool = False
    closed: bool = False

    def __post_init__(self) -> None:
        names = self.config.event_names or {}
        self.switched_off = frozenset(name for name, new_name in names.items() if new_name is None)


# What `track()` was told: the state, name, properties, user, time, scope and session of its time.
# A bare tuple, because a named one takes the app's thread four times as long to make.
Tracked: TypeAlias = (
    "tuple[_State, str, dict[str, object], str | None, float, _scope.Said, Session]"
)
_state: _State | None = None


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
    spool_dir: str | None = UNSET,
    on_drop: OnDrop | None = UNSET,
    session: requests.Session | None = UNSET,
) -> None:
    """State the whole configuration; what is not given comes from `TRUBRICS_…`, else the default.

    It may be called again: the new configuration replaces the old one, and events already taken
    over go where they were meant to go.

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
            or `(input, output, cached input)`; or a callable of an event's properties. Others are
            looked up if the extra `cost` is installed.
        sample_rate: The share of conversations to send, 0 to 1; a conversation stays whole.
        max_text_chars: Longer texts are cut, and marked `text_truncated`.
        event_names: New names of events, such as `{"Prompt": "Question", "Tool call": None}`;
            None switches one off (not Prompt and Generation).
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
    _start(_config.build(os.environ, given))
    prepare_sender(None)


def state() -> _State:
    """Return the state, made from the environment if nobody has configured anything."""
    return _state or _start(_from_environment())


def config() -> Config:
    """Return the configuration in force."""
    return state().config


def observing() -> bool:
    """Whether anything is to be observed here and now."""
    return config().enabled and _scope.is_on()


def observed_elsewhere() -> bool:
    """Whether another observer of ours reads this very call already."""
    return any(observes() for observes in state().observers.values())


def destination(*, api_key: str | None, host: str | None) -> Destination | None:
    """Return an observer's own destination; None means the configured one.

    Raises:
        ValueError: An impossible `api_key` or `host`, an impossible environment, or a host that
            is neither the configured one nor on this machine, without a key of its own.
    """
    if _state is None:
        _start(_config.build(os.environ, {}))
    _config.check_destination(api_key=api_key, host=host)
    if api_key is None and host is None:
        return None
    if config().destination(api_key=api_key, host=host) is None:
        raise ValueError(f"host={host!r} needs its own api_key: the configured one stays at home")
    # As it was given: `configure()` may say later what is left open.
    return Destination(host or "", api_key)


def prepare_sender(target: Destination | None) -> None:
    """Build the sender at set-up, so that the first question does not pay for it."""
    _sender(state(), target)


def emit(event: Event, target: Destination | None = None) -> bool:
    """Hand an event over; False if it was not accepted. Safe in a finaliser."""
    return _accept(_state or state(), event.name, target, event)


def track(
    event: str,
    properties: Mapping[str, object] | None = None,
    *,
    user_id: object = None,
    timestamp: datetime | None = None,
) -> bool:
    """Send an event of your own, such as "Sign in" or "Converted", through the same sender.

    The user and the conversation are those of `context()` and `identify()`, if not given.

    Args:
        event: Its name.
        properties: Its properties: flat, JSON scalars; `$`-properties are those of Trubrics.
        user_id: Who did it.
        timestamp: When it happened (a naive one is local time); now if not given.

    Returns:
        Whether it was accepted for delivery.
    """
    try:
        said = _scope.said()
        if not said.enabled:
            return False
        # All that may change until the worker reads it is read now, and nothing else is done.
        own = {**properties} if properties else {}
        if type(user_id) is not str:
            user_id = _scope.clean_id(user_id)
        time_s = time.time() if timestamp is None else timestamp.timestamp()
        name = event if type(event) is str else str(event)
        now = _state or state()
        return _accept(now, name, None, (now, name, own, user_id, time_s, said, session()))
    except Exception as error:
        stopped("tracking an event", error)
    return False


def flush(timeout_s: float = 5.0) -> bool:
    """Wait until what was accepted by now has left memory; False if time ran out first."""
    deadline = time.monotonic() + timeout_s
    senders = _senders()
    done = [sender.flush(max(0.0, deadline - time.monotonic())) for sender in senders]
    return all(done)


async def aflush(timeout_s: float = 5.0) -> bool:
    """Do the same without blocking the event loop."""
    deadline = time.monotonic() + timeout_s
    done = [await one.aflush(max(0.0, deadline - time.monotonic())) for one in _senders()]
    return all(done)


def shutdown(timeout_s: float = 3.0) -> bool:
    """Deliver what is left, and accept nothing more until `configure()` is called again."""
    now = state()
    now.closed = True
    deadline = time.monotonic() + timeout_s
    senders = _senders()
    done = [sender.shutdown(max(0.0, deadline - time.monotonic())) for sender in senders]
    return all(done)


def forget() -> None:
    """Be as if the process had just started; for tests."""
    global _state  # noqa: PLW0603 - this module's purpose
    _state = None


@contextmanager
def standing_in(taker: Taker) -> Generator[None, None, None]:
    """Hand every event to `taker` instead of the senders while the block runs; for tests.

    It is on and samples nothing away, whatever is configured; turns and threads start anew. What
    is configured inside ends with the block, what is patched stays.
    """
    global _state  # noqa: PLW0603 - this module's purpose
    before = state()
    fresh = _start(_config.replaced(before.config, enabled=True, sample_rate=1.0))
    fresh.stand_in, fresh.senders = taker, {}
    fresh.turns, fresh.threads, fresh.pending = Turns(), Threads(), Memory()
    try:
        yield
    finally:
        _state = before


def prepared(item: object, event_id: str) -> Outgoing | Skip:
    """Return an accepted event as it would be sent."""
    return _prepare(state(), item, event_id)


def stats() -> Stats:
    """Return what has happened in this process since it started."""
    each = [sender.stats() for sender in _senders()]
    dropped = Counter(state().not_configured)
    for one in each:
        dropped.update(one.dropped)
    return Stats(
        accepted=sum(one.accepted for one in each),
        delivered=sum(one.delivered for one in each),
        queued=sum(one.queued for one in each),
        spooled=sum(one.spooled for one in each),
        dropped=dict(dropped),
        faults=faults(),
        requests=sum(one.requests for one in each),
        retries=sum(one.retries for one in each),
        last_error=next((one.last_error for one in each if one.last_error), None),
    )


def _from_environment() -> Config:
    """Return the environment's configuration; an impossible one, met at run time, is switched off.

    Set-up raises instead: `configure()`, a patch, a handler.
    """
    try:
        return _config.build(os.environ, {})
    except ValueError as error:
        with suppress(Exception):
            logger.error("Trubrics: nothing is sent, because %s.", error)
        return _config.Config(enabled=False)


def _start(config: Config) -> _State:
    """Put a configuration in force; senders of the old one deliver what they hold."""
    global _state  # noqa: PLW0603 - this module's purpose
    config = _config.replaced(config, user_id=_scope.clean_id(config.user_id))
    _cost.check_prices("prices", config.prices)
    rules = _privacy.Rules(
        capture=config.capture,
        redactors=_privacy.redactors_from(config.redact),
        max_text_chars=config.max_text_chars,
        sample_rate=config.sample_rate,
    )
    fresh = _State(config, rules)
    if _state is not None:
        fresh.senders = {} if _state.closed else _state.senders
        for kept in (
            "not_configured",
            "observers",
            "patches",
            "pending",
            "turns",
            "threads",
            "anonymous",
            "stand_in",
        ):
            setattr(fresh, kept, getattr(_state, kept))
    fresh.threads.board = _board_of(config)
    _state = fresh
    return fresh


def _board_of(config: Config) -> Board | None:
    """Return what this project's processes on this machine know together; "off" keeps it here."""
    target = config.destination(api_key=None, host=None)
    if target is None or config.spool == "off" or not config.enabled:
        return None
    with shield("sharing memory with other processes"):
        return shared_board(f"{target.host}\0{target.api_key}")
    return None


def _senders() -> list[Sender]:
    return list(state().senders.values())


def _accept(now: _State, name: str, target: Destination | None, item: object) -> bool:
    """Hand an item over to the sender of its destination."""
    if name in now.switched_off:
        return False
    taker = now.takers.get(target) or _sender(now, target)
    if taker is not None:
        return taker.put(item)
    if now.config.enabled:
        now.not_configured["not_configured"] += 1
    return False


def _sender(now: _State, wanted: Destination | None) -> Taker | None:
    """Return the sender to a destination, None being the configured one; built on first use."""
    if not now.config.enabled:
        return None
    if now.stand_in is not None:
        return now.stand_in
    key, host = (wanted.api_key, wanted.host or None) if wanted else (None, None)
    target = now.config.destination(api_key=key, host=host)
    if target is None:
        _explain(now)
        return None
    sender = now.takers.get(target)
    if sender is None and not now.closed:
        options = SenderOptions(
            host=target.host,
            api_key=target.api_key,
            flush_interval_s=now.config.flush_interval_s,
            max_batch=now.config.max_batch,
            spool=now.config.spool,
            spool_dir=now.config.spool_dir,
            on_drop=now.config.on_drop,
            session=now.config.session,
        )
        sender = now.senders.setdefault(options, Sender(options, partial(_prepare, now)))
        now.takers[target] = now.takers[wanted] = sender
    return sender


def _explain(now: _State) -> None:
    if now.explained:
        return
    now.explained = True
    with suppress(Exception):  # a log handler of the app's that raises
        logger.info(_NOT_CONFIGURED)


def _prepare(origin: _State, item: object, event_id: str) -> Outgoing | Skip:
    """Turn an accepted event into what is sent, on the sender's thread."""
    now = _state or origin
    event = _told(cast("Tracked", item)) if type(item) is tuple else cast("Event", item)
    # Plain before it is protected: a secret may be in an object that becomes a dict only then.
    own = plain({**(now.config.properties or {}), **(event.properties or {})})
    whole = Event(*event[:-1], cast("dict[str, object]", own))
    protected = _privacy.protect(whole, now.rules)
    if protected is None:
        return Skip("sampled")
    _complete(cast("dict[str, object]", protected.properties), event, now.config, event_id)
    wire = _events.to_wire(protected, (now.config.event_names or {}).get(event.name))
    body = cast("dict[str, object]", wire)
    if now.config.before_send is not None:
        changed = now.config.before_send(body)
        if changed is None:
            return Skip("before_send")
        if not isinstance(changed, dict):  # pyright: ignore[reportUnnecessaryIsInstance] # the app's code
            raise TypeError("before_send must return the event, or None")
        body = changed
    return Outgoing(event.thread_id or event.user_id, body)


def _told(tracked: Tracked) -> Event:
    """Return what `track()` was told as an event."""
    now, name, own, given_id, time_s, said, around = tracked
    # Once more: `track()` leaves a str as it is.
    user_id = _scope.clean_id(given_id) or said.user_id or around.user_id or now.config.user_id
    thread_id = said.thread_id or around.thread_id
    properties = {**said.properties, **own}
    if user_id is None:
        user_id = anonymous_id(thread_id) if thread_id else now.anonymous
        properties["anonymous"] = True
    return Event(name, user_id, time_s, None, thread_id, properties=properties)


def _complete(properties: dict[str, object], event: Event, config: Config, event_id: str) -> None:
    """Add to an event's properties what every event carries, and what it cost."""
    if config.environment:
        properties.setdefault("environment", config.environment)
    if "output_tokens" in properties and "cost_usd" not in properties:
        properties["cost_usd"] = _cost.cost_of(properties, config.prices, event.time_s)
    properties["source"] = SOURCE
    properties["event_id"] = event_id
