"""The model server answers the real OpenAI clients as OpenAI's service does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from model_server import MODELS, running
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from openai.types.chat import (
        ChatCompletionMessageFunctionToolCallParam,
        ChatCompletionMessageParam,
        ChatCompletionToolParam,
        ParsedFunctionToolCall,
    )
    from openai.types.chat.chat_completion_message_function_tool_call_param import Function
    from openai.types.responses import FunctionToolParam, ResponseInputParam

if openai.VERSION < "2":
    pytest.skip("the model server is for current SDKs", allow_module_level=True)

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
RESPONSE_TOOL: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "parameters": CITY_SCHEMA,
    "strict": True,
}


class Opinion(BaseModel):
    """What structured output is asked for."""

    answer: str
    mood: Literal["glad", "sad"]
    certainty: float
    sources: list[str]
    remark: str | None


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Run one model server for this file: it keeps nothing that a test could trip over."""
    with running() as server:
        yield server.base_url


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    """Connect a client that does not retry."""
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=5) as client:
        yield client


@pytest.fixture
async def aclient(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Connect an asynchronous client that does not retry."""
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key="any", max_retries=0, timeout=5
    ) as client:
        yield client


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


def test_structured_output(client: openai.OpenAI) -> None:
    """Structured output fits the schema, at both endpoints."""
    expected = Opinion(answer=OPEN_AT_ANSWER, mood="glad", certainty=0, sources=[], remark=None)
    chat = client.chat.completions.parse(model=MINI, messages=OPEN_AT, response_format=Opinion)
    response = client.responses.parse(model=MINI, input="When do you open?", text_format=Opinion)
    assert (chat.choices[0].message.parsed, response.output_parsed) == (expected, expected)


def test_response(client: openai.OpenAI) -> None:
    """A response has its text and usage, and can be asked for again by its id."""
    got = client.responses.create(model=MINI, input="When do you open?", metadata={"a": "b"})
    assert (got.output_text, got.status, got.metadata) == (OPEN_AT_ANSWER, "completed", {"a": "b"})
    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens) == (4, 10)
    assert client.responses.retrieve(got.id).to_dict() == got.to_dict()


def test_response_in_background(client: openai.OpenAI) -> None:
    """A response in the background is queued at first, and done when asked for."""
    queued = client.responses.create(model=MINI, input="When do you open?", background=True)
    done = client.responses.retrieve(queued.id)
    assert (queued.status, queued.output_text) == ("queued", "")
    assert (done.status, done.output_text) == ("completed", OPEN_AT_ANSWER)


@pytest.mark.anyio
async def test_response_stream(client: openai.OpenAI, aclient: openai.AsyncOpenAI) -> None:
    """A streamed response numbers its events and ends with the whole object."""
    with client.responses.stream(model=MINI, input="When do you open?") as stream:
        events = list(stream)
        assert stream.get_final_response().output_text == OPEN_AT_ANSWER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    stream2 = await aclient.responses.create(model=MINI, input="When do you open?", stream=True)
    deltas = [event.delta async for event in stream2 if event.type == "response.output_text.delta"]
    assert "".join(deltas) == OPEN_AT_ANSWER


def test_response_tool(client: openai.OpenAI) -> None:
    """A tool is called and answered in a response, streamed arguments included."""
    asked: ResponseInputParam = [{"role": "user", "content": "Will it rain in Oslo?"}]
    with client.responses.stream(model=MINI, input=asked, tools=[RESPONSE_TOOL]) as stream:
        first = stream.get_final_response()
    call = first.output[0]
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Oslo"}')
    second = client.responses.create(
        model=MINI,
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Rain, 8 °C"}],
        tools=[RESPONSE_TOOL],
    )
    assert second.output_text == "I looked it up: Rain, 8 °C. Better take the tram."


def test_response_remembers(client: openai.OpenAI) -> None:
    """A response that continues another one knows what was said before."""
    first = client.responses.create(model=MINI, input="Hi, my name is Ada")
    second = client.responses.create(
        model=MINI, input="What is my name?", previous_response_id=first.id
    )
    assert (first.output_text, second.output_text) == (
        "Hello, Ada! How can I help you in Linden?",
        "You are Ada.",
    )


def test_response_options(client: openai.OpenAI) -> None:
    """A limit of words, instructions for one request only, and no storing are honoured."""
    with client.responses.stream(
        model=MINI, input="When do you open?", instructions="Be brief", max_output_tokens=3
    ) as stream:
        last = list(stream)[-1]
    assert last.type == "response.incomplete"
    assert (last.response.output_text, last.response.instructions) == ("The desk is", "Be brief")
    assert last.response.usage is not None
    assert last.response.usage.input_tokens == 6
    again = client.responses.create(
        model=MINI, input="Hello", previous_response_id=last.response.id, store=False
    )
    assert again.usage is not None
    assert again.usage.input_tokens == 4 + 3 + 1
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(again.id)


def test_old_responses_are_forgotten() -> None:
    """Only so many responses are kept, the newest."""
    with (
        running(kept_responses=1) as server,
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        first, second = (client.responses.create(model=MINI, input="Hello") for _ in range(2))
        assert client.responses.retrieve(second.id).id == second.id
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)


def test_models(client: openai.OpenAI) -> None:
    """The models can be listed."""
    assert [model.id for model in client.models.list()] == list(MODELS)


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
