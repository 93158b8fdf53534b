"""What to do with an answer, and when to try again: a decision table, pure."""

from __future__ import annotations

import email.utils
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from trubrics_instrument._base.hosts import is_page

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
MAX_RETRY_AFTER_S = 15 * 60.0
PROBE_DELAY_S = 60.0
MAX_PROBE_DELAY_S = 15 * 60.0

SUCCESS = 2
SERVER_ERROR = 5

BATCH_ENDPOINT = "publish_events"
SINGLE_ENDPOINT = "publish_event"


class Action(Enum):
    """What the sender does next with the events of a request."""

    DONE = "delivered"
    RETRY = "try again after a while"
    PROBE = "the set-up is wrong: keep the events, look again now and then"
    SINGLES = "the host has no batch endpoint: send one event a request"
    HALVE = "too large"
    ISOLATE = "some event is not acceptable"


@dataclass(frozen=True)
class Answer:
    """What came back for a request.

    Attributes:
        status: The HTTP status, or None when no answer came.
        error: The class of the failure when no answer came; what was wrong with one that did.
        retry_after: The header, as sent.
        content_type: The header, as sent.
        body: The first kilobytes of the answer, read for `detail`, and to tell a page.
        maybe_taken: Whether the host may have taken the events though no answer came.
    """

    status: int | None
    error: str = ""
    retry_after: str | None = None
    content_type: str = ""
    body: bytes = b""
    maybe_taken: bool = False

    @property
    def is_page(self) -> bool:
        """Whether something in between answered for the API, such as a network's login page."""
        return is_page(self.content_type, self.body)

    def __str__(self) -> str:
        if self.status is None:
            return self.error
        if self.status // 100 == SUCCESS and self.is_page:
            return f"HTTP {self.status} with a web page"
        return f"HTTP {self.status}, {self.error}" if self.error else f"HTTP {self.status}"


_BY_STATUS = {
    408: Action.RETRY,
    413: Action.HALVE,
    400: Action.ISOLATE,
    422: Action.ISOLATE,
    425: Action.RETRY,
    429: Action.RETRY,
}


def decide(answer: Answer, endpoint: str) -> Action:
    """Return what the answer of `endpoint` calls for."""
    status = answer.status
    family = None if status is None else status // 100
    if status is None or family == SERVER_ERROR:
        return Action.RETRY
    if family == SUCCESS:
        return Action.RETRY if answer.is_page else Action.DONE
    if status in (404, 405) and endpoint == BATCH_ENDPOINT:
        return Action.SINGLES
    return _BY_STATUS.get(status, Action.PROBE)


def delay_s(action: Action, answer: Answer, failures: int, chance: float, now_s: float) -> float:
    """Return how long no request may be made.

    Args:
        action: `RETRY` or `PROBE`.
        answer: What came back; its Retry-After may make the wait longer, never shorter.
        failures: Failed requests in a row, this one included.
        chance: A random number from 0 to 1.
        now_s: Seconds since the epoch, for a Retry-After that is a date.
    """
    asked = asked_s(answer, chance, now_s)
    doubled = 2.0 ** min(failures - 1, 16)
    if action is Action.PROBE:
        return max(asked, min(PROBE_DELAY_S * doubled, MAX_PROBE_DELAY_S))
    # Full jitter, but never no wait at all: a host in trouble is not to be hammered.
    return max(asked, 0.05, chance * min(FIRST_DELAY_S * doubled, MAX_DELAY_S))


def asked_s(answer: Answer, chance: float, now_s: float) -> float:
    """Return for how long the host asks for no request: to the second, then jittered."""
    asked = retry_after_s(answer.retry_after, now_s)
    if not asked:
        return 0.0
    wait = min(asked, MAX_RETRY_AFTER_S)
    return wait + chance * max(0.1 * wait, 0.1)


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """Return the seconds that a Retry-After header asks for; None when it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - now_s)
    except (TypeError, ValueError, OverflowError):
        return None


def named_events(body: bytes, count: int) -> list[int]:
    """Return which events of a batch a 400 or 422 complains of, by `detail[].loc`.

    Shape: `{"detail": [{"loc": ["body", 37, "user_id"], "msg": "…"}]}`.
    Source: FastAPI's validation errors, 0.70 to 0.120.
    """
    try:
        said: Any = json.loads(body)
        details: list[Any] = said["detail"]
        named = {index for detail in details if (index := _index(detail["loc"])) is not None}
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return sorted(index for index in named if index < count)


def _index(loc: object) -> int | None:
    if not isinstance(loc, list):
        return None
    parts = cast("list[object]", loc)
    index = parts[1] if len(parts) > 1 else None
    return index if type(index) is int and index >= 0 else None
