"""The model server answers requests for responses as OpenAI's service does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from model_server import running
from pydantic import BaseModel

if TYPE_CHECKING:
    from openai.types.responses import FunctionToolParam, ResponseInputParam

MINI = "stand-in-mini"
OPEN_AT_ANSWER = "The desk is open from 7:00 to 20:00, every day."
CITY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
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


def test_response_structured(client: openai.OpenAI) -> None:
    """Structured output fits the schema."""
    expected = Opinion(answer=OPEN_AT_ANSWER, mood="glad", certainty=0, sources=[], remark=None)
    response = client.responses.parse(model=MINI, input="When do you open?", text_format=Opinion)
    assert response.output_parsed == expected
