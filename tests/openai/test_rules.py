"""What a turn is, in every way to ask: the rules that hold whatever the app does with an answer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall, chat_completion
from responses_wire import response_object

from tests.openai.asking import QUESTION, WAYS, Way, ask, client_of, close_client
from tests.openai.test_matrix import (
    ANSWER,
    STREAMED,
    USAGE,
    common,
    events_of,
    failed,
    generation,
    prompt,
    reply_of,
    streamed,
)
from tests.replies import error_reply
from tests.told import told
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ALL = pytest.mark.parametrize("way", WAYS, ids=str)
WITH_TOOLS = pytest.mark.parametrize(
    "way", [way for way in WAYS if way.endpoint != "completion"], ids=str
)
WITH_CHOICES = pytest.mark.parametrize(
    "way", [way for way in WAYS if way.endpoint != "responses"], ids=str
)
CALLS = Answer(
    tool_calls=(ToolCall("look", "{}", "call_1"), ToolCall("listen", "{}", "call_2")),
    usage=ANSWER.usage,
    model=ANSWER.model,
)


def tool_call(way: Way, name: str, call_id: str, **more: Any) -> dict[str, Any]:
    """Return the event of a tool call."""
    own = {"tool_name": name, "tool_call_id": call_id, "$assistant_id": common(way)["model"]}
    return {"event": "Tool call", **common(way), **own, **more}


def with_results(way: Way) -> dict[str, Any]:
    """Return what the app sends after the tool calls: the question, them, and their results."""
    question = {"role": "user", "content": QUESTION}
    if way.endpoint == "chat":
        calls = chat_completion(CALLS)["choices"][0]["message"]
        results = [
            {"role": "tool", "tool_call_id": one.id, "content": "ok"} for one in CALLS.tool_calls
        ]
        return {"messages": [{"role": "system", "content": "Be brief."}, question, calls, *results]}
    outputs = [
        {"type": "function_call_output", "call_id": one.id, "output": "ok"}
        for one in CALLS.tool_calls
    ]
    return {"input": [question, *response_object(CALLS)["output"], *outputs]}


def with_the_answer(way: Way, answer: Answer) -> dict[str, Any]:
    """Return what the app sends for the model to go on with an answer."""
    question = {"role": "user", "content": QUESTION}
    begun = {"role": "assistant", "content": answer.text}
    if way.endpoint == "chat":
        return {"messages": [{"role": "system", "content": "Be brief."}, question, begun]}
    return {"input": [question, begun]}


@WITH_TOOLS
async def test_tools(way: Way, sink: Sink, server: Loopback) -> None:
    """Tool calls alone are an event each, no Generation; with their results the turn goes on."""
    patch_openai()
    server.script(reply_of(way, CALLS), reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    await ask(client, way)
    await ask(client, way, **with_results(way))
    await close_client(client)
    assert told(sink, 4) == [
        prompt(way),
        tool_call(way, "look", "call_1", **USAGE),
        tool_call(way, "listen", "call_2"),
        generation(way, model_calls=2, tool_calls=2, **USAGE),
    ]


@ALL
async def test_asked_again(way: Way, sink: Sink, server: Loopback) -> None:
    """The same request after a failure is the same prompt, however it is asked."""
    patch_openai()
    server.script(error_reply(500), error_reply(429), reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    for error in (openai.InternalServerError, openai.RateLimitError):
        with pytest.raises(error):
            await ask(client, way)
    await ask(client, way)
    await close_client(client)
    usage = {} if way.endpoint == "completion" and way.streamed else USAGE
    assert told(sink, 4) == [
        prompt(way),
        failed(way, "InternalServerError"),
        failed(way, "RateLimitError"),
        generation(way, model_calls=3, **usage),
    ]


@WITH_TOOLS  # legacy completions have no messages: what goes on there is another text
async def test_cut_short(way: Way, sink: Sink, server: Loopback) -> None:
    """A request with a cut answer at its end, for the model to go on with, asks nothing anew."""
    patch_openai()
    cut = replace(ANSWER, text='{"text": "It"}', finish_reason="length")
    server.script(reply_of(way, cut), reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    with suppress(openai.LengthFinishReasonError):
        await ask(client, way)
    await ask(client, way, **with_the_answer(way, cut))
    await close_client(client)
    reason = "max_output_tokens" if way.endpoint == "responses" else "length"
    own = {"$text": cut.text, "status": "incomplete", "finish_reason": reason}
    assert told(sink, 3) == [
        prompt(way),
        generation(way, **USAGE) | own,
        generation(way, model_calls=2, **USAGE),
    ]


@WITH_CHOICES
async def test_several_choices(way: Way, sink: Sink, server: Loopback) -> None:
    """One Prompt, and a Generation for each choice; tokens and seconds are counted once."""
    patch_openai()
    answer = Answer(ANSWER.text, more=('{"text": "No."}',), usage=ANSWER.usage, model=ANSWER.model)
    server.script(reply_of(way, answer), path=way.path)
    client = client_of(server, way.mode)
    await ask(client, way, n=2)
    await close_client(client)
    usage = {} if way.endpoint == "completion" and way.streamed else USAGE
    first = generation(way, **usage)
    second = generation(way) | {"$text": '{"text": "No."}'}
    second["$generation_id"] += ":1"
    assert told(sink, 3) == [prompt(way), first, second]
    assert ["latency" in event["properties"] for event in sink.events] == [False, True, False]


@STREAMED
async def test_an_error_on_the_way(way: Way, sink: Sink, server: Loopback) -> None:
    """An error inside a stream raises in the app as ever, and is told with the text so far."""
    steps = events_of(way, ANSWER)
    half = steps[: len(steps) // 2]
    broken = {"error": {"message": "a secret prompt", "code": "overloaded", "type": "server_error"}}
    server.always(lambda _: streamed(way, [*half, broken, *steps[len(half) :]]))
    client = client_of(server, way.mode)
    with pytest.raises(openai.APIError) as bare:
        await ask(client, way)
    patch_openai()
    with pytest.raises(openai.APIError) as observed:
        await ask(client, way)
    await close_client(client)
    assert type(observed.value) is type(bare.value)
    assert str(observed.value) == str(bare.value)
    events = told(sink, 2)
    text = events[1].pop("$text")
    assert ANSWER.text is not None
    assert ANSWER.text.startswith(text)
    assert events == [prompt(way), failed(way, "APIError")]
    assert "secret" not in str(sink.events)


@pytest.mark.parametrize(
    "way",
    [way for way in WAYS if way.endpoint == "chat" and way.shape in {"parsed", "helper"}],
    ids=str,
)
async def test_refused_by_the_apps_own_parser(way: Way, sink: Sink, server: Loopback) -> None:
    """An answer that the app's parser refuses has come all the same, and is told."""
    patch_openai()
    cut_short = Answer('{"text": "It', finish_reason="length", usage=None, model=ANSWER.model)
    server.script(reply_of(way, cut_short), path=way.path)
    client = client_of(server, way.mode)
    if way.shape == "parsed":
        with pytest.raises(openai.LengthFinishReasonError):
            await ask(client, way)
    else:
        await ask(client, way)
    await close_client(client)
    own = {"$text": '{"text": "It', "finish_reason": "length", "status": "incomplete"}
    assert told(sink, 2) == [prompt(way), generation(way) | own]
