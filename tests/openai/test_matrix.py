"""Every endpoint, way to ask, client and outcome: one Prompt, one end, and the app's own answer."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, Usage, chat_chunks, chat_completion, completion, completion_chunks
from responses_wire import response_events, response_object

from tests.openai.asking import (
    MODEL,
    QUESTION,
    WAYS,
    Way,
    ask,
    asking,
    client_of,
    close_client,
    pieces,
)
from tests.replies import (
    RESET,
    Gate,
    Reply,
    Step,
    chat_stream,
    error_reply,
    json_reply,
    raw_reply,
    response_stream,
)
from tests.told import told
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ALL = pytest.mark.parametrize("way", WAYS, ids=str)
STREAMED = pytest.mark.parametrize("way", [way for way in WAYS if way.streamed], ids=str)
ANSWER = Answer(
    '{"text": "It is on time."}', usage=Usage(9, 5, cached=2, reasoning=1), model="gpt-4o-1"
)
FIRST_PIECES = 3  # all of which come before the gate of a stream's middle


def events_of(way: Way, answer: Answer) -> list[dict[str, Any]]:
    """Return the pieces that a server streams for this way."""
    if way.endpoint == "responses":
        return response_events(answer)
    if way.endpoint == "completion":
        return completion_chunks(answer)
    return chat_chunks(answer, include_usage=True)


def streamed(way: Way, steps: list[dict[str, Any] | Step]) -> Reply:
    """Return the reply that streams these pieces and faults."""
    return response_stream(steps) if way.endpoint == "responses" else chat_stream(steps)


def reply_of(way: Way, answer: Answer = ANSWER) -> Reply:
    """Return the reply of a server for this way."""
    if way.streamed:
        return streamed(way, [*events_of(way, answer)])
    body = {"chat": chat_completion, "responses": response_object, "completion": completion}
    return json_reply(body[way.endpoint](answer))


def common(way: Way) -> dict[str, Any]:
    """Return what every event of a call says."""
    known = {
        "user_id": "anon 1",
        "$thread_id": "thread 1",
        "$prompt_id": "prompt 1",
        "anonymous": True,
        "thread_inferred": True,
        "framework": "openai",
        "provider": "127.0.0.1",
        "operation": way.endpoint,
        "model": MODEL,
        "stream": way.stream,
    }
    return {name: value for name, value in known.items() if value is not None}


def prompt(way: Way) -> dict[str, Any]:
    """Return the event of the question."""
    return {"event": "Prompt", "$text": QUESTION, **common(way)}


def generation(way: Way, **more: Any) -> dict[str, Any]:
    """Return the event of the answer, with what differs."""
    ids = {"chat": "chatcmpl-1", "responses": "resp_1", "completion": "cmpl-1"}
    known = {
        "event": "Generation",
        "$text": ANSWER.text,
        "$assistant_id": MODEL,
        "$generation_id": ids[way.endpoint],
        **common(way),
        "response_model": ANSWER.model,
        "finish_reason": None if way.endpoint == "responses" else "stop",
        "status": "ok",
        "model_calls": 1,
        **more,
    }
    return {name: value for name, value in known.items() if value is not None}


USAGE = {
    "input_tokens": 9,
    "output_tokens": 5,
    "total_tokens": 14,
    "cached_input_tokens": 2,
    "reasoning_tokens": 1,
}


def failed(way: Way, error_type: str, **more: Any) -> dict[str, Any]:
    """Return the event of a failure."""
    own = {"status": "error", "error_type": error_type, "$assistant_id": MODEL, **more}
    return {"event": "Generation failed", **common(way), **own}


@ALL
async def test_answer(way: Way, sink: Sink, server: Loopback) -> None:
    """An answer is one Prompt and one Generation, with all that the answer holds."""
    patch_openai()
    server.script(reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    await ask(client, way)
    await close_client(client)
    usage = {} if way.endpoint == "completion" and way.streamed else USAGE
    assert told(sink, 2) == [prompt(way), generation(way, **usage)]


@ALL
async def test_the_app_gets_the_same(way: Way, sink: Sink, server: Loopback) -> None:
    """What the app gets is equal, and of the same type, with the patch and without it."""
    server.always(lambda _: reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    bare = await ask(client, way)
    patch_openai()
    observed = await ask(client, way)
    await close_client(client)
    assert type(observed) is type(bare)
    if way.shape != "unparsed":
        assert observed == bare
    assert server.requests[0].json == server.requests[1].json
    assert len(told(sink, 2)) == 2


@STREAMED
async def test_stream_left_early(way: Way, sink: Sink, server: Loopback) -> None:
    """A stream that the app closes on the way ends then, with the text so far."""
    patch_openai()
    gate = Gate()
    steps = events_of(way, ANSWER)
    half = len(steps) // 2
    server.script(streamed(way, [*steps[:half], gate, *steps[half:]]), path=way.path)
    client = client_of(server, way.mode)
    async with asking(client, way) as stream:
        taken = 0
        async for _ in pieces(stream):
            taken += 1
            if taken == FIRST_PIECES:
                break
        if way.shape != "helper":
            await close_client(stream)
    events = told(sink, 2)
    gate.open()
    await close_client(client)
    text = events[1].pop("$text", "")
    assert ANSWER.text is not None
    assert ANSWER.text.startswith(text)
    assert text != ANSWER.text
    whole = generation(way, status="incomplete", finish_reason=None)
    del whole["$text"]
    assert events == [prompt(way), whole]


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way.streamed and way.shape != "helper"], ids=str
)
async def test_stream_dropped(way: Way, sink: Sink, server: Loopback) -> None:
    """A stream that the app never reads nor closes ends when it is garbage."""
    patch_openai()
    server.script(reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    async with asking(client, way):
        pass
    gc.collect()
    events = told(sink, 2)
    await close_client(client)
    assert [event["event"] for event in events] == ["Prompt", "Generation"]
    assert events[1]["status"] == "incomplete"
    assert "$text" not in events[1]


@ALL
async def test_refused(way: Way, sink: Sink, server: Loopback) -> None:
    """An error of the host reaches the app as it is, and is told as a failure."""
    patch_openai()
    server.script(error_reply(500), path=way.path)
    client = client_of(server, way.mode)
    with pytest.raises(openai.InternalServerError, match="Scripted"):
        await ask(client, way)
    await close_client(client)
    assert told(sink, 2) == [prompt(way), failed(way, "InternalServerError")]


@ALL
async def test_timeout(way: Way, sink: Sink, server: Loopback) -> None:
    """A timeout reaches the app as it is, and is told as a failure."""
    patch_openai()
    server.script(Reply(before=Gate()), path=way.path)
    client = client_of(server, way.mode, timeout=0.1)
    with pytest.raises(openai.APITimeoutError):
        await ask(client, way)
    await close_client(client)
    assert told(sink, 2) == [prompt(way), failed(way, "APITimeoutError")]


@pytest.mark.parametrize("way", [way for way in WAYS if way.mode == "async"], ids=str)
async def test_cancelled(way: Way, sink: Sink, server: Loopback) -> None:
    """A call that the app cancels ends as incomplete: the user went away, nothing failed."""
    patch_openai()
    gate = Gate()
    server.script(Reply(before=gate), path=way.path)
    client = client_of(server, way.mode)
    task = asyncio.create_task(ask(client, way))
    await asyncio.to_thread(gate.reached.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await close_client(client)
    events = told(sink, 2)
    assert events[0] == prompt(way)
    del events[1]["$generation_id"]
    absent = {"$text": None, "$generation_id": None, "response_model": None, "finish_reason": None}
    assert events[1] == generation(way, **absent, status="incomplete")


@STREAMED
async def test_connection_lost(way: Way, sink: Sink, server: Loopback) -> None:
    """A stream that breaks raises in the app as ever, and its text so far is told."""
    steps = events_of(way, ANSWER)
    half = len(steps) // 2
    server.always(lambda _: streamed(way, [*steps[:half], 0.05, RESET]), path=way.path)
    client = client_of(server, way.mode)
    with pytest.raises(Exception, match=r"\A") as bare:
        await ask(client, way)
    patch_openai()
    with pytest.raises(Exception, match=r"\A") as observed:
        await ask(client, way)
    await close_client(client)
    assert type(observed.value) is type(bare.value)
    events = told(sink, 2)
    text = events[1].pop("$text", "")
    assert ANSWER.text is not None
    assert ANSWER.text.startswith(text)
    assert events == [prompt(way), failed(way, type(bare.value).__name__)]


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"choices": null, "output": null}', b'{"choices": [], "output": 3}', b"[]"],
)
@pytest.mark.parametrize("way", [way for way in WAYS if way.shape in {"whole", "raw"}], ids=str)
async def test_unreadable(way: Way, body: bytes, sink: Sink, server: Loopback) -> None:
    """An answer that makes no sense is the app's to deal with, and is told as unread."""
    patch_openai()
    server.script(raw_reply(body), path=way.path)
    client = client_of(server, way.mode)
    await ask(client, way)
    await close_client(client)
    events = told(sink, 2)
    assert [event["event"] for event in events] == ["Prompt", "Generation"]
    assert events[1]["status"] == "unread"
    assert "$text" not in events[1]


@pytest.mark.parametrize("endpoint", ["chat", "completion"])
async def test_a_stream_of_nothing(endpoint: str, sink: Sink, server: Loopback) -> None:
    """A stream that ends without one piece of an answer is no good answer: a page of a proxy's."""
    patch_openai()
    way = Way(endpoint, "stream", "sync")
    server.script(raw_reply(b"<html>Sign in</html>"), path=way.path)
    client = client_of(server, way.mode)
    assert await ask(client, way) == []
    await close_client(client)
    assert [event.get("status") for event in told(sink, 2)] == [None, "unread"]


@pytest.mark.parametrize("way", [way for way in WAYS if way.shape == "unparsed"], ids=str)
async def test_no_json(way: Way, sink: Sink, server: Loopback) -> None:
    """A raw answer that is no JSON is told as unread: no fault of ours."""
    patch_openai()
    server.script(raw_reply(b"no"), path=way.path)
    client = client_of(server, way.mode)
    await ask(client, way)
    await close_client(client)
    assert [event.get("status") for event in told(sink, 2)] == [None, "unread"]


READS: dict[str, Callable[[Any], Any]] = {
    "lines": lambda response: list(response.iter_lines()),
    "bytes": lambda response: list(response.iter_bytes()),
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_app_reads_by_itself(
    how: str, sink: Sink, server: Loopback, *, stream: bool
) -> None:
    """An answer that is the app's alone is told as unread, once the app has let go of it."""
    patch_openai()
    server.always(reply_of(Way("chat", "stream" if stream else "whole", "sync")))
    client = client_of(server, "sync")
    create = client.chat.completions.with_streaming_response.create
    with create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=stream) as response:
        READS[how](response)
    del response
    gc.collect()
    client.close()
    assert [event.get("status") for event in told(sink, 2)] == [None, "unread"]


def test_what_the_app_has_read_as_a_whole(sink: Sink, server: Loopback) -> None:
    """A body that is in memory when the app lets go of it is read like any other."""
    patch_openai()
    server.always(reply_of(Way("chat", "whole", "sync")))
    client = client_of(server, "sync")
    create = client.chat.completions.with_streaming_response.create
    with create(model="m", messages=[{"role": "user", "content": "Hi"}]) as response:
        response.read()
    del response
    gc.collect()
    client.close()
    assert [event.get("$text") for event in told(sink, 2)] == ["Hi", ANSWER.text]
