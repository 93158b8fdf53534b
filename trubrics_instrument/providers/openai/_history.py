"""What a request resends of its conversation, in messages or in items: both have roles."""

from __future__ import annotations

from typing import Any

from trubrics_instrument._trail import TAIL_MESSAGES, History
from trubrics_instrument.providers.openai._fields import content_text, each, get

# However long a history is, no more of it is looked at than this, from either end.
_MOST_MESSAGES = 24
# Nor more than this, with the tools of a long turn.
_MOST_BEHIND = 500
_SPEAKERS = frozenset({"user", "assistant"})


def history_of(messages: list[Any], question: Any) -> History:
    """Return what comes before the question: its last messages, and how it began.

    Instructions, tool calls and their results are no part of it: apps leave them out, or change
    them, when they resend a conversation.
    """
    opening = next((one for one in messages[:_MOST_MESSAGES] if _speaker(one) == "user"), None)
    asked_at = position_of(messages, question)
    tail: list[str] = []
    spoken = 0
    for position in range(asked_at - 1, max(-1, asked_at - 1 - _MOST_BEHIND), -1):
        message = messages[position]
        speaker = _speaker(message)
        if speaker not in _SPEAKERS or each(get(message, "tool_calls")):
            continue
        spoken += 1
        if spoken > _MOST_MESSAGES:
            break
        text = content_text(get(message, "content"))
        if text and (tail or speaker == "assistant"):
            tail.append(text)
            if len(tail) == TAIL_MESSAGES:
                break
    return History(
        opening=content_text(get(opening, "content")),
        begins=opening is question,
        tail=tuple(reversed(tail)),
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
