"""Answers of which the app lets go in its own time: the next call knows what was answered."""

from __future__ import annotations

import asyncio
import gc
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import (
    Answer,
    ToolCall,
    Usage,
    chat_chunks,
    chat_completion,
    completion_chunks,
)
from responses_wire import response_events, response_object

from tests.openai.asking import (
    MODES,
    Mode,
    client_of,
    close_client,
    entered,
    needs,
    pieces,
    settled,
)
from tests.replies import RESET, Reply, Step, chat_stream, json_reply, response_stream
from trubrics_instrument import _runtime, patch_openai
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback
    from trubrics_instrument.testing import Events

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("mode", MODES)
LOOK = Answer(tool_calls=(ToolCall("look", "{}", "call_1"),), usage=None)
LOOKED: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it raining?"},
    chat_completion(LOOK)["choices"][0]["message"],
    {"role": "tool", "tool_call_id": "call_1", "content": "wet"},
]


@pytest.fixture
def events() -> Iterator[Events]:
    """Put the patch on, and collect what is told; nothing is collected as garbage meanwhile."""
    patch_openai(user_id="ada")
    gc.collect()
    gc.disable()
    with capture() as taken:
        yield taken
    gc.enable()


async def left_at_the_last(stream: Any) -> None:
    """Read a stream as many apps do: no further than the piece that says that it is the last."""
    async for piece in pieces(stream):
        choices = getattr(piece, "choices", None)
        if choices[0].finish_reason if choices else getattr(piece, "type", "") == _LAST:
            return


_LAST = "response.completed"


@BOTH
async def test_tools_go_on(mode: Mode, events: Events, server: Loopback) -> None:
    """The results of the tools go on with their turn, though the stream has not ended."""
    server.script(*(chat_stream(chat_chunks(one)) for one in (LOOK, Answer("Yes.", usage=None))))
    client = client_of(server, mode)
    kept: list[Any] = []  # as an app's variable keeps it
    for messages in (LOOKED[:1], LOOKED):
        stream = await settled(
            client.chat.completions.create(model="m", messages=messages, stream=True)
        )
        kept.append(stream)
        await left_at_the_last(stream)
    for stream in kept:
        await settled(stream.close())
    await close_client(client)
    assert [(one.event, one.text, one.get("status")) for one in events] == [
        ("Prompt", "Is it raining?", None),
        ("Tool call", None, None),
        ("Generation", "Yes.", "ok"),
    ]
    assert len({(one.prompt_id, one.thread_id) for one in events}) == 1
    assert events.one("Generation").get("tool_calls") == 1


@BOTH
async def test_seconds_end_there(mode: Mode, events: Events, server: Loopback) -> None:
    """An answer ends with its last piece, however much later the app lets go of the stream."""
    server.script(chat_stream(chat_chunks(Answer("Yes.", usage=None))))
    client = client_of(server, mode)
    started_s = time.perf_counter()
    stream = await settled(
        client.chat.completions.create(model="m", messages=LOOKED[:1], stream=True)
    )
    await left_at_the_last(stream)
    left_s = time.perf_counter() - started_s
    await asyncio.sleep(0.05)
    await settled(stream.close())
    await close_client(client)
    assert events.one("Generation", status="ok").get("latency") <= round(left_s, 4)


@BOTH
@pytest.mark.parametrize("too_early", [False, True])
async def test_an_app_that_loses_a_stream(
    mode: Mode, too_early: bool, events: Events, server: Loopback
) -> None:
    """It ended with the last piece that came, however much later it is found as garbage."""
    chunks = chat_chunks(Answer("One two three", usage=None))
    chunks[1]["choices"][0]["finish_reason"] = "stop" if too_early else None
    server.script(chat_stream(chunks))
    client = client_of(server, mode)
    started_s, clock_s = time.time(), time.perf_counter()
    stream = await settled(
        client.chat.completions.create(model="m", messages=LOOKED[:1], stream=True)
    )
    coming = pieces(stream)
    for _ in range(3):
        await anext(coming)
    lasted_s = time.perf_counter() - clock_s
    lost: list[Any] = [stream, coming]
    lost.append(lost)
    await asyncio.sleep(0.05)
    del stream, coming, lost
    assert [one.event for one in events] == ["Prompt"]
    gc.collect()
    await close_client(client)
    told = events.one("Generation", text="One two ")
    told_s = datetime.fromisoformat(told.timestamp.replace("Z", "+00:00")).timestamp()
    assert told.get("latency") <= round(lasted_s, 4)
    assert told_s - started_s <= lasted_s + 0.001


@pytest.mark.parametrize("endpoint", ["chat", "completion"])
async def test_tokens_behind_the_answer(endpoint: str, events: Events, server: Loopback) -> None:
    """What comes behind the last word counts: it is told once, with its tokens, before the end."""
    answer = Answer("Yes.", usage=Usage(9, 5))
    client = client_of(server, "sync")
    if endpoint == "chat":
        server.script(chat_stream(chat_chunks(answer, include_usage=True)))
        stream = client.chat.completions.create(model="m", messages=LOOKED[:1], stream=True)
    else:
        used = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        last: dict[str, Any] = {**completion_chunks(answer)[0], "choices": [], "usage": used}
        server.script(chat_stream([*completion_chunks(answer), last]))
        stream = client.completions.create(model="m", prompt="Is it raining?", stream=True)
    for piece in stream:
        if piece.usage is not None:
            break
        assert not events.named("Generation")
    assert events.one("Generation", text="Yes.", status="ok").get("total_tokens") == 14
    stream.close()
    client.close()
    assert len(events) == 2


@pytest.mark.parametrize("ended", ["each", "the first"])
async def test_a_host_that_ends_too_early(ended: str, events: Events, server: Loopback) -> None:
    """A host that says "stop" with each piece, or too early, has not come to its end with it."""
    chunks = chat_chunks(Answer("One two three", usage=None))
    for chunk in chunks if ended == "each" else chunks[:2]:
        chunk["choices"][0]["finish_reason"] = "stop"
    server.script(chat_stream([*chunks[:-2], 0.05, *chunks[-2:]]))
    client = client_of(server, "sync")
    assert list(client.chat.completions.create(model="m", messages=LOOKED[:1], stream=True))
    client.close()
    told = events.one("Generation", status="ok")
    assert told.text == "One two three"
    assert told.get("latency") >= 0.05


@needs("responses")
@BOTH
async def test_responses_are_a_conversation(mode: Mode, events: Events, server: Loopback) -> None:
    """A response is told with its last event, so that the next one goes on from it."""
    answers = [Answer(f"Answer {number}.", id=f"resp_{number}") for number in range(3)]
    server.script(*(response_stream(response_events(one)) for one in answers))
    client = client_of(server, mode)
    kept: list[Any] = []
    for number in range(3):
        previous = {"previous_response_id": f"resp_{number - 1}"} if number else {}
        stream = await settled(
            client.responses.create(model="m", input=f"Ask {number}", stream=True, **previous)
        )
        kept.append(stream)
        await left_at_the_last(stream)
        assert events[-1].text == f"Answer {number}."
    for stream in kept:
        await settled(stream.close())
    await close_client(client)
    assert len(events) == 6
    assert len({one.thread_id for one in events}) == 1


@needs("responses")
@BOTH
async def test_an_error_in_a_response(mode: Mode, events: Events, server: Loopback) -> None:
    """An error ends a response: who tries again after it asks the same."""
    error = {"type": "error", "code": "server_error", "message": "a secret", "param": None}
    begun = response_events(Answer("Hello there", id="resp_1"))[:4]
    server.script(
        response_stream([*begun, error | {"sequence_number": 4}]),
        json_reply(response_object(Answer("Hello", id="resp_2"))),
    )
    client = client_of(server, mode)
    stream = await settled(client.responses.create(model="m", input="Hi", stream=True))
    async for piece in pieces(stream):
        if piece.type == "error":
            break
    assert events.one("Generation failed").get("error_type") == "server_error"
    await settled(client.responses.create(model="m", input="Hi"))
    await settled(stream.close())
    await close_client(client)
    assert len(events.named("Prompt")) == 1
    assert events.one("Generation").prompt_id == events[0].prompt_id


FAILED = {"status": "failed", "error": {"code": "server_error", "message": "a secret"}}


def last_event_without(answer: Answer, **fields: Any) -> Reply:
    """Return the stream of a response whose last event has none of the output."""
    *events, _ = response_events(answer)
    whole: dict[str, Any] = {**response_object(answer), "output": [], **fields}
    last: dict[str, Any] = {
        "type": f"response.{whole['status']}",
        "sequence_number": 99,
        "response": whole,
    }
    return response_stream([*events, last])


@needs("responses")
@pytest.mark.parametrize(
    ("fields", "event"),
    [(FAILED, "Generation failed"), ({}, "Generation")],
    ids=["failed", "some hosts"],
)
async def test_what_the_last_event_lacks(
    fields: dict[str, Any], event: str, events: Events, server: Loopback
) -> None:
    """The text that was streamed is told, though the last event does not repeat it."""
    server.script(last_event_without(Answer("Half of it"), **fields))
    client = client_of(server, "sync")
    assert list(client.responses.create(model="m", input="Hi", stream=True))
    client.close()
    assert [(one.event, one.text) for one in events] == [("Prompt", "Hi"), (event, "Half of it")]


@needs("responses")
async def test_tools_that_the_last_event_lacks(events: Events, server: Loopback) -> None:
    """So are the tools, and with them the turn."""
    server.script(last_event_without(LOOK))
    client = client_of(server, "sync")
    assert list(client.responses.create(model="m", input="Hi", stream=True))
    client.close()
    assert [(one.event, one.get("tool_name")) for one in events] == [
        ("Prompt", None),
        ("Tool call", "look"),
    ]


@needs("responses")
@pytest.mark.parametrize("again", ["left", "breaks", "begins anew"])
async def test_a_background_stream_left_twice(again: str, events: Events, server: Loopback) -> None:
    """It waits for the rest, with all that has come; a stream that goes on says no id."""
    answer = Answer("All trams run.", id="resp_9")
    pieces = response_events(answer)
    middle = [place for place, one in enumerate(pieces) if one["type"].endswith("text.delta")][1]
    rest: list[dict[str, Any] | Step] = [*pieces[middle : middle + 2]]
    server.script(
        response_stream(pieces[:middle]),
        response_stream(
            {"left": rest, "breaks": [*rest[:1], 0.05, RESET]}.get(again, [*pieces[:middle]])
        ),
        json_reply(response_object(answer, status="in_progress")),
        json_reply(response_object(answer)),
    )
    client = client_of(server, "sync")
    asked = {"model": "m", "input": "Do they run?", "background": True}
    stream = client.responses.create(**asked, stream=True)
    list(stream)
    stream = client.responses.retrieve("resp_9", stream=True, starting_after=middle - 1)
    if again == "breaks":
        with pytest.raises(Exception, match=r"\A"):  # another one in each version of the SDK
            list(stream)
    else:
        list(stream)
    assert len(events) == 1
    client.responses.retrieve("resp_9")
    client.responses.retrieve("resp_9")
    client.close()
    assert [(one.event, one.text, one.get("status"), one.generation_id) for one in events] == [
        ("Prompt", "Do they run?", None, None),
        ("Generation", "All trams run.", "ok", "resp_9"),
    ]


@needs("responses")
@pytest.mark.parametrize("anew", [False, True])
def test_what_came_of_a_background_stream(anew: bool, events: Events, server: Loopback) -> None:
    """If the app never comes back, what has come by then is told, once."""
    answer = Answer("All trams run.", id="resp_9")
    pieces = response_events(answer)
    deltas = [place for place, one in enumerate(pieces) if one["type"].endswith("text.delta")]
    second = pieces[: deltas[2]] if anew else pieces[deltas[1] : deltas[2]]
    server.script(response_stream(pieces[: deltas[1]]), response_stream(second))
    client = client_of(server, "sync")
    list(client.responses.create(model="m", input="Do they run?", background=True, stream=True))
    list(client.responses.retrieve("resp_9", stream=True, starting_after=1))
    client.close()
    call = _runtime.state().pending.pop("resp_9")
    assert call is not None
    call.leave()
    said = "".join(pieces[place]["delta"] for place in deltas[:2])
    assert events.one("Generation", status="incomplete", generation_id="resp_9").text == said


async def test_a_tool_left_half_way(events: Events, server: Loopback) -> None:
    """A stream that is left in a tool's arguments has called nothing yet, and says so."""
    server.script(chat_stream(chat_chunks(LOOK)))
    client = client_of(server, "sync")
    stream = client.chat.completions.create(model="m", messages=LOOKED[:1], stream=True)
    for piece in stream:
        if piece.choices[0].delta.tool_calls:
            break
    stream.close()
    client.close()
    assert events.one("Tool call").get("status") == "incomplete"


@BOTH
async def test_a_raw_response_that_is_closed(mode: Mode, events: Events, server: Loopback) -> None:
    """One that was read as a whole is told when it is closed, though a variable still has it."""
    server.script(*(json_reply(chat_completion(one)) for one in (LOOK, Answer("Yes."))))
    client = client_of(server, mode)
    create = client.chat.completions.with_streaming_response.create
    kept: list[Any] = []
    for messages in (LOOKED[:1], LOOKED):
        async with entered(create(model="m", messages=messages)) as response:
            kept.append(response)
            assert await settled(response.json())
    await close_client(client)
    assert [(one.event, one.text) for one in events] == [
        ("Prompt", "Is it raining?"),
        ("Tool call", None),
        ("Generation", "Yes."),
    ]
    assert len({one.prompt_id for one in events}) == 1


@BOTH
async def test_a_stream_left_in_a_raw_response(
    mode: Mode, events: Events, server: Loopback
) -> None:
    """A stream that the app parsed itself is told where the response is closed around it."""
    server.script(chat_stream(chat_chunks(Answer("Hello there friend", usage=None))))
    client = client_of(server, mode)
    create: Any = client.chat.completions.with_streaming_response.create
    kept: list[Any] = []
    async with entered(create(model="m", messages=LOOKED[:1], stream=True)) as response:
        kept.append(await settled(response.parse()))
        async for piece in pieces(kept[0]):
            if piece.choices[0].delta.content:
                break
    assert events.one("Generation").get("status") == "incomplete"
    await close_client(client)


@needs("responses")
@BOTH
@pytest.mark.parametrize("read", [True, False])
async def test_a_background_answer_in_a_raw_response(
    mode: Mode, read: bool, events: Events, server: Loopback
) -> None:
    """An answer that is fetched so is told if it is read; if not, the app may fetch it again."""
    answer = Answer("All trams run.", id="resp_9")
    server.script(
        json_reply(response_object(answer, status="queued")), json_reply(response_object(answer))
    )
    client = client_of(server, mode)
    await settled(client.responses.create(model="m", input="Do they run?", background=True))
    retrieve = client.responses.with_streaming_response.retrieve
    async with entered(retrieve("resp_9")) as response:
        if read:
            await settled(response.read())
    await close_client(client)
    told = [("Generation", "All trams run.")] if read else []
    assert [(one.event, one.text) for one in events] == [("Prompt", "Do they run?"), *told]


@needs("responses")
@pytest.mark.parametrize("kind", ["refusal", "audio.transcript"])
async def test_what_is_no_plain_text(kind: str, events: Events, server: Loopback) -> None:
    """What came of a refusal, or of what is spoken, is told where the stream breaks off."""
    whole = response_events(Answer("No, never"))
    kinds = [{**one, "type": one["type"].replace("output_text", kind)} for one in whole]
    end = next(at for at, one in enumerate(kinds) if one["type"] == f"response.{kind}.done")
    server.script(response_stream(kinds[:end]))
    client = client_of(server, "sync")
    assert list(client.responses.create(model="m", input="Hi", stream=True))
    client.close()
    assert events.one("Generation", status="incomplete").text == "No, never"


@needs("responses")
async def test_a_stream_whose_beginning_is_missing(events: Events, server: Loopback) -> None:
    """Where a response goes on with "in progress", that names it, too."""
    server.script(response_stream(response_events(Answer("Half of it", id="resp_7"))[1:6]))
    client = client_of(server, "sync")
    assert list(client.responses.create(model="m", input="Hi", stream=True))
    client.close()
    left = events.one("Generation", status="incomplete")
    assert (left.generation_id, left.get("response_model")) == ("resp_7", Answer("").model)


@needs("responses")
async def test_a_stored_prompt_that_breaks_off(events: Events, server: Loopback) -> None:
    """Where the app names no model, the one that had begun to answer has failed."""
    whole = response_stream(response_events(Answer("Half of it", id="resp_7")))
    server.script(Reply(headers=whole.headers, steps=[*whole.steps[:4], RESET], chunked=True))
    client = client_of(server, "sync")
    with pytest.raises(Exception, match=r"."):
        list(client.responses.create(prompt={"id": "pmpt_1"}, stream=True))
    client.close()
    assert events.one("Generation failed").assistant_id == Answer("").model
