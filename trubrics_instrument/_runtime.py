"""What holds for the whole process: the configuration, the senders, and what is remembered."""

from __future__ import annotations

import logging
import os
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from trubrics_instrument import _config, _cost, _events, _privacy
from trubrics_instrument._base.checks import check_destination
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._base.memory import MAX_REMEMBERED, Memory
from trubrics_instrument._base.shield import logger, shield
from trubrics_instrument._base.uuids import random_uuid
from trubrics_instrument._config import Destination
from trubrics_instrument._context import scope
from trubrics_instrument._context.identity import anonymous_id
from trubrics_instrument._conversations.board import shared_board
from trubrics_instrument._conversations.threads import Threads
from trubrics_instrument._conversations.turns import Turns
from trubrics_instrument._delivery import Outgoing, SenderOptions, Senders, Skip
from trubrics_instrument._prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from trubrics_instrument._config import Config
    from trubrics_instrument._conversations.board import Board
    from trubrics_instrument._delivery import Sender
    from trubrics_instrument._events import Event

# Background work holds its question until its answer is fetched, so fewer than elsewhere.
MAX_PENDING = 1_000
_NOT_CONFIGURED = (
    "Trubrics: nothing is sent, because there is neither a key nor a host. Either set "
    "TRUBRICS_API_KEY (or configure(api_key=...)), or run `trubrics-instrument collector` "
    "and set TRUBRICS_HOST to the address that it prints."
)
_NO_KEY = (
    "Trubrics: nothing is sent, because the host that is set (TRUBRICS_HOST, or "
    "configure(host=...)) is another machine's, and needs a key: set TRUBRICS_API_KEY (or "
    "configure(api_key=...))."
)
# These may be told by a finaliser, where nothing may be logged: it may be in the app's own log.
_ENDS = frozenset({_events.GENERATION, _events.GENERATION_FAILED, _events.TOOL_CALL})
_CLOSED = (
    "Trubrics: nothing is sent after shutdown(), until configure() is called again. To wait for "
    "what was tracked, and go on, call flush()."
)


class Taker(Protocol):
    """What events are handed to: a sender, or what stands in for each of them in a test."""

    def put(self, item: object) -> bool:
        """Take an event over; False if it is refused."""
        ...


@dataclass
class _State:
    """The mutable global itself. Each change is one step, and harmless if done twice: no lock.

    Only of refusals that several threads count at once, some may go uncounted.
    """

    config: Config
    rules: _privacy.Rules
    senders: Senders = field(default_factory=Senders)
    takers: dict[Destination | None, Taker] = field(default_factory=dict[Destination | None, Taker])
    refused: Counter[str] = field(default_factory=Counter[str])
    observers: dict[str, Callable[[], bool]] = field(
        default_factory=dict[str, "Callable[[], bool]"]
    )
    pending: Memory[Any] = field(default_factory=lambda: Memory[Any](MAX_PENDING))
    patches: dict[str, Any] = field(default_factory=dict[str, Any])
    memories: dict[str, Memory[Any]] = field(default_factory=dict[str, Memory[Any]])
    turns: Turns = field(default_factory=Turns)
    threads: Threads = field(default_factory=Threads)
    anonymous: str = field(default_factory=lambda: anonymous_id(random_uuid()))
    stand_in: Taker | None = None
    explained: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        names = self.config.event_names or {}
        self.switched_off = frozenset(name for name, new_name in names.items() if new_name is None)


# What a new configuration takes over from the one before, besides its senders.
_KEPT = (
    *("refused", "observers", "patches", "pending", "memories", "turns", "threads"),
    *("anonymous", "stand_in"),
)
_state: _State | None = None


def state() -> _State:
    """Return the state, made from the environment if nobody has configured anything."""
    return _state or start(_from_environment())


def config() -> Config:
    """Return the configuration in force."""
    return state().config


def memory(name: str, size: int = MAX_REMEMBERED) -> Memory[Any]:
    """Return what an observer remembers of conversations, under a name of its own."""
    memories = state().memories
    found = memories.get(name)
    return memories.setdefault(name, Memory(size)) if found is None else found


def observing() -> bool:
    """Whether anything is to be observed here and now."""
    return state().config.enabled and scope.is_on()


def observed_elsewhere() -> bool:
    """Whether another observer of ours reads this very call already."""
    return any(observes() for observes in state().observers.values())


def check_environment() -> None:
    """Raise ValueError if the environment is impossible and nobody has configured anything yet.

    For a set-up: at run time an impossible environment is one line in the log, and no events.
    """
    if _state is None:
        start(_config.build(os.environ, {}))


def destination(*, api_key: str | None, host: str | None) -> Destination | None:
    """Return an observer's own destination; None means the configured one.

    Raises:
        ValueError: An impossible `api_key` or `host`, or a host that is neither the configured one
            nor on this machine, without a key of its own.
    """
    check_destination(api_key=api_key, host=host)
    if api_key is None and host is None:
        return None
    # What is switched off knows no key: by the app's user, or for an impossible environment.
    if config().enabled and config().destination(api_key=api_key, host=host) is None:
        raise ValueError(f"host={host!r} needs its own api_key: the configured one stays at home")
    # As it was given: `configure()` may say later what is left open.
    return Destination(host or "", api_key)


def build_sender(target: Destination | None) -> None:
    """Build the sender at set-up, so that the first question does not pay for it.

    Where nothing says where to, `configure()` may still come: nothing is said of it yet.
    """
    now = state()
    if _whereto(now, target) is not None:
        _sender(now, target)


def emit(event: Event, target: Destination | None = None) -> bool:
    """Hand an event over; False if it was not accepted. Safe in a finaliser."""
    return accept(state(), event.name, target, event)


def accept(now: _State, name: str, target: Destination | None, item: object) -> bool:
    """Hand an item over to the sender of its destination."""
    if name in now.switched_off:
        return False
    taker = now.takers.get(target) or _sender(now, target)
    if taker is not None and taker.put(item):
        return True
    if now.config.enabled:
        if now.senders.closed and name not in _ENDS:
            _explain(now, logging.WARNING, _CLOSED)
        if taker is None:
            now.refused["closed" if now.senders.closed else "not_configured"] += 1
    return False


def refuse(reason: str, why: str) -> None:
    """Count an event that is none, and say once why."""
    now = state()
    now.refused[reason] += 1
    _explain(now, logging.WARNING, why)


def senders() -> list[Sender]:
    """Return the senders that were built so far."""
    return state().senders.every()


def start(config: Config) -> _State:
    """Put a configuration in force; senders of the old one deliver what they hold."""
    global _state  # noqa: PLW0603 - this module's purpose
    config = replace(config, user_id=clean_id(config.user_id))
    if _state is not None and _state.stand_in is not None:
        config = replace(config, enabled=True, sample_rate=1.0)
    _cost.check_prices("prices", config.prices)
    _events.check_names("properties", config.properties)
    _events.check_new_names("event_names", config.event_names)
    fresh = _State(config, _privacy.rules_of(config))
    if _state is not None:
        fresh.senders = Senders() if _state.senders.closed else _state.senders
        for kept in _KEPT:
            setattr(fresh, kept, getattr(_state, kept))
    # What is tested is no news for other processes, and they tell it nothing.
    fresh.threads.board = None if fresh.stand_in is not None else _board_of(config)
    if config.enabled and config.spool == "strict" and not callable(config.prices):
        _cost.expect_answers()  # an answer would wait for the list on the app's own thread
    before = _state
    _state = fresh
    if before is not None:
        fresh.senders.retire(partial(_is_replaced, before.config, config))
    return fresh


def _is_replaced(before: Config, now: Config, options: SenderOptions) -> bool:
    """Tell whether a sender is not what the configuration now in force asks for.

    One to an observer's own destination is built anew when it has something to send again.
    """
    target = Destination(options.host, options.api_key)
    if options != _options(now, target):
        return True
    was_home, is_home = (one.destination(api_key=None, host=None) for one in (before, now))
    return target == was_home != is_home


def forget() -> None:
    """Be as if the process had just started; for tests."""
    global _state  # noqa: PLW0603 - this module's purpose
    _state = None


@contextmanager
def standing_in(taker: Taker) -> Generator[None, None, None]:
    """Hand every event to `taker` instead of the senders while the block runs; for tests.

    It is on and samples nothing away, whatever is configured, before or inside; turns and threads
    start anew. What is configured inside ends with the block, what is patched stays.
    """
    global _state  # noqa: PLW0603 - this module's purpose
    before = state()
    config = replace(before.config, enabled=True, sample_rate=1.0)
    _state = _State(
        config,
        _privacy.rules_of(config),
        refused=before.refused,
        observers=before.observers,
        patches=before.patches,
        anonymous=before.anonymous,
        stand_in=taker,
    )
    try:
        yield
    finally:
        _state = before


def prepared(item: object, event_id: str) -> Outgoing | Skip:
    """Return an accepted event as it would be sent."""
    return prepare(state(), item, event_id)


def _from_environment() -> Config:
    """Return the environment's configuration; an impossible one, met at run time, is switched off.

    Set-up raises instead: `configure()`, a patch. A handler may be made for each request.
    """
    try:
        return _config.build(os.environ, {})
    except ValueError as error:
        with suppress(Exception):
            logger.error("Trubrics: nothing is sent, because %s.", error)
        return _config.Config(enabled=False)


def _board_of(config: Config) -> Board | None:
    """Return what this project's processes on this machine know together; "off" keeps it here."""
    target = config.destination(api_key=None, host=None)
    if target is None or config.spool == "off" or not config.enabled:
        return None
    with shield("sharing memory with other processes"):
        return shared_board(f"{target.host}\0{target.api_key}")
    return None


def _whereto(now: _State, wanted: Destination | None) -> Destination | None:
    """Return where a destination is by what is configured now; None if nobody has said."""
    key, host = (wanted.api_key, wanted.host or None) if wanted else (None, None)
    return now.config.destination(api_key=key, host=host)


def _sender(now: _State, wanted: Destination | None) -> Taker | None:
    """Return the sender to a destination, None being the configured one; built on first use."""
    if not now.config.enabled:
        return None
    if now.stand_in is not None:
        return now.stand_in
    target = _whereto(now, wanted)
    if target is None and now.config.host:
        _explain(now, logging.WARNING, _NO_KEY)
        return None
    if target is None:
        _explain(now, logging.INFO, _NOT_CONFIGURED)
        return None
    sender = now.senders.get(_options(now.config, target), partial(_prepared_by, now))
    if sender is not None:
        now.takers[target] = now.takers[wanted] = sender
    return sender


def _options(config: Config, target: Destination) -> SenderOptions:
    """Return how a configuration wants it delivered there."""
    return SenderOptions(
        host=target.host,
        api_key=target.api_key,
        flush_interval_s=config.flush_interval_s,
        max_batch=config.max_batch,
        spool=config.spool,
        spool_dir=config.spool_dir,
        on_drop=config.on_drop,
        session=config.session,
    )


def _explain(now: _State, level: int, why: str) -> None:
    """Say once why nothing is sent."""
    if why in now.explained:
        return
    now.explained.add(why)
    with suppress(Exception):  # a log handler of the app's that raises
        logger.log(level, why)


def _prepared_by(origin: _State, item: object, event_id: str) -> Outgoing | Skip:
    """Return what is sent, as the configuration in force wants it; on the sender's thread."""
    return prepare(_state or origin, item, event_id)
