"""What the user typed, read out of a root run's input or out of a model's messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument._base.shield import shield
from trubrics_instrument._conversations.trail import (
    MOST_BEHIND,
    MOST_SPOKEN,
    NO_HISTORY,
    History,
    called,
    history_of,
)
from trubrics_instrument._observing.reader import TurnKey
from trubrics_instrument.langchain.messages import (
    answered,
    attachments,
    by_key,
    each,
    field,
    fields_in,
    first_text,
    mapping,
    messages_in,
    own_text,
    role,
    said,
    shown,
    tool_uses,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from trubrics_instrument._conversations.trail import Spoken
    from trubrics_instrument.langchain.messages import Role
    from trubrics_instrument.langchain.settings import Key

_SPEAKERS = frozenset({"human", "ai"})
_OPENERS = frozenset({"human", "notice"})
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
# What a reviewer decides of a tool's call: why is for the model.
_REJECTS = "reject"
_INTERRUPT_ID = re.compile("[0-9a-f]{32}")


class Question(NamedTuple):
    """What the user said.

    Attributes:
        text: The text.
        attachments: What else there was, such as "image:1".
        shown: What tells that from others.
        continues: Whether only tool calls, their results and notices have come since.
        is_last: Whether nothing has been said since.
        follows: Whether it was said right after an answer.
        message_id: Its id, as each message has one that the state of a graph keeps, and none
            that a node makes up for its model.
        tool_ids: The ids of those results, the latest first.
        history: What was said before it.
        instructions: What the model is told to be.
    """

    text: str | None = None
    attachments: str | None = None
    shown: tuple[Hashable, ...] = ()
    continues: bool = False
    is_last: bool = False
    follows: bool = False
    message_id: str | None = None
    tool_ids: tuple[str, ...] = ()
    history: History = NO_HISTORY
    instructions: str | None = None

    def turn_keys(self) -> tuple[TurnKey, ...]:
        """Return the names under which the turn may be known that this question goes on with."""
        return tuple([TurnKey(tool_id, self.text) for tool_id in self.tool_ids])


def question_of(given: Any, key: Key = None) -> Question | None:
    """Return what the user typed, out of a root run's input; None if it does not tell."""
    with shield("reading the input of a run"):
        return _question(given if key is None else by_key(given, key))
    return None


def goes_on(given: Any) -> bool:
    """Whether a root run asks nothing itself: it goes on after a stop, or is given a notice."""
    return given is None or is_command(given) or _is_notice(given)


def last_question(messages: Sequence[Any]) -> Question:
    """Return what the user said last in the messages for a model; without a user, the last one."""
    results: list[str] = []
    since: list[Role | None] = []
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        speaker = role(message)
        if speaker == "tool":
            results += [first_text([field(message, "tool_call_id"), field(message, "name")]) or ""]
        if speaker == "human":
            return Question(
                said(message),
                attachments(message),
                shown(message),
                continues=bool(results) or _is_told_more(since),
                is_last=index == len(messages) - 1,
                follows=index > 0 and role(messages[index - 1]) == "ai",
                message_id=first_text([field(message, "id")]),
                tool_ids=tuple(results),
                history=_history(messages, index),
                instructions=said(messages[0]) if role(messages[0]) == "other" else None,
            )
        since.append(speaker)
    if results or "notice" in since:  # the rest is at the provider's, or in a graph's state
        return Question(continues=True, tool_ids=tuple(results))
    return Question(said(messages[-1]) if messages else None)


def _is_told_more(since: Sequence[Role | None]) -> bool:
    """Whether an answer was followed by a notice; those who have spoken since, the latest first."""
    return "notice" in since and "ai" in since[since.index("notice") :]


def _question(given: Any, *, guess: bool = True) -> Question | None:
    """Return a question; to guess is to take the only text of what has no name that we know."""
    text = own_text(given)
    if text is not None:
        return Question(text) if text else None
    messages = messages_in(given)
    if messages:
        last = last_question(messages)
        return last if last.text or last.attachments else None
    if is_command(given):
        return _words(given.resume) or _question(given.update)
    if role(given) == "human":
        return Question(said(given), attachments(given), shown(given))
    fields = fields_in(given)
    named = [value for name in _QUESTION_KEYS if (value := fields.get(name)) is not None]
    found = _first_question(named, guess=False)
    if found is None and guess:
        texts = [text for value in fields.values() if (text := own_text(value))]
        found = Question(texts[0]) if len(texts) == 1 else _first_question(named, guess=True)
    if found is None or found.history is not NO_HISTORY:
        return found
    return found._replace(history=_history_beside(fields, found.text))


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
    if fields.get("type") == _REJECTS and fields.keys() <= {"type", "message"}:
        return None
    decides = len(fields) > 1 or not _DECISIONS.isdisjoint(fields)
    return _question(resume, guess=not decides)


def resumes(given: Any) -> bool:
    """Whether a graph goes on with what a human, or the app itself, has decided."""
    return is_command(given) and given.resume is not None


def is_command(given: Any) -> bool:
    """Whether it is LangGraph's `Command`, told by its name: langgraph is never imported here."""
    return type(given).__name__ == "Command" and hasattr(given, "resume")


def _is_notice(given: Any) -> bool:
    """Whether the last message of an input was typed by nobody."""
    messages = messages_in(given) or messages_in(fields_in(given).get("messages"))
    return bool(messages) and role(messages[-1]) == "notice"


def _history_beside(fields: Mapping[str, Any], asked: str | None) -> History:
    """Return what an input says of the conversation beside the question, in messages or pairs."""
    for name, value in fields.items():
        messages = messages_in(value)
        if messages:
            return _before(messages, asked)
        if "history" in str(name) and value is not None:  # else pairs may be anything
            exchanges = [each(one) for one in each(value) if _is_exchange(one)]
            speakers = ("human", "ai")
            told = [pair for one in exchanges for pair in zip(speakers, one, strict=True)]
            if told or not value:
                return _before(told, asked)
    return NO_HISTORY


def _is_exchange(value: Any) -> bool:
    """Whether it is a question with its answer: two texts, of which none names who speaks."""
    texts = [one for one in each(value) if own_text(one) is not None]
    return len(texts) == len(("human", "ai")) == len(each(value)) and role(value) is None


def _before(messages: Sequence[Any], asked: str | None) -> History:
    """Return a history that ends before the question, which an app may have put there already."""
    if messages and role(messages[-1]) == "human" and said(messages[-1]) == asked:
        return _history(messages, len(messages) - 1)
    return _history([*messages, ("human", asked or "")], len(messages))


def _history(messages: Sequence[Any], asked_at: int) -> History:
    """Return what comes before the question; tools are no part of it, apps leave them out."""
    if asked_at == 0:
        return History(said(messages[0]), begins=True)
    first = next((one for one in messages[:MOST_SPOKEN] if role(one) in _OPENERS), None)
    behind = reversed(messages[max(0, asked_at - MOST_BEHIND) : asked_at])
    spoken = (_spoken(one) for one in behind if role(one) in _SPEAKERS)
    return history_of(said(first), begins=first is messages[asked_at], spoken=spoken)


def _spoken(message: Any) -> Spoken:
    if role(message) != "ai":
        return False, said(message), None
    uses = tool_uses(message)
    words = called(uses[-1].id) if uses else answered(message)
    return True, words, first_text([field(message, "id")])
