"""Background responses: the question is told at once, the answer when the app comes for it."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer
from responses_wire import response_events, response_object

from tests.openai.asking import MODES, Mode, client_of, close_client, needs, pieces, settled
from tests.replies import RESET, error_reply, json_reply, response_stream
from trubrics_instrument import _runtime, flush, patch_openai
from trubrics_instrument._runtime import MAX_PENDING

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = [pytest.mark.anyio, needs("responses")]

BOTH = pytest.mark.parametrize("mode", MODES)
ANSWER = Answer("All trams run.", id="resp_9")
ASK: dict[str, Any] = {"model": "gpt-4o", "input": "Do the trams run?", "background": True}


def brief(sink: Sink) -> list[tuple[Any, ...]]:
    """Return event, text, status and generation of all events so far."""
    assert flush(5)
    return [
        (
            event["event"],
            event["properties"].get("$text"),
            event["properties"].get("status"),
            event["properties"].get("$generation_id"),
        )
        for event in sink.events
    ]


PROMPT = ("Prompt", "Do the trams run?", None, None)
GENERATION = ("Generation", "All trams run.", "ok", "resp_9")


@BOTH
@pytest.mark.parametrize("raw", [False, True])
async def test_polled(mode: Mode, raw: bool, sink: Sink, server: Loopback) -> None:
    """Polls while it is queued tell nothing, nor do polls that fail; the first whole one does."""
    patch_openai()
    server.script(
        json_reply(response_object(ANSWER, status="queued")),
        json_reply(response_object(ANSWER, status="in_progress")),
        error_reply(500),
        json_reply(response_object(ANSWER)),
        json_reply(response_object(ANSWER)),
    )
    client = client_of(server, mode)
    resource = client.responses.with_raw_response if raw else client.responses
    await settled(resource.create(**ASK))
    assert brief(sink) == [PROMPT]
    await settled(resource.retrieve("resp_9"))
    with pytest.raises(openai.InternalServerError):
        await settled(resource.retrieve("resp_9"))
    assert brief(sink) == [PROMPT]
    await settled(resource.retrieve("resp_9"))
    await settled(resource.retrieve("resp_9"))
    await close_client(client)
    assert brief(sink) == [PROMPT, GENERATION]


@BOTH
@pytest.mark.parametrize("breaks", [True, False], ids=["breaks", "ends early"])
async def test_stream_taken_up_again(
    mode: Mode, breaks: bool, sink: Sink, server: Loopback
) -> None:
    """A background stream that breaks off ends nothing: the app takes it up again by its id."""
    patch_openai()
    events = response_events(ANSWER)
    rest: list[Any] = [0.05, RESET] if breaks else []
    server.script(response_stream([*events[:4], *rest]), response_stream(events))
    client = client_of(server, mode)
    stream = await settled(client.responses.create(**ASK, stream=True))
    with pytest.raises(Exception, match=r"\A") if breaks else nullcontext():
        assert [piece async for piece in pieces(stream)]
    assert brief(sink) == [PROMPT]
    again = await settled(client.responses.retrieve("resp_9", stream=True))
    assert [piece async for piece in pieces(again)]
    await close_client(client)
    assert brief(sink) == [PROMPT, GENERATION]


@BOTH
async def test_called_off(mode: Mode, sink: Sink, server: Loopback) -> None:
    """A response that the app calls off ends as incomplete; deleting one tells nothing."""
    patch_openai()
    server.script(
        json_reply(response_object(ANSWER, status="queued")),
        json_reply({**response_object(ANSWER, status="cancelled"), "output": []}),
        json_reply({}),
    )
    client = client_of(server, mode)
    await settled(client.responses.create(**ASK))
    await settled(client.responses.cancel("resp_9"))
    await settled(client.responses.delete("resp_9"))
    await close_client(client)
    assert brief(sink) == [PROMPT, ("Generation", None, "incomplete", "resp_9")]


@BOTH
async def test_of_another_process(mode: Mode, sink: Sink, server: Loopback) -> None:
    """An answer whose question was asked elsewhere is not ours to tell."""
    patch_openai()
    server.script(json_reply(response_object(ANSWER)))
    client = client_of(server, mode)
    await settled(client.responses.retrieve("resp_elsewhere"))
    await close_client(client)
    assert brief(sink) == []


async def test_more_than_are_remembered(sink: Sink, server: Loopback) -> None:
    """Of questions whose answers nobody fetches, the oldest is forgotten: memory has a bound."""
    patch_openai()
    ids = [f"resp_{number}" for number in range(MAX_PENDING + 1)]
    queued = [response_object(Answer("", id=one), status="queued") for one in ids]
    server.script(*(json_reply(one) for one in queued))
    client = client_of(server, "sync")
    for _ in ids:
        client.responses.create(**ASK)
    assert len(_runtime.state().pending) == MAX_PENDING
    for one in (ids[0], ids[1], ids[-1]):
        server.script(json_reply(response_object(Answer("Yes", id=one))))
        client.responses.retrieve(one)
    await close_client(client)
    ends = [event for event in brief(sink) if event[0] != "Prompt"]
    assert ends == [
        ("Generation", None, "incomplete", ids[0]),
        *(("Generation", "Yes", "ok", one) for one in (ids[1], ids[-1])),
    ]


@BOTH
async def test_an_address_in_full(mode: Mode, sink: Sink, server: Loopback) -> None:
    """The answer may be asked for, and the question called off, by an address in full."""
    patch_openai()
    server.always(lambda _: json_reply(response_object(ANSWER)))
    server.script(json_reply(response_object(ANSWER, status="queued")))
    client = client_of(server, mode)
    await settled(client.responses.create(**ASK))
    address = f"{server.base_url}/responses/{ANSWER.id}"
    await settled(client.get(address, cast_to=object))
    server.script(json_reply(response_object(ANSWER, status="queued")))
    await settled(client.responses.create(**ASK | {"input": "And the trains?"}))
    server.script(json_reply(response_object(ANSWER, status="cancelled")))
    await settled(client.post(f"{address}/cancel", cast_to=object))
    await close_client(client)
    trains = ("Prompt", "And the trains?", None, None)
    called_off = ("Generation", "All trams run.", "incomplete", "resp_9")
    assert brief(sink) == [PROMPT, GENERATION, trains, called_off]


async def test_a_stream_that_truly_ends_early(sink: Sink, server: Loopback) -> None:
    """A background answer that is cut short is told at once: no more of it will come."""
    patch_openai()
    cut_short = Answer("All trams", id="resp_9", finish_reason="length")
    server.script(response_stream(response_events(cut_short)))
    client = client_of(server, "sync")
    assert list(client.responses.create(**ASK, stream=True))
    await close_client(client)
    assert brief(sink) == [PROMPT, ("Generation", "All trams", "incomplete", "resp_9")]


async def test_a_stream_that_fails(sink: Sink, server: Loopback) -> None:
    """A background answer that fails in its stream has failed: nobody waits for it any more."""
    patch_openai()
    error = {"type": "error", "code": "server_error", "message": "no", "sequence_number": 4}
    server.script(response_stream([*response_events(ANSWER)[:4], error]))
    client = client_of(server, "sync")
    with suppress(openai.APIError):
        assert list(client.responses.create(**ASK, stream=True))
    await close_client(client)
    assert [event[0] for event in brief(sink)] == ["Prompt", "Generation failed"]


@pytest.mark.parametrize("breaks", [True, False], ids=["breaks", "ends early"])
async def test_a_stream_without_an_id(breaks: bool, sink: Sink, server: Loopback) -> None:
    """A background stream that ends before it names its answer ends its turn: nobody can ask on."""
    patch_openai()
    queued = {"type": "response.queued", "sequence_number": 0}
    rest: list[Any] = [0.05, RESET] if breaks else []
    server.script(response_stream([queued, *rest]))
    client = client_of(server, "sync")
    with pytest.raises(Exception, match=r"\A") if breaks else nullcontext():
        assert list(client.responses.create(**ASK, stream=True))
    await close_client(client)
    end = ("Generation failed", None, "error") if breaks else ("Generation", None, "incomplete")
    assert [event[:3] for event in brief(sink)] == [PROMPT[:3], end]


async def test_a_stream_that_breaks_at_once(sink: Sink, server: Loopback) -> None:
    """An answer that is asked for by its id stays awaited, though its stream breaks at once."""
    patch_openai()
    server.script(
        json_reply(response_object(ANSWER, status="queued")),
        response_stream([0.05, RESET]),
        json_reply(response_object(ANSWER)),
    )
    client = client_of(server, "sync")
    client.responses.create(**ASK)
    with pytest.raises(Exception, match=r"\A"):
        list(client.responses.retrieve("resp_9", stream=True))
    client.responses.retrieve("resp_9")
    await close_client(client)
    assert brief(sink) == [PROMPT, GENERATION]
