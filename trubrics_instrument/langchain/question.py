"""What the user typed and what the app answered, read out of a root run's input and output."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from trubrics_instrument._reader import TurnKey
from trubrics_instrument._shield import shield
from trubrics_instrument._trail import MOST_BEHIND, MOST_SPOKEN, NO_HISTORY, History, tail_of
from trubrics_instrument.langchain.messages import (
    answered,
    attachments,
    each,
    field,
    first_text,
    mapping,
    role,
    said,
    tool_uses,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from trubrics_instrument._reader import ToolUse
    from trubrics_instrument.langchain.settings import Key

_SPEAKERS = frozenset({"human", "ai"})
_QUESTION_KEYS = (
    "input",
    "question",
    "query",
    "prompt",
    "user_input",
    "human_input",
    "message",
    "text",
    "messages",
)
# What names a decision where a graph goes on, and no words of the user's.
_DECISIONS = frozenset({"type", "action", "decision", "choice", "status", "id"})
_INTERRUPT_ID = re.compile("[0-9a-f]{32}")
_ANSWER_KEYS = ("output", "answer", "result", "response", "text", "content", "messages")


class Question(NamedTuple):
    """What the user said.

    Attributes:
        text: The text.
        attachments: What else there was, such as "image:1".
        continues: Whether only tool calls and their results have come since.
        tool_ids: The ids of those results, the latest first.
        history: What was said before it.
    """

    text: str | None = None
    attachments: str | None = None
    continues: bool = False
    tool_ids: tuple[str, ...] = ()
    history: History = NO_HISTORY

    def turn_keys(self) -> tuple[TurnKey, ...]:
        """Return the names under which the turn may be known that this question goes on with."""
        return tuple([TurnKey(tool_id, self.text) for tool_id in self.tool_ids])


class Reply(NamedTuple):
    """What the app answered; `message_id` is the id of the message, where it sees one."""

    text: str | None = None
    message_id: str | None = None
    tool_uses: tuple[ToolUse, ...] = ()


def question_of(given: Any, key: Key = None) -> Question | None:
    """Return what the user typed, out of a root run's input; None if it does not tell."""
    with shield("reading the input of a run"):
        return _question(given if key is None else _by_key(given, key))
    return None


def goes_on(given: Any) -> bool:
    """Whether a root run goes on with a graph that was interrupted, and asks nothing itself."""
    return given is None or _is_command(given)


def last_question(messages: Sequence[Any]) -> Question:
    """Return what the user said last in the messages for a model; without a user, the last one."""
    results: list[str] = []
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        speaker = role(message)
        if speaker == "tool":
            results += [first_text([field(message, "tool_call_id"), field(message, "name")]) or ""]
        if speaker == "human":
            return Question(
                said(message),
                attachments(message),
                continues=bool(results),
                tool_ids=tuple(results),
                history=_history(messages, index),
            )
    if results:  # the rest is at the provider's, or in a graph's state
        return Question(continues=True, tool_ids=tuple(results))
    return Question(said(messages[-1]) if messages else None)


def reply_of(given: Any, key: Key = None) -> Reply | None:
    """Return what the app answered, out of a root run's output; None if it does not tell."""
    with shield("reading the output of a run"):
        if key is None:
            return _reply(given)
        found = _by_key(given, key)
        return _reply(found) or Reply(as_text(found))
    return None


def replies_in(given: Any) -> list[Reply]:
    """Return all that may be the answer in a root run's output, likeliest first."""
    fields = _fields(given)
    found = (_reply(fields[name]) for name in _ANSWER_KEYS if fields.get(name) is not None)
    return [one for one in found if one is not None]


def as_text(value: Any) -> str | None:
    """Return a structured value as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return str.__str__(value) or None
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        value = dump(mode="json")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _by_key(given: Any, key: str | Callable[[Any], object]) -> Any:
    return key(given) if callable(key) else field(given, key)


def _question(given: Any, *, guess: bool = True) -> Question | None:
    """Return a question; to guess is to take the only text of what has no name that we know."""
    text = _own_text(given)
    if text is not None:
        return Question(text) if text else None
    messages = _messages(given)
    if messages:
        last = last_question(messages)
        return last if last.text or last.attachments else None
    if _is_command(given):
        return _words(given.resume) or _question(given.update)
    if role(given) == "human":
        return Question(said(given), attachments(given))
    fields = _fields(given)
    named = [value for name in _QUESTION_KEYS if (value := fields.get(name)) is not None]
    found = _first_question(named, guess=False)
    if found is not None or not guess:
        return found
    texts = [text for value in fields.values() if (text := _own_text(value))]
    return Question(texts[0]) if len(texts) == 1 else _first_question(named, guess=True)


def _first_question(values: Iterable[Any], *, guess: bool) -> Question | None:
    found = (_question(value, guess=guess) for value in values)
    return next((one for one in found if one is not None), None)


def _words(resume: Any) -> Question | None:
    """Return what the user says to a graph that goes on: words, and no decision such as "accept".

    Where several ask at once, LangGraph names each by a hash. Source: langgraph 0.6 to 1.2.
    """
    fields = mapping(resume)
    if fields and all(_INTERRUPT_ID.fullmatch(str(name)) for name in fields):
        words = (_words(value) for value in fields.values())
        texts = [one.text for one in words if one and one.text]
        return Question("\n".join(texts)) if texts else None
    decides = len(fields) > 1 or not _DECISIONS.isdisjoint(fields)
    return _question(resume, guess=not decides)


def _reply(given: Any) -> Reply | None:
    text = _own_text(given)
    if text is not None:
        return Reply(text or None)
    messages = _messages(given)
    if messages:
        return _last_reply(messages)
    if role(given) is not None:
        return _reply_in(given)
    fields = _fields(given)
    reply = next(iter(replies_in(given)), None)
    if reply is None and "parsing_error" in fields:
        reply = _raw_reply(fields.get("raw"))
    # What `create_agent` and `with_structured_output(include_raw=True)` make of an answer.
    structured = fields.get("structured_response")
    if structured is None and "parsing_error" in fields:
        structured = fields.get("parsed")
    if structured is None:
        return reply
    return Reply(as_text(structured), reply.message_id if reply else None)


def _raw_reply(raw: Any) -> Reply:
    """Return the answer of a model that was to give a structure, in words or as a tool's arguments.

    Nobody runs that tool, whatever became of its arguments.
    """
    reply = _reply_in(raw)
    calls = each(field(raw, "tool_calls")) or each(field(raw, "invalid_tool_calls"))
    arguments = (as_text(field(call, "args")) for call in calls)
    return Reply(reply.text or first_text(arguments), reply.message_id)


def _last_reply(messages: Sequence[Any]) -> Reply | None:
    """Return the last answer since the user spoke; a tool's, if it was returned directly."""
    last = messages[-1]
    if role(last) == "tool":
        return Reply(said(last), first_text([field(last, "id")]))
    for message in reversed(messages):
        speaker = role(message)
        if speaker == "human":
            return None
        if speaker == "ai":
            return _reply_in(message)
    return None


def _reply_in(message: Any) -> Reply:
    return Reply(answered(message), first_text([field(message, "id")]), tool_uses(message))


def resumes(given: Any) -> bool:
    """Whether a graph goes on with what a human, or the app itself, has decided."""
    return _is_command(given) and given.resume is not None


def _is_command(given: Any) -> bool:
    """Whether it is LangGraph's `Command`, told by its name: langgraph is never imported here."""
    return type(given).__name__ == "Command" and hasattr(given, "resume")


def _own_text(value: Any) -> str | None:
    """Return a str free of its subclass; a langchain-core 1.x one would warn when touched."""
    return str.__str__(value) if isinstance(value, str) else None


def _messages(given: Any) -> Sequence[Any]:
    """Return a list of messages, or a prompt value's; nothing if it is something else."""
    if hasattr(given, "to_messages") and hasattr(given, "to_string"):
        return each(given.to_messages())
    items = each(given)
    if role(given) is not None or not items or role(items[-1]) is None:
        return ()
    return items


def _fields(given: Any) -> Mapping[str, Any]:
    """Return the fields of a dict, a dataclass or a pydantic object."""
    if isinstance(given, dict):
        return cast("dict[str, Any]", given)
    if dataclasses.is_dataclass(given):  # LangGraph's own have slots, and no `__dict__`
        return {one.name: getattr(given, one.name, None) for one in dataclasses.fields(given)}
    if hasattr(given, "model_fields_set"):
        return cast("Mapping[str, Any]", vars(given))
    return {}


def _history(messages: Sequence[Any], asked_at: int) -> History:
    """Return what comes before the question; tools are no part of it, apps leave them out."""
    if asked_at == 0:
        return History(said(messages[0]), begins=True)
    first = next((one for one in messages[:MOST_SPOKEN] if role(one) == "human"), None)
    behind = reversed(messages[max(0, asked_at - MOST_BEHIND) : asked_at])
    return History(
        opening=said(first),
        begins=first is messages[asked_at],
        tail=tail_of(
            (role(one) == "ai", answered(one) if role(one) == "ai" else said(one))
            for one in behind
            if role(one) in _SPEAKERS and not tool_uses(one)
        ),
    )
