"""What a request resends of its conversation, in messages or in items: both have roles."""

from __future__ import annotations

from typing import Any

from trubrics_instrument._trail import MOST_BEHIND, MOST_SPOKEN, History, tail_of
from trubrics_instrument.providers.openai._fields import content_text, each, get

_SPEAKERS = frozenset({"user", "assistant"})


def history_of(messages: list[Any], question: Any) -> History:
    """Return what comes before the question: its last messages, and how it began.

    Instructions, tool calls and their results are no part of it: apps leave them out, or change
    them, when they resend a conversation.
    """
    opening = next((one for one in messages[:MOST_SPOKEN] if _speaker(one) == "user"), None)
    asked_at = position_of(messages, question)
    behind = (messages[at] for at in range(asked_at - 1, max(-1, asked_at - 1 - MOST_BEHIND), -1))
    return History(
        opening=content_text(get(opening, "content")),
        begins=opening is question,
        tail=tail_of(
            (_speaker(one) == "assistant", content_text(get(one, "content")))
            for one in behind
            if _speaker(one) in _SPEAKERS and not each(get(one, "tool_calls"))
        ),
    )


def position_of(messages: list[Any], question: Any) -> int:
    """Return where the question stands: near the end, with the tools of its turn behind it."""
    for position in range(len(messages) - 1, -1, -1):
        if messages[position] is question:
            return position
    return 0


def _speaker(message: Any) -> object:
    speaker = get(message, "role")
    return speaker if isinstance(speaker, str) else None
