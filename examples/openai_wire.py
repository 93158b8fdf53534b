"""What OpenAI's chat API sends back: an `Answer` as a whole body or as a stream's chunks.

Source: OpenAI API reference, and the types of the Python SDK, openai 1.40 to 3.54.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]
_PIECE = re.compile(r"\S+\s*|\s+")


class Usage(NamedTuple):
    """Tokens of one call; `cached` is a part of `input`, `reasoning` of `output`."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


USAGE = Usage(9, 12)


class ToolCall(NamedTuple):
    """The model asks for a function to be called; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True)
class Answer:
    """What a model said, before any endpoint gives it a shape.

    Attributes:
        text: None for an answer that is only tool calls, or a refusal.
        tool_calls: The functions to call.
        refusal: The words of a refusal, which OpenAI keeps apart from the text.
        more: Texts of the choices beyond the first (n > 1); chat and completions only.
        finish_reason: As in chat completions; None for "stop", or "tool_calls" if there are any.
        usage: None to leave it out.
        model: The model that answered.
        id: None for a fixed one of the endpoint's kind.
        created_s: When, in seconds since the epoch.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    more: tuple[str, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = USAGE
    model: str = "gpt-4o-2024-08-06"
    id: str | None = None
    created_s: int = 1_760_000_000


def pieces(text: str) -> list[str]:
    """Return the text cut into words, each with the space behind it."""
    return _PIECE.findall(text)


def as_answer(answer: Answer | str) -> Answer:
    """Return the answer; a str is short for one of text alone."""
    return Answer(answer) if isinstance(answer, str) else answer


def finish_reason(answer: Answer) -> str:
    """Return why the model stopped, in chat completions' words."""
    return answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")


def chat_completion(answer: Answer | str) -> Json:
    """Return the whole body of POST /chat/completions."""
    answer = as_answer(answer)
    message: Json = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    if answer.tool_calls:
        message["tool_calls"] = [_chat_tool_call(call) for call in answer.tool_calls]
    others = [{"role": "assistant", "content": text, "refusal": None} for text in answer.more]
    choices = [
        {"index": index, "message": each, "logprobs": None, "finish_reason": finish_reason(answer)}
        for index, each in enumerate([message, *others])
    ]
    body = _head(answer, "chatcmpl-1", "chat.completion") | {"choices": choices}
    return body if answer.usage is None else body | {"usage": _chat_usage(answer.usage)}


def chat_chunks(answer: Answer | str, *, include_usage: bool = False) -> list[Json]:
    """Return the chunks of a streamed chat completion, without the closing [DONE]."""
    answer = as_answer(answer)
    head = _head(answer, "chatcmpl-1", "chat.completion.chunk")
    if include_usage:
        head["usage"] = None
    chunks: list[Json] = []
    for index in range(1 + len(answer.more)):
        deltas = [*_chat_deltas(answer if index == 0 else Answer(answer.more[index - 1])), {}]
        chunks += [head | {"choices": [_chat_delta(index, delta)]} for delta in deltas]
        chunks[-1]["choices"][0]["finish_reason"] = finish_reason(answer)
    if include_usage and answer.usage is not None:
        chunks.append(head | {"choices": [], "usage": _chat_usage(answer.usage)})
    return chunks


def completion(answer: Answer | str) -> Json:
    """Return the whole body of POST /completions."""
    answer = as_answer(answer)
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason(answer)}
        for index, text in enumerate([answer.text or "", *answer.more])
    ]
    body = _head(answer, "cmpl-1", "text_completion") | {"choices": choices}
    return body if answer.usage is None else body | {"usage": _chat_usage(answer.usage)}


def completion_chunks(answer: Answer | str) -> list[Json]:
    """Return the chunks of a streamed completion, without the closing [DONE]."""
    answer = as_answer(answer)
    head = _head(answer, "cmpl-1", "text_completion")
    choices: list[Json] = [
        {"index": index, "text": piece, "logprobs": None, "finish_reason": None}
        for index, text in enumerate([answer.text or "", *answer.more])
        for piece in [*pieces(text), ""]
    ]
    for choice in choices:
        choice["finish_reason"] = None if choice["text"] else finish_reason(answer)
    return [head | {"choices": [choice]} for choice in choices]


def error_body(message: str, *, kind: str = "invalid_request_error", code: str = "") -> Json:
    """Return the body of an error answer; sent as an event, it breaks a stream."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}


def sse(event: Mapping[str, Any]) -> bytes:
    """Return one server-sent event; those of the Responses API name their type."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


SSE_DONE = b"data: [DONE]\n\n"


def _head(answer: Answer, default_id: str, kind: str) -> Json:
    return {
        "id": answer.id or default_id,
        "object": kind,
        "created": answer.created_s,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def _chat_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def _chat_tool_call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _chat_delta(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _chat_deltas(answer: Answer) -> Iterator[Json]:
    opening = None if answer.text is None else ""
    yield {"role": "assistant", "content": opening, "refusal": None}
    for piece in pieces(answer.text or ""):
        yield {"content": piece}
    for piece in pieces(answer.refusal or ""):
        yield {"refusal": piece}
    for index, call in enumerate(answer.tool_calls):
        yield {"tool_calls": [{"index": index, **_chat_tool_call(call._replace(arguments=""))}]}
        for piece in pieces(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
