"""Who observes, and what that makes of a call: who asks, since when, and what each event says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument import _runtime
from trubrics_instrument._base.checks import check_properties, check_source
from trubrics_instrument._context import scope
from trubrics_instrument._context.chat_uis import session
from trubrics_instrument._context.identity import (
    OWN_KEYS,
    THREAD_KEYS,
    USER_KEYS,
    Claim,
    Identity,
    Source,
    claimed_by_own_keys,
    current,
)
from trubrics_instrument._events import own_properties
from trubrics_instrument._observing.which_turn import thread_of_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument._config import Destination
    from trubrics_instrument._context.scope import Said
    from trubrics_instrument._observing.reader import AnswerReader, Asked

# What somebody asks with is no property.
_ASKED_WITH = OWN_KEYS | {*USER_KEYS, *THREAD_KEYS}


class Observer(NamedTuple):
    """What the patch or the handler was told, for every call that it sees."""

    user_id: Source = None
    thread_id: Source = None
    assistant_id: str | None = None
    properties: Mapping[str, object] | None = None
    target: Destination | None = None

    def now(self) -> Observer:
        """Return it with what its callables say now: later, they may not know."""
        if not (callable(self.user_id) or callable(self.thread_id)):
            return self
        return self._replace(user_id=current(self.user_id), thread_id=current(self.thread_id))


def observer_of(
    user_id: Source,
    thread_id: Source,
    assistant_id: str | None,
    properties: Mapping[str, object] | None,
    *,
    api_key: str | None,
    host: str | None,
) -> Observer:
    """Return what an observer was told, with the sender ready for the first question.

    Raises:
        ValueError: Impossible properties, an impossible `api_key` or `host`, an async callable.
    """
    check_source("user_id", user_id)
    check_source("thread_id", thread_id)
    check_properties(properties)
    target = _runtime.destination(api_key=api_key, host=host)
    _runtime.build_sender(target)
    return Observer(user_id, thread_id, assistant_id, dict(properties or {}), target)


class Start(NamedTuple):
    """The moment at which something began, and what the app had said by then.

    `prompt_id` names the turn that begins, if it has a name already.
    """

    time_s: float
    clock_s: float
    said: Said
    prompt_id: str | None = None


def start_now(prompt_id: str | None = None) -> Start:
    """Return this moment."""
    return Start(time.time(), time.perf_counter(), scope.said(), prompt_id)


def who_asks(asked: Asked, observer: Observer, said: Said) -> Claim:
    """Return who asks, and where, by the first source that says so."""
    own, carried = claimed_by_own_keys(asked.metadata), asked.claim
    user_id = own.user_id or said.user_id or current(observer.user_id) or carried.user_id
    thread_id = own.thread_id or said.thread_id or current(observer.thread_id) or carried.thread_id
    thread_id = thread_id or thread_of_answer(asked.previous_id)
    if not (user_id and thread_id):
        around = session()
        user_id = user_id or around.user_id or _runtime.config().user_id
        thread_id = thread_id or around.thread_id
    return Claim(user_id, thread_id)


def common(
    reader: AnswerReader, asked: Asked, observer: Observer, said: Said, who: Identity
) -> dict[str, object]:
    """Return the properties of every event of a call."""
    metadata = {key: value for key, value in asked.metadata.items() if key not in _ASKED_WITH}
    return {
        **own_properties(metadata, observer.properties, said.properties),
        "framework": reader.framework,
        "provider": asked.provider,
        "operation": asked.operation,
        "model": asked.model,
        "stream": asked.stream or None,
        **who.marks(),
    }
