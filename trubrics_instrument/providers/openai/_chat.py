"""Chat completions, and whatever compatible hosts make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument._observing.reader import Answer, Asked, Choice, ToolUse, TurnKey, Usage
from trubrics_instrument.providers.openai._fields import (
    CUT_SHORT,
    attachments,
    claim,
    content_text,
    each,
    fields_of,
    get,
    get_index,
    get_text,
    mapping,
    no_answer,
    says_more,
    shown,
    stream_status,
    text_or_none,
    usage,
)
from trubrics_instrument.providers.openai._history import (
    INSTRUCT,
    begun_answer,
    cut_answers,
    history_of,
    instructions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOOL_RESULTS = frozenset({"tool", "function"})
_SOUND: dict[str, str | None] = {"type": "audio"}


class ChatReader:
    """Reads `POST /chat/completions`. Source: openai 1.40 to 3.54, `types/chat`."""

    framework = "openai"

    def asked(self, request: Mapping[str, Any], *, stream: bool) -> Asked:
        """Return what the body of a request asks."""
        messages = each(request.get("messages"))
        asked_at = _last_question(messages)
        content = None if asked_at is None else get(messages[asked_at], "content")
        text = content_text(content)
        results = _last_tool_results(messages)
        parts = each(content)
        return Asked(
            operation="chat",
            model=text_or_none(request.get("model")),
            text=text,
            attachments=attachments(parts),
            stream=stream,
            continues=bool(results),
            brings=bool(results),
            turn_keys=(
                *[TurnKey(_call_id(one), text) for one in results],
                *begun_answer(messages, text),
            ),
            question=shown(parts),
            claim=claim(request),
            metadata=mapping(request.get("metadata")),
            history=history_of(messages, asked_at),
            instructions=instructions(messages),
        )

    def answer(self, body: Any) -> Answer:
        """Return what a `ChatCompletion` says."""
        said = fields_of(body).get
        choices = each(said("choices"))
        if not choices:
            return no_answer(body)
        return Answer(
            id=text_or_none(said("id")),
            model=text_or_none(said("model")),
            choices=tuple([_choice(choice) for choice in choices]),
            usage=usage(said("usage")),
        )

    def gathering(self) -> ChatGathering:
        """Return an empty gathering of `ChatCompletionChunk`s."""
        return ChatGathering()

    def turn_keys(self, asked: Asked, answer: Answer) -> tuple[TurnKey, ...]:
        """Return the ids of the tool calls, and what was cut short: with the same question."""
        uses = [use for choice in answer.choices for use in choice.tool_uses]
        results = [TurnKey(use.id or use.name, asked.text) for use in uses]
        return (*results, *cut_answers(answer, asked.text))


class ChatGathering:
    """The pieces of one streamed chat completion, by the index of their choice."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._model: str | None = None
        self._usage = Usage()
        self._over = False
        self._choices: dict[int, _ChoiceSoFar] = {}

    def speaks(self, piece: Any) -> bool:
        """Whether a chunk has something of the answer: the first one mostly names who speaks."""
        return any(says_more(get(one, "delta"), than="role") for one in each(get(piece, "choices")))

    def add(self, piece: Any) -> bool:
        """Take one `ChatCompletionChunk`, and return whether all choices have come to their end."""
        # All but the first and the last few bring a word of one choice, and nothing else.
        try:
            (choice,) = piece.choices
            delta, word = choice.delta, choice.delta.content
            if (
                self._id
                and self._model
                and type(word) is str
                and word
                and piece.usage is None
                and choice.finish_reason is None
                and delta.tool_calls is None
                and delta.function_call is None
            ):
                self._choices[choice.index].texts.append(word)
                return False
        except (AttributeError, LookupError, TypeError, ValueError):
            pass
        return self._add_any(piece)

    def over(self) -> bool:
        """Whether the tokens have come in a chunk of their own, behind everything else."""
        return self._over

    def _add_any(self, piece: Any) -> bool:
        self._id = self._id or text_or_none(get(piece, "id"))
        self._model = self._model or text_or_none(get(piece, "model"))
        counted = get(piece, "usage")
        if counted is not None:
            self._usage = usage(counted)
        choices = each(get(piece, "choices"))
        for choice in choices:
            index = get_index(choice) or 0
            self._choices.setdefault(index, _ChoiceSoFar()).add(choice)
        whole = all(one.finish_reason for one in self._choices.values()) and bool(self._choices)
        self._over = whole and counted is not None and not choices
        return whole

    def answer(self, *, ended: bool) -> Answer:
        """Return the answer so far."""
        so_far = [self._choices[index] for index in sorted(self._choices)]
        return Answer(
            id=self._id,
            model=self._model,
            choices=tuple(one.choice() for one in so_far),
            usage=self._usage,
            status=stream_status([one.finish_reason for one in so_far], ended=ended),
        )


class _ChoiceSoFar:
    __slots__ = (
        *("attached", "finish_reason", "refusal", "sound_id", "texts", "tool_names"),
        "transcript",
    )

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusal: list[str] = []
        self.transcript: list[str] = []
        self.tool_names: dict[object, ToolUse] = {}
        self.attached: list[dict[str, str | None]] = []
        self.sound_id: str | None = None
        self.finish_reason: str | None = None

    def add(self, choice: Any) -> None:
        delta = get(choice, "delta")
        _append(self.texts, content_text(get(delta, "content")))
        _append(self.refusal, get(delta, "refusal"))
        self._add_attached(delta)
        self.finish_reason = text_or_none(get(choice, "finish_reason")) or self.finish_reason
        for position, call in enumerate(each(get(delta, "tool_calls"))):
            index = get_index(call)
            self._add_tool(position if index is None else index, call)
        if get(delta, "function_call") is not None:
            self._add_tool("function_call", {"function": get(delta, "function_call")})

    def _add_attached(self, delta: Any) -> None:
        self.attached += [{"type": get_text(one, "type")} for one in each(get(delta, "images"))]
        audio = get(delta, "audio")
        if audio is not None:
            self.attached += [_SOUND] if _SOUND not in self.attached else []
            self.sound_id = get_text(audio, "id") or self.sound_id
            _append(self.transcript, get(audio, "transcript"))

    def _add_tool(self, index: object, call: Any) -> None:
        known = self.tool_names.get(index)
        if known is None:
            self.tool_names[index] = _tool_use(call)
            return
        # Some hosts number every call 0, others give every piece of a call an id of its own: a
        # call begins where there is another id, and a name.
        call_id = get_text(call, "id")
        if call_id not in {None, known.id} and get_text(get(call, "function"), "name"):
            self.tool_names.setdefault((index, call_id), _tool_use(call))

    def choice(self) -> Choice:
        parts = (self.texts, self.refusal, self.transcript)
        return Choice(
            text=next(("".join(part) for part in parts if part), None),
            tool_uses=tuple(self.tool_names.values()),
            finish_reason=self.finish_reason,
            attachments=attachments(self.attached),
            complete=self.finish_reason not in CUT_SHORT,
            resent_as=(self.sound_id,),
        )


def _choice(choice: Any) -> Choice:
    chosen = fields_of(choice).get
    message = fields_of(chosen("message")).get
    finish_reason = text_or_none(chosen("finish_reason"))
    content, audio = message("content"), message("audio")
    uses = [_tool_use(call) for call in each(message("tool_calls"))]
    if message("function_call") is not None:
        uses.append(_tool_use({"function": message("function_call")}))
    # `images` is how compatible hosts send them.
    parts = [*each(content), *each(message("images"))]
    return Choice(
        text=content_text(content)
        or text_or_none(message("refusal"))
        or text_or_none(get(audio, "transcript")),
        tool_uses=tuple(uses),
        finish_reason=finish_reason,
        attachments=attachments(parts if audio is None else [*parts, _SOUND]),
        complete=finish_reason not in CUT_SHORT,
        resent_as=() if audio is None else (get_text(audio, "id"),),
    )


def _tool_use(call: Any) -> ToolUse:
    function = get(call, "function") or get(call, "custom")
    name = text_or_none(get(function, "name")) or text_or_none(get(call, "type")) or "unknown"
    return ToolUse(name, text_or_none(get(call, "id")))


def _last_question(messages: list[Any]) -> int | None:
    """Return where the last message of the user stands, else the last one of all."""
    for position in range(len(messages) - 1, -1, -1):
        if get(messages[position], "role") == "user":
            return position
    return len(messages) - 1 if messages else None


def _last_tool_results(messages: list[Any]) -> list[Any]:
    """Return the tool results at the end, if the messages end with tool results.

    Behind them the app may have begun the answer itself, which the model is to go on with.
    """
    results: list[Any] = []
    begun = get_text(messages[-1], "role") == "assistant" if messages else False
    for message in reversed(messages[:-1] if begun else messages):
        role = get_text(message, "role")
        if role in _TOOL_RESULTS:
            results.append(message)
        elif role not in INSTRUCT:
            break
    return results


def _call_id(result: Any) -> str | None:
    """Return which call of a tool a result is the result of; the first API knew only its name."""
    return get_text(result, "tool_call_id") or get_text(result, "name")


def _append(parts: list[str], text: Any) -> None:
    if isinstance(text, str) and text:
        parts.append(text)
