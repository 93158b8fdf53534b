"""The Responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument._conversations.trail import History, shortened
from trubrics_instrument._observing.reader import Answer, Asked, Choice, Status, ToolUse, TurnKey
from trubrics_instrument.providers.openai._fields import (
    attachments,
    claim,
    content_text,
    each,
    error_code,
    fields_of,
    get,
    get_text,
    mapping,
    shown,
    text_or_none,
    usage,
)
from trubrics_instrument.providers.openai._history import (
    SHORTENED,
    begun_answer,
    cut_answers,
    history_of,
    instructions,
    said_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument._context.identity import Claim
    from trubrics_instrument.providers.openai._fields import Fields

_SHORTEN = "compaction_trigger"
# What may stand behind the results of tools, and says nothing to the user: kinds, and roles.
_SAY_NOTHING = frozenset({_SHORTEN, SHORTENED, "configuration_update", "system", "developer"})
_COMMENTARY = "commentary"
_PENDING = frozenset({"queued", "in_progress"})
_STATUS: dict[str, Status] = {
    "completed": "ok",
    "incomplete": "incomplete",
    "cancelled": "incomplete",
    "failed": "error",
}
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_TEXT_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.audio.transcript.delta": "transcript",
}


class ResponsesReader:
    """Reads `POST /responses`. Source: openai 1.66 to 3.57, `types/responses`."""

    framework = "openai"

    def asked(self, request: Mapping[str, Any], *, stream: bool) -> Asked:
        """Return what the body of a request asks."""
        given = request.get("input")
        items = each(given)
        asked_at = _last_question(items)
        content = None if asked_at is None else get(items[asked_at], "content")
        text = text_or_none(given) or content_text(content)
        parts = each(content)
        end = get(items[-1], "type") if items else None
        aside = self._asks_nothing(request, end)
        asked_at = len(items) if aside else asked_at  # what is said so far, whoever said it last
        history = history_of(items, asked_at) if items else History(text, begins=True)
        results = _last_tool_results(items)
        previous = text_or_none(request.get("previous_response_id"))
        begun = () if previous else begun_answer(items, text)
        stands_for_it = [TurnKey(get_text(items[-1], "id"), text)] if end == SHORTENED else []
        return Asked(
            operation="responses",
            model=text_or_none(request.get("model")),
            text=text or (None if given else _variables(request.get("prompt"))),
            attachments=attachments(parts),
            stream=stream,
            continues=bool(results) or aside or bool(stands_for_it and not text),
            brings=bool(results),
            turn_keys=(*[TurnKey(_call_id(one), text) for one in results], *stands_for_it, *begun),
            question=shown(parts),
            claim=_claim(request),
            metadata=mapping(request.get("metadata")),
            previous_id=previous,
            chained=True,
            history=history,
            resumable=request.get("background") is True,
            aside=aside,
            instructions=text_or_none(request.get("instructions")) or instructions(items),
        )

    def _asks_nothing(self, request: Mapping[str, Any], end: Any) -> bool:
        """Whether a request, with this kind of item at its end, only gets something ready."""
        warms_up = get(request.get("prompt_cache_options"), "prewarm") is True
        return end == _SHORTEN or warms_up or request.get("generate") is False

    def answer(self, body: Any) -> Answer:
        """Return what a `Response` says."""
        said = fields_of(body).get
        status = text_or_none(said("status")) or "completed"
        output = said("output")
        reason = get_text(said("incomplete_details"), "reason")
        readable = isinstance(output, (list, tuple)) or status in _PENDING or status == "failed"
        return _begun(body)._replace(
            choices=(_choice(each(output), reason),),
            usage=usage(said("usage")),
            # As with chat completions: what is cut short for a reason has come all the same.
            status=("ok" if reason else _STATUS.get(status, "ok")) if readable else "unread",
            error_type=text_or_none(get(said("error"), "code")),
            pending=status in _PENDING,
        )

    def gathering(self) -> ResponsesGathering:
        """Return an empty gathering of `ResponseStreamEvent`s."""
        return ResponsesGathering(self)

    def turn_keys(self, asked: Asked, answer: Answer) -> tuple[TurnKey, ...]:
        """Return the ids of the tool calls, whose results may come with the question or without.

        And what was cut short, which comes with it, or the shortened context of the turn.
        """
        if asked.aside:
            names = {choice.resent_id for choice in answer.choices} - {None}
            return tuple([TurnKey(one, text) for one in names for text in {asked.text, None}])
        uses = [use for choice in answer.choices for use in choice.tool_uses if not use.hosted]
        results = [TurnKey(use.id, text) for use in uses for text in {asked.text, None}]
        return (*results, *cut_answers(answer, asked.text))


class CompactReader(ResponsesReader):
    """Reads `POST /responses/compact`, which shortens a context. Source: openai 3.57."""

    def _asks_nothing(self, request: Mapping[str, Any], end: Any) -> bool:  # noqa: ARG002 - the other's
        """Return True: nothing else is done there."""
        return True


class ResponsesGathering:
    """The events of one streamed response; the last one holds all, the others serve if it fails."""

    def __init__(self, reader: ResponsesReader) -> None:
        self._reader = reader
        self._begun = Answer()
        self._parts: dict[str, list[str]] = {}
        self._commentary: set[str | None] = set()
        self._tool_uses: list[ToolUse] = []
        self._end: Answer | None = None

    def speaks(self, piece: Any) -> bool:
        """Whether an event has something of the answer."""
        kind = get_text(piece, "type") or ""
        return kind.endswith(".delta") or kind in ENDS

    def add(self, piece: Any) -> bool:
        """Take one event, and return whether it is the last one."""
        kind = get_text(piece, "type")
        if kind in _TEXT_DELTAS:
            delta = text_or_none(get(piece, "delta"))
            if self._commentary and get_text(piece, "item_id") in self._commentary:
                kind = _COMMENTARY
            self._parts.setdefault(_TEXT_DELTAS.get(kind, kind), []).append(delta or "")
        elif kind in ENDS:
            self._end = self._reader.answer(get(piece, "response"))
        elif kind == "response.created":
            # An app that comes back to a background stream may have it from its beginning.
            self._parts, self._tool_uses, self._commentary = {}, [], set()
            self._begun = _begun(get(piece, "response"))
        elif kind == "response.in_progress":
            self._begun = _begun(get(piece, "response"))
        elif kind == "response.output_item.added":
            item = get(piece, "item")
            if get(item, "phase") == _COMMENTARY:
                self._commentary.add(get_text(item, "id"))
        elif kind == "response.output_item.done":
            self._tool_uses.extend(_tool_uses([get(piece, "item")]))
        elif kind == "error":
            # Over a WebSocket the error stands in a field of its own.
            code = error_code(get(piece, "error") or piece)
            self._end = self._so_far()._replace(status="error", error_type=code, pending=False)
        return self._end is not None

    def over(self) -> bool:
        """Whether the last event has come: it has the tokens, too."""
        return self._end is not None

    def answer(self, *, ended: bool) -> Answer:  # noqa: ARG002 - only the last event ends a response
        """Return the answer so far."""
        if self._end is None:
            return self._so_far()
        # Some hosts stream all, and have nothing in the last event; a failed one never has.
        (last,), (streamed,) = self._end.choices, self._so_far().choices
        choice = last._replace(
            text=last.text or streamed.text,
            tool_uses=last.tool_uses or streamed.tool_uses,
            resent_as=last.resent_as or streamed.resent_as,
        )
        return self._end._replace(choices=(choice,))

    def _so_far(self) -> Answer:
        parts = (self._parts.get(kind) for kind in _TEXT_DELTAS.values())
        text = next(("".join(part) for part in parts if part), None)
        before = "".join(self._parts.get(_COMMENTARY, ()))
        resent_as = (before + text,) if before and text else ()
        if not text and all(use.hosted for use in self._tool_uses):
            text = before or None
        choice = Choice(text=text, tool_uses=tuple(self._tool_uses), resent_as=resent_as)
        return self._begun._replace(choices=(choice,), status="incomplete", pending=True)


def _begun(response: Any) -> Answer:
    """Return what a `Response` says from its beginning: it repeats what the request says."""
    fields = fields_of(response)
    return Answer(
        id=text_or_none(fields.get("id")),
        model=text_or_none(fields.get("model")),
        claim=_claim(fields),
        metadata=dict(mapping(fields.get("metadata"))),
    )


def _claim(fields: Fields) -> Claim:
    """Return who asks, and where, in the fields of a request, or of a `Response`."""
    conversation = fields.get("conversation")
    return claim(fields, get(conversation, "id") or text_or_none(conversation))


def _choice(output: list[Any], cut_short_by: str | None) -> Choice:
    uses = _tool_uses(output)
    said = [item for item in output if _is_of_assistant(item)]
    messages = _answering(said, uses)
    parts = _parts_of(messages)
    text = _said_as(parts, "text")
    # The SDK's `output_text` is all that was said.
    whole = text if len(messages) == len(said) else _said_as(_parts_of(said), "text")
    images = [{"type": "image"} for item in output if _is_picture(item)]
    # Where a context was made shorter, an item that stands for it is all that comes.
    stand_for_it = (item for item in reversed(output) if get(item, "type") == SHORTENED)
    resent = messages[-1] if messages else next(stand_for_it, None)
    return Choice(
        text=text or _said_as(parts, "refusal") or None,
        tool_uses=tuple(uses),
        finish_reason=cut_short_by,
        attachments=attachments([*parts, *images]),
        complete=cut_short_by is None,
        resent_as=_other_forms(resent, parts, text, whole),
        resent_id=get_text(resent, "id"),
    )


def _other_forms(last: Any, parts: list[Any], text: str, whole: str) -> tuple[str | None, ...]:
    """Return what apps may resend of an output, besides the text of its answer."""
    if not parts:
        return (shortened(get_text(last, "id")),) if get(last, "type") == SHORTENED else ()
    return (said_in(last), whole) if len(parts) > 1 or whole != text else ()


def _parts_of(messages: list[Any]) -> list[Any]:
    return [part for item in messages for part in each(get(item, "content"))]


def _said_as(parts: list[Any], kind: str) -> str:
    return "".join([text for part in parts if (text := text_or_none(get(part, kind)))])


def _answering(messages: list[Any], uses: list[ToolUse]) -> list[Any]:
    """Return the messages of an output that are the answer.

    Not what is said on the way to it: before another message, before a tool of the app's, or by an
    agent that works for the one who answers.
    """
    final = [item for item in messages if get(item, "phase") != _COMMENTARY]
    if len(final) < len(messages) and (final or not all(use.hosted for use in uses)):
        messages = final
    answerer = get_text(get(messages[-1], "agent"), "agent_name") if messages else None
    if answerer is None:
        return messages
    return [one for one in messages if get_text(get(one, "agent"), "agent_name") == answerer]


def _is_of_assistant(item: Any) -> bool:
    """Whether it is a message, and none of the user's: those come back with a shortened context."""
    return get_text(item, "type") == "message" and get_text(item, "role") != "user"


def _is_picture(item: Any) -> bool:
    return (
        get_text(item, "type") == "image_generation_call" and get_text(item, "status") != "failed"
    )


def _tool_uses(output: list[Any]) -> list[ToolUse]:
    """Return the tool calls of an output: the app's functions, and the built-in tools."""
    uses: list[ToolUse] = []
    done = {_call_id(item) for item in output if _is_result(item)}
    for item in output:
        kind = get_text(item, "type") or ""
        if kind.endswith("_call"):
            name = get_text(item, "name") or kind.removesuffix("_call")
            call_id = get_text(item, "call_id")
            uses.append(ToolUse(name, call_id, hosted=call_id is None or call_id in done))
        elif kind == "mcp_approval_request":  # the tool itself is a call of its own
            uses.append(ToolUse(kind, get_text(item, "id")))
    return uses


def _is_result(item: Any) -> bool:
    """Whether an item brings the result of a tool call, or says whether one may be made."""
    return (get_text(item, "type") or "").endswith(("_output", "mcp_approval_response"))


def _call_id(result: Any) -> str | None:
    """Return what a result of the app's answers: a tool call, or a question whether one may be."""
    return get_text(result, "call_id") or get_text(result, "approval_request_id")


def _last_question(items: list[Any]) -> int | None:
    """Return where the last message of the user stands, else the last message of all."""
    last: int | None = None
    for position in range(len(items) - 1, -1, -1):
        role = get(items[position], "role")
        if role == "user":
            return position
        if last is None and role is not None:
            last = position
    return last


def _last_tool_results(items: list[Any]) -> list[Any]:
    """Return the tool results at the end, if the input ends with tool results."""
    results: list[Any] = []
    for item in reversed(items):
        if _is_result(item):
            results.append(item)
        elif not {get_text(item, "role"), get_text(item, "type")} & _SAY_NOTHING:
            break
    return results


def _variables(prompt: Any) -> str | None:
    """Return what the app fills into a stored prompt: all that is known of the question."""
    filled = mapping(get(prompt, "variables"))
    texts = {name: value for name, value in filled.items() if isinstance(value, str) and value}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"{name}: {value}" for name, value in texts.items()) or None
