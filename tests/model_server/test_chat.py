"""The model server answers chat completions as OpenAI's service does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from model_server import MODELS
from pydantic import BaseModel

if TYPE_CHECKING:
    from openai.types.chat import (
        ChatCompletionMessageFunctionToolCallParam,
        ChatCompletionMessageParam,
        ChatCompletionToolParam,
        ParsedFunctionToolCall,
    )
    from openai.types.chat.chat_completion_message_function_tool_call_param import Function

MINI = "stand-in-mini"
OPEN_AT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "When do you open?"}]
OPEN_AT_ANSWER = "The desk is open from 7:00 to 20:00, every day."
CITY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": CITY_SCHEMA, "strict": True},
}


class Opinion(BaseModel):
    """What structured output is asked for."""

    answer: str
    mood: Literal["glad", "sad"]
    certainty: float
    sources: list[str]
    remark: str | None


def test_chat(client: openai.OpenAI) -> None:
    """A chat completion has its text, its model and its words counted."""
    got = client.chat.completions.create(model=MINI, messages=OPEN_AT)
    assert (got.choices[0].message.content, got.choices[0].finish_reason, got.model) == (
        OPEN_AT_ANSWER,
        "stop",
        MINI,
    )
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (4, 10)
    again = client.chat.completions.create(model=MINI, messages=OPEN_AT)
    assert got.id != again.id


@pytest.mark.parametrize("include_usage", [False, True])
def test_chat_stream(client: openai.OpenAI, include_usage: bool) -> None:
    """A stream begins with the role, and has usage only where it was asked for."""
    stream = client.chat.completions.create(
        model=MINI, messages=OPEN_AT, stream=True, stream_options={"include_usage": include_usage}
    )
    chunks = list(stream)
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert deltas[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in deltas) == OPEN_AT_ANSWER
    assert [choice.finish_reason for choice in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [14] * include_usage


@pytest.mark.anyio
async def test_chat_async(aclient: openai.AsyncOpenAI) -> None:
    """The asynchronous client gets the same, whole and streamed."""
    whole = await aclient.chat.completions.create(model=MINI, messages=OPEN_AT)
    stream = await aclient.chat.completions.create(model=MINI, messages=OPEN_AT, stream=True)
    streamed = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert (whole.choices[0].message.content, "".join(streamed)) == (OPEN_AT_ANSWER,) * 2


def _as_param(call: ParsedFunctionToolCall) -> ChatCompletionMessageFunctionToolCallParam:
    function: Function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def test_chat_tool(client: openai.OpenAI) -> None:
    """A question about the weather calls the tool, and its result becomes the answer."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the weather in Paris and New York?"}
    ]
    with client.chat.completions.stream(model=MINI, messages=messages, tools=[CHAT_TOOL]) as stream:
        asked = stream.get_final_completion().choices[0]
    calls = asked.message.tool_calls or []
    assert asked.finish_reason == "tool_calls"
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "New York"}),
    ]
    results = ['{"city": "Paris", "sky": "rain"}', "New York: sunny, 24 °C."]
    messages.append({"role": "assistant", "tool_calls": [_as_param(call) for call in calls]})
    for call, result in zip(calls, results, strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    answered = client.chat.completions.create(model=MINI, messages=messages, tools=[CHAT_TOOL])
    assert answered.choices[0].message.content == (
        "I looked it up: city Paris, sky rain. I looked it up: New York: sunny, 24 °C. "
        "Better take the tram."
    )


def test_chat_options(client: openai.OpenAI) -> None:
    """Several choices, a limit of words, a forced tool and a refusal are honoured."""
    ask = client.chat.completions.create
    two = ask(model=MINI, messages=OPEN_AT, n=2)
    assert [choice.message.content for choice in two.choices] == [OPEN_AT_ANSWER] * 2
    short = ask(model=MINI, messages=OPEN_AT, max_completion_tokens=3)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == (
        "The desk is",
        "length",
    )
    forced = ask(model=MINI, messages=OPEN_AT, tools=[CHAT_TOOL], tool_choice="required")
    assert forced.choices[0].finish_reason == "tool_calls"
    rain: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Rain in Rome?"}]
    none = ask(model=MINI, messages=rain, tools=[CHAT_TOOL], tool_choice="none")
    assert none.choices[0].finish_reason == "stop"
    refused = ask(model=MINI, messages=[{"role": "user", "content": "I ride without paying"}])
    assert (refused.choices[0].message.content, refused.choices[0].message.refusal) == (
        None,
        "I cannot help with riding without a ticket.",
    )


def test_models(client: openai.OpenAI) -> None:
    """The models can be listed."""
    assert [model.id for model in client.models.list()] == list(MODELS)


def test_any_model_answers(client: openai.OpenAI) -> None:
    """An app is tried with the model that it asks for anyway."""
    said = client.chat.completions.create(model="gpt-4o-mini", messages=OPEN_AT)
    assert (said.model, bool(said.choices[0].message.content)) == ("gpt-4o-mini", True)


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("no-such-model", openai.NotFoundError, "model_not_found"),
        ("rate-limited", openai.RateLimitError, "rate_limit_exceeded"),
        ("", openai.BadRequestError, None),
    ],
)
def test_bad_models(
    client: openai.OpenAI, model: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    """A model that is unknown, busy or missing is an error, at both endpoints."""
    with pytest.raises(error) as raised:
        client.chat.completions.create(model=model, messages=OPEN_AT)
    assert raised.value.code == code
    with pytest.raises(error):
        client.responses.create(model=model, input="Hello")


def test_bad_requests(client: openai.OpenAI) -> None:
    """No key, an unreadable request and an unknown response are errors of their own."""
    with pytest.raises(openai.AuthenticationError):
        client.models.list(extra_headers={"Authorization": "Basic eA=="})
    messages: Any = [{"content": "no role"}]
    with pytest.raises(openai.BadRequestError, match="not understood"):
        client.chat.completions.create(model=MINI, messages=messages)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_0")
    with pytest.raises(openai.BadRequestError, match="resp_0"):
        client.responses.create(model=MINI, input="Hello", previous_response_id="resp_0")


def test_structured_output(client: openai.OpenAI) -> None:
    """Structured output fits the schema."""
    expected = Opinion(answer=OPEN_AT_ANSWER, mood="glad", certainty=0, sources=[], remark=None)
    chat = client.chat.completions.parse(model=MINI, messages=OPEN_AT, response_format=Opinion)
    assert chat.choices[0].message.parsed == expected
