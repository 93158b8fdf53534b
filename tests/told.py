"""What a sink was told, with the values that no test can know replaced by their meaning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sink import Sink

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_EVENT_ID = re.compile(r"[0-9a-f]{12}-\d+")
_IDS = {"$prompt_id": "prompt", "$thread_id": "thread"}
_SECONDS = ("latency", "time_to_first_token")


def told(sink: Sink, n: int) -> list[dict[str, Any]]:
    """Return the first `n` events, plain enough to be compared as whole values.

    `event`, `user_id` and the properties stand side by side. Ids are numbered in the order in
    which they appear ("prompt 1", "thread 1", "anon 1"). Times, seconds, sources and event ids
    are checked for their form, and left out.
    """
    names: dict[str, str] = {}
    return [_plain(event, names) for event in sink.wait_for(n)]


def _plain(event: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    assert set(event) == {"user_id", "event", "timestamp", "properties"}
    assert _TIME.fullmatch(event["timestamp"])
    properties = dict(event["properties"])
    assert _EVENT_ID.fullmatch(properties.pop("event_id"))
    assert properties.pop("source").startswith("trubrics-instrument/")
    for name in _SECONDS:
        assert 0 <= properties.pop(name, 0.0) < 60
    for name, kind in _IDS.items():
        if name in properties:
            properties[name] = _numbered(properties[name], kind, names)
    user = event["user_id"]
    if user.startswith("anon-"):
        user = _numbered(user, "anon", names)
    return {"event": event["event"], "user_id": user, **properties}


def _numbered(value: str, kind: str, names: dict[str, str]) -> str:
    if value not in names:
        count = sum(name.startswith(f"{kind} ") for name in names.values())
        names[value] = f"{kind} {count + 1}"
    return names[value]
