"""What the app answered, read out of a root run's output."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument._base.shield import shield
from trubrics_instrument.langchain.messages import (
    answered,
    by_key,
    each,
    field,
    fields_in,
    first_text,
    messages_in,
    own_text,
    role,
    said,
    tool_uses,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trubrics_instrument._observing.reader import ToolUse
    from trubrics_instrument.langchain.settings import Key

_ANSWER_KEYS = (
    *("output", "answer", "result", "response", "text", "content"),
    *("reply", "generation", "completion", "final_answer", "messages"),
)
NAMED_ANSWERS = frozenset({*_ANSWER_KEYS, "structured_response"})
_SPOKEN_LAST = 50


class Reply(NamedTuple):
    """What the app answered; `message_id` is the id of the message, where it sees one."""

    text: str | None = None
    message_id: str | None = None
    tool_uses: tuple[ToolUse, ...] = ()


def _never(_: str) -> None:
    """Return when a text was told that was not."""


class Names(NamedTuple):
    """What is known of the names in a graph's state.

    Attributes:
        written: Those that a node has surely written in this run.
        left: Those that none has written in this turn.
        asks_on: Whether the user has answered a graph that stood still: what it had written before
            that is in `left`, but may be of this turn if nobody was told it.
    """

    written: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    asks_on: bool = False


class Known(NamedTuple):
    """What is known of a turn where its answer is looked for.

    Attributes:
        asked: What the user said.
        said: What its models have said, the latest first.
        wordless: Whether the last one has said nothing: it called tools, or gave a structure.
        in_graph: Whether it is a graph's, whose output is its state.
        told_at: When something was told as the answer to an earlier question; greater is later.
        names: Which names in its output are its own, and which of earlier ones.
    """

    asked: str | None = None
    said: Sequence[str] = ()
    wordless: bool = False
    in_graph: bool = False
    told_at: Callable[[str], int | None] = _never
    names: Names = Names()


def reply_of(output: Any, turn: Known, key: Key = None) -> Reply | None:
    """Return what the app answered, out of a root run's output; None if it does not tell."""
    if output is None:
        return None
    with shield("reading the output of a run"):
        if key is None:
            return _likeliest(_of_this_turn(output, turn), turn)
        found = by_key(output, key)
        return _reply(found) or Reply(as_text(found))
    return None


def new_reply_in(given: Mapping[str, Any], turn: Known) -> Reply | None:
    """Return the words in what a step returns that are an answer to this question."""
    new = (one for one in _replies_in(given) if one.text and _is_new(one, turn))
    return next((one._replace(tool_uses=()) for one in new), None)


def _of_this_turn(output: Any, turn: Known) -> Any:
    """Return an output without the answers that are left over from earlier turns."""
    if not turn.names.left:
        return output
    fields = fields_in(output)
    return {name: fields[name] for name in fields if not _is_left(name, fields[name], turn)}


def _is_left(name: str, value: Any, turn: Known) -> bool:
    if name not in turn.names.left or not turn.names.asks_on:
        return name in turn.names.left
    reply = _reply(value)
    return reply is not None and not _is_new(reply, turn)


def _likeliest(output: Any, turn: Known) -> Reply | None:
    """Return the answer to this question, and not what else there is.

    A state keeps what nobody has written anew: the question, and answers to earlier ones. Where
    nothing has a name that we know, a model's words may be in it under any other.
    """
    first = _reply(output)
    if first is not None and _is_new(first, turn):
        return first
    if _structured_in(fields_in(output)) is not None:  # an agent writes it anew each time
        return first
    found = [one for one in (first, *_replies_in(output)) if one and not _is_echo(one, turn)]
    written = _written_in(output, turn)
    new = next((one for one in found if _is_new(one, turn) or one in written), None)
    if new is not None:
        return new
    if found:  # the same as before: behind the question in the messages, or else told last
        behind = _reply(fields_in(output).get("messages"))
        return behind or max(found, key=lambda one: turn.told_at(one.text or "") or 0)
    return _nameless(output, turn)


def _nameless(output: Any, turn: Known) -> Reply | None:
    """Return what a model has said, under whatever name; of one without words, what it has made."""
    spoken = _spoken_in(output) if turn.said else ()
    said = next((text for text in turn.said if text in spoken), None)
    if said is None and turn.wordless:
        return _structure(output, turn)
    return None if said is None else Reply(said)


def _is_new(reply: Reply, turn: Known) -> bool:
    """Whether a reply is to this question: it was said in this turn, or never told before."""
    if reply.text is None or reply.text in turn.said:
        return True
    return reply.text != turn.asked and turn.told_at(reply.text) is None


def _written_in(output: Any, turn: Known) -> list[Reply]:
    """Return the answers that a node has written, be it in the words of an earlier one."""
    fields = fields_in(output)
    return _replies_in({name: fields[name] for name in fields if name in turn.names.written})


def _is_echo(reply: Reply, turn: Known) -> bool:
    return reply.text == turn.asked and reply.text not in (None, *turn.said)


def _spoken_in(output: Any) -> set[str | None]:
    """Return every text of an output, and of the messages in it: a worker's may be a human's."""
    values = [output, *fields_in(output).values()]
    messages = [one for value in values for one in messages_in(value)[-_SPOKEN_LAST:]]
    return {*map(own_text, values), *map(said, messages)}


def _structure(output: Any, turn: Known) -> Reply:
    """Return an answer that is no words as JSON; a state, which holds anything, is no answer."""
    values = [own_text(value) for value in fields_in(output).values()]
    is_state = isinstance(output, dict) and (turn.in_graph or turn.asked in values)
    return Reply(next(iter(turn.said), None) if is_state else as_text(output))


def _replies_in(given: Any) -> list[Reply]:
    """Return all that may be the answer in a root run's output, likeliest first."""
    fields = fields_in(given)
    found = (_reply(fields[name]) for name in _ANSWER_KEYS if fields.get(name) is not None)
    return [one for one in found if one is not None]


def as_text(value: Any) -> str | None:
    """Return a structured value as JSON; None if it cannot be told like that."""
    if isinstance(value, str):
        return str.__str__(value) or None
    try:  # the app's objects may hold anything
        if callable(dump := getattr(value, "model_dump", None)):
            value = dump(mode="json")
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        return None if value is None else json.dumps(value, ensure_ascii=False, default=str)
    except Exception:
        return None


def _reply(given: Any) -> Reply | None:
    text = own_text(given)
    if text is not None:
        return Reply(text or None)
    messages = messages_in(given)
    if messages:
        return _last_reply(messages)
    if role(given) is not None:
        return _reply_in(given)
    fields = fields_in(given)
    reply = next(iter(_replies_in(given)), None)
    if reply is None and "parsing_error" in fields:
        reply = _raw_reply(fields.get("raw"))
    structured = _structured_in(fields)
    if structured is None:
        return reply
    return Reply(as_text(structured), reply.message_id if reply else None)


def _structured_in(fields: Mapping[str, Any]) -> Any:
    """Return what an agent, and `with_structured_output(include_raw=True)`, make of an answer."""
    structured = fields.get("structured_response")
    if structured is None and "parsing_error" in fields:
        return fields.get("parsed")
    return structured


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
        if speaker in {"human", "notice"}:
            return None
        if speaker == "ai":
            return _reply_in(message)
    return None


def _reply_in(message: Any) -> Reply:
    return Reply(answered(message), first_text([field(message, "id")]), tool_uses(message))
