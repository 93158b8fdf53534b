"""What a request resends of its conversation, in messages or in items: both have roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument._conversations import trail
from trubrics_instrument._conversations.trail import MOST_BEHIND, MOST_SPOKEN, called, shortened
from trubrics_instrument._observing.reader import TurnKey
from trubrics_instrument.providers.openai._fields import content_text, each, get, get_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument._conversations.trail import History, Spoken
    from trubrics_instrument._observing.reader import Answer

# The type of the item that stands for a context which the provider has made shorter.
SHORTENED = "compaction"
INSTRUCT = frozenset({"system", "developer"})
_SPEAKERS = frozenset({"user", "assistant"})


def history_of(messages: list[Any], asked_at: int | None) -> History:
    """Return what comes before the question: its last messages, and how it began.

    Instructions and the results of tools are no part of it: apps leave them out, or change them,
    when they resend a conversation. Nor are tool calls that words follow.
    """
    opens_at = _first_question(messages)
    opening = None if opens_at is None else content_text(get(messages[opens_at], "content"))
    behind = messages[max(0, (asked_at or 0) - MOST_BEHIND) : asked_at or 0]
    return trail.history_of(opening, begins=opens_at == asked_at, spoken=_spoken(behind))


def instructions(messages: list[Any]) -> str | None:
    """Return what the assistant is told to be, where that stands before the conversation."""
    first = messages[0] if messages else None
    return content_text(get(first, "content")) if get_text(first, "role") in INSTRUCT else None


def begun_answer(messages: list[Any], text: str | None) -> tuple[TurnKey, ...]:
    """Return the name of the turn of an answer that the model is to go on with, at the end."""
    last = messages[-1] if messages else None
    begun = content_text(get(last, "content")) if get_text(last, "role") == "assistant" else None
    return (_name_of(begun, text),) if begun else ()


def cut_answers(answer: Answer, text: str | None) -> tuple[TurnKey, ...]:
    """Return the names by which a request will ask that goes on with an answer, if it is cut."""
    cut = (choice.text for choice in answer.choices if not choice.complete)
    return tuple([_name_of(begun, text) for begun in cut if begun])


def _name_of(begun: str, text: str | None) -> TurnKey:
    return TurnKey(("begun", begun.strip()), text)


def _spoken(messages: list[Any]) -> Iterator[Spoken]:
    """Yield what was said, the latest first: a message that calls tools may be all of an answer."""
    for message in reversed(messages):
        speaker = get_text(message, "role")
        calls = each(get(message, "tool_calls"))
        if calls:
            yield True, called(get_text(calls[-1], "id")), None
        elif speaker in _SPEAKERS:
            yield speaker == "assistant", said_in(message), get_text(message, "id")
        elif speaker is None and _is_call(message):
            yield True, called(get_text(message, "call_id")), None
        elif get(message, "type") == SHORTENED:
            yield True, shortened(get_text(message, "id")), None


def _is_call(item: Any) -> bool:
    """Whether an item of Responses calls a tool that the app runs."""
    kind = get_text(item, "type") or ""
    return kind.endswith("_call") and get_text(item, "call_id") is not None


def said_in(message: Any) -> str | None:
    """Return what stands for a message: its text, a refusal, or the id of a sound."""
    content = get(message, "content")
    text = content_text(content) or get_text(message, "refusal")
    refused = (get_text(part, "refusal") for part in each(content) if not text)
    return text or next(filter(None, refused), None) or get_text(get(message, "audio"), "id")


def _first_question(messages: list[Any]) -> int | None:
    """Return where the user speaks first, if that is near the beginning."""
    for position, message in enumerate(messages[:MOST_SPOKEN]):
        if get(message, "role") == "user":
            return position
    return None
