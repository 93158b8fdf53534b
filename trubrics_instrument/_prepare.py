"""The worker's side: what was accepted becomes what is sent, and nothing else leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from trubrics_instrument import _cost, _events, _privacy
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._context.identity import anonymous_id
from trubrics_instrument._delivery import Outgoing, Skip
from trubrics_instrument._delivery.encode import is_flat, plain
from trubrics_instrument._events import Event
from trubrics_instrument._version import __version__

if TYPE_CHECKING:
    from trubrics_instrument._config import Config
    from trubrics_instrument._context.chat_uis import Session
    from trubrics_instrument._context.scope import Said
    from trubrics_instrument._conversations.turns import Turn

SOURCE = f"trubrics-instrument/{__version__}"


class Origin(Protocol):
    """What holds for each event.

    Attributes:
        config: The configuration.
        rules: What it says of privacy, built once.
        anonymous: Who an event belongs to that has neither user nor conversation.
    """

    config: Config
    rules: _privacy.Rules
    anonymous: str


# What `track()` was told: the state, name, properties, user and time; then scope, session and turn
# around it. A bare tuple, because a named one takes the app's thread four times as long to make.
Tracked: TypeAlias = (
    "tuple[Origin, str, dict[str, object], str | None, float, Said, Session, Turn | None]"
)


def prepare(now: Origin, item: object, event_id: str) -> Outgoing | Skip:
    """Turn an accepted event into what is sent."""
    event = item if isinstance(item, Event) else _told(cast("Tracked", item))
    thread_id = event.thread_id
    user_id = event.user_id or (anonymous_id(thread_id) if thread_id else now.anonymous)
    conversation = thread_id or user_id
    if not _privacy.sampled(conversation, now.rules.sample_rate):
        return Skip("sampled")
    config = now.config
    own = event.properties or {}
    if config.properties:
        own = {**config.properties, **own}
    # Plain before it is protected: a secret may be in an object that becomes a dict only then.
    if config.before_send is not None or not is_flat(own):
        own = cast("dict[str, object]", plain(own))
    new_name = config.event_names.get(event.name) if config.event_names else None
    wire = _events.to_wire(event, user_id, own, new_name)
    observed = event is item and event.name != _events.FEEDBACK
    _privacy.protect(wire["properties"], now.rules, observed=observed)
    _complete(wire["properties"], event, config, event_id)
    body = cast("dict[str, object]", wire)
    if config.before_send is not None:
        changed = config.before_send(body)
        if changed is None:
            return Skip("before_send")
        if not isinstance(changed, dict):  # pyright: ignore[reportUnnecessaryIsInstance] # the app's code
            raise TypeError("before_send must return the event, or None")
        body = cast("dict[str, object]", plain(changed))  # the app may put anything there
    return Outgoing(conversation, body)


def _told(tracked: Tracked) -> Event:
    """Return what `track()` was told as an event."""
    now, name, own, given_id, time_s, said, around, turn = tracked
    # Once more: `track()` leaves a str as it is.
    user_id = clean_id(given_id) or said.user_id or around.user_id
    thread_id = clean_id(own.get("$thread_id")) or said.thread_id or around.thread_id
    if turn is not None and _is_in(turn, user_id, thread_id):
        user_id, thread_id = turn.user_id, turn.thread_id
    user_id = user_id or now.config.user_id
    properties = {**said.properties, **own} if said.properties else own
    if user_id is None:
        properties["anonymous"] = True
    return Event(name, user_id, time_s, None, thread_id, None, None, None, properties)


def _is_in(turn: Turn, user_id: str | None, thread_id: str | None) -> bool:
    """Whether what is known of who did something, and where, fits a turn."""
    return user_id in {None, turn.user_id} and thread_id in {None, turn.thread_id}


def _complete(properties: dict[str, object], event: Event, config: Config, event_id: str) -> None:
    """Add to an event's properties what every event carries, and what it cost."""
    if config.environment:
        properties.setdefault("environment", config.environment)
    # An observer says None where there is none to be known.
    said = "cost_usd" in properties or "cost_usd" in (event.properties or {})
    if "output_tokens" in properties and not said:
        cost = _cost.cost_of(properties, config.prices, event.time_s)
        if cost is not None:
            properties["cost_usd"] = cost
    elif event.name == _events.PROMPT and not callable(config.prices):
        _cost.expect_answers()
    properties["source"] = SOURCE
    properties["event_id"] = event_id
