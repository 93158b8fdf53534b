"""`feedback()`: what a user thinks of an answer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any, cast

from trubrics_instrument import _events, _runtime
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context import scope
from trubrics_instrument._context.chat_uis import session
from trubrics_instrument._context.identity import anonymous_id
from trubrics_instrument._conversations.turns import Told
from trubrics_instrument._events import Event

if TYPE_CHECKING:
    from trubrics_instrument._config import Destination


def feedback(
    target: object,
    score: float,
    *,
    comment: str | None = None,
    user_id: object = None,
    properties: Mapping[str, object] | None = None,
) -> bool:
    """Tell what a user thinks of an answer.

    The conversation, and the user where nothing else says, are those of the answer, if this process
    has told it; else those of `context()` and `identify()`. Of an answer of another process of this
    machine, the conversation is known, unless the app has named it with something else than a UUID.

    Args:
        target: The answer: an OpenAI response, a LangChain message, or its id. None is the last
            answer of this request, task or thread.
        score: A number, such as 1 for a thumb up and 0 for a thumb down, or 1 to 5; True is 1.
        comment: What the user writes about it.
        user_id: Who thinks so, if it is not the user who asked.
        properties: Your own properties of the event: flat, JSON scalars.

    Returns:
        Whether it was accepted for delivery.

    Raises:
        ValueError: There is no such answer, or the score is no number.
    """
    number = _number(score)
    if not _runtime.observing():
        return False
    told = _told(target)
    with shield("telling a feedback"):
        event = _event(told, number, comment, user_id, properties)
        return _runtime.emit(event, cast("Destination | None", told.target))
    return False


def _event(
    told: Told,
    score: float,
    comment: str | None,
    user_id: object,
    properties: Mapping[str, object] | None,
) -> Event:
    said = scope.said()
    around = session()
    known = clean_id(user_id) or said.user_id or around.user_id
    known = known or told.user_id or _runtime.config().user_id
    thread_id = told.thread_id or said.thread_id or around.thread_id
    around_it = _events.own_properties(said.properties)
    own: dict[str, object] = {**around_it, **(properties or {}), "score": score}
    if known is None:
        known = None if thread_id else anonymous_id(told.generation_id)
        own["anonymous"] = True
    return Event(
        name=_events.FEEDBACK,
        user_id=known,
        time_s=time.time(),
        text=comment or None,
        thread_id=thread_id or None,
        prompt_id=told.prompt_id,
        generation_id=told.generation_id,
        properties=own,
    )


def _told(target: object) -> Told:
    """Return where the answer was told; of one that another process told, the thread at most."""
    if target is None:
        turn = scope.last_turn()
        if turn is None or turn.answer is None:
            raise ValueError(
                "feedback(None, ...) is for the last answer of this request, task or thread, and "
                "there is none: give the answer, or its id"
            )
        return cast("Told", turn.answer)
    generation_id = id_of(target)
    now = _runtime.state()
    known = now.turns.answer(generation_id)
    return known or Told(generation_id, None, now.threads.of_answer(generation_id) or "")


def id_of(target: object) -> str:
    """Return the id of an answer: a response, a message, the same as a dict, or the id itself.

    Raises:
        ValueError: It has none.
    """
    given: Any = target
    found: Any = given
    if isinstance(target, Mapping):
        found = given.get("id")
    elif not isinstance(target, str):
        found = getattr(given, "id", None)
    if not isinstance(found, str) or not found.strip():
        kind = type(given).__name__
        raise ValueError(f"feedback needs an answer or its id, and this {kind} has no id")
    return clean_id(found) or found


def _number(score: object) -> float:
    """Return a score as a number."""
    if isinstance(score, bool):
        return int(score)
    with suppress(OverflowError):
        if isinstance(score, (int, float)) and math.isfinite(score):
            return score
        if isinstance(score, Real) and math.isfinite(score):  # numpy's, a fraction
            return float(score)
    raise ValueError(f"score must be a number, such as 1 or 0, not {score!r}")
