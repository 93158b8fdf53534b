"""Two events as an observed question and its answer make them, ready to be sent: a floor."""

from __future__ import annotations

import time

from trubrics_instrument import _events, _runtime
from trubrics_instrument._events import Event

_COMMON: dict[str, object] = {
    "framework": "openai",
    "provider": "127.0.0.1",
    "operation": "chat",
    "model": "m",
    "thread_inferred": True,
}
_OF_ANSWER: dict[str, object] = {
    **_COMMON,
    "latency": 0.0012,
    "status": "ok",
    "response_model": "m",
    "finish_reason": "stop",
    "model_calls": 1,
    "input_tokens": 9,
    "output_tokens": 5,
    "total_tokens": 14,
}


def tell_two() -> None:
    """Hand a prompt and its answer to the sender."""
    now_s = time.time()
    asked = Event(_events.PROMPT, "ada", now_s, "On time?", "t-1", None, "p-1", None, _COMMON)
    told = Event(
        _events.GENERATION, "ada", now_s, "It is on time.", "t-1", "m", "p-1", "g-1", _OF_ANSWER
    )
    _runtime.emit(asked)
    _runtime.emit(told)
