"""What apps do with streams, odd as it may be: the same without us, and one end each."""

from __future__ import annotations

import asyncio
import copy
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import chat_chunks, chat_completion

from tests.openai.asking import MODES, Mode, client_of, close_client, pieces, settled
from tests.replies import Gate, Reply, chat_stream, json_reply
from tests.told import told
from trubrics_instrument import context, flush, patch_openai, stats
from trubrics_instrument._observing.stream import AsyncPieces, Pieces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("mode", MODES)
TEXT = "One two three"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def patched() -> None:
    """Put the patch on."""
    patch_openai(user_id="ada", thread_id="t-1")


def ends(sink: Sink) -> list[tuple[str, Any, Any]]:
    """Return what is told besides the Prompts: event, text and status."""
    assert flush(5)
    assert stats().faults == {}
    return [
        (event["event"], event["properties"].get("$text"), event["properties"].get("status"))
        for event in sink.events
        if event["event"] != "Prompt"
    ]


WHOLE = [("Generation", TEXT, "ok")]
FIRST = [("Generation", "One ", "incomplete")]


async def opened(client: Any, **more: Any) -> Any:
    """Ask for a stream."""
    return await settled(client.chat.completions.create(**ASK, stream=True, **more))


async def take(stream: Any, count: int) -> None:
    """Take so many pieces."""
    for _ in range(count):
        await settled(stream.__anext__() if hasattr(stream, "__anext__") else next(stream))


@BOTH
async def test_left_and_closed_again_and_again(mode: Mode, sink: Sink, server: Loopback) -> None:
    """A stream that is left as a context manager, and closed twice more, has one end."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    client = client_of(server, mode)
    stream = await opened(client)
    if mode == "sync":
        with stream:
            await take(stream, 2)
    else:
        async with stream:
            await take(stream, 2)
    for _ in range(2):
        await close_client(stream)
    await close_client(client)
    assert ends(sink) == FIRST


@BOTH
async def test_read_after_its_end(mode: Mode, sink: Sink, server: Loopback) -> None:
    """Whoever asks a stream for more, after its end and after closing it, ends nothing again."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    client = client_of(server, mode)
    stream = await opened(client)
    assert len([piece async for piece in pieces(stream)]) == 5
    for _ in range(2):
        with pytest.raises((StopIteration, StopAsyncIteration)):
            await take_one(stream)
        await close_client(stream)
    await close_client(client)
    assert ends(sink) == WHOLE


async def take_one(stream: Any) -> None:
    """Take one piece, whose absence is no error of a coroutine's."""
    if hasattr(stream, "__anext__"):
        await stream.__anext__()
        return
    if next(stream, None) is None:
        raise StopAsyncIteration


@BOTH
async def test_two_readers_at_once(mode: Mode, sink: Sink, server: Loopback) -> None:
    """A second reader is refused while the first one waits, and the stream goes on."""
    gate = Gate()
    chunks = chat_chunks(TEXT)
    server.script(chat_stream([*chunks[:2], gate, *chunks[2:]]))
    client = client_of(server, mode)
    stream = await opened(client)
    await take(stream, 2)
    rest: list[Any] = []
    if mode == "sync":
        thread = threading.Thread(target=lambda: rest.extend(stream))
        thread.start()
        while not stream._iterator._inner.gi_running:
            pass
        with pytest.raises(ValueError, match="already executing"):
            next(stream)
        gate.open()
        thread.join()
    else:
        reading = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await stream.__anext__()
        gate.open()
        rest = [await reading, *[piece async for piece in stream]]
    await close_client(client)
    assert len(rest) == 3
    assert ends(sink) == WHOLE


def test_passed_from_thread_to_thread(sink: Sink, server: Loopback) -> None:
    """Asked in one thread, each piece read in another, closed in a third: one end, its user's."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    client = client_of(server, "sync")
    streams: list[Any] = []

    def run(step: Any) -> None:
        with context(user_id="somebody else"):
            thread = threading.Thread(target=step)
            thread.start()
            thread.join()

    def ask() -> None:
        with context(user_id="bob"):
            streams.append(client.chat.completions.create(**ASK, stream=True))

    run(ask)
    for _ in range(2):
        run(lambda: next(streams[0]))
    run(streams[0].close)
    client.close()
    assert ends(sink) == FIRST
    assert {event["user_id"] for event in sink.events} == {"bob"}


@BOTH
@pytest.mark.parametrize("how", ["closed", "dropped"])
async def test_a_generator_of_the_apps(how: str, mode: Mode, sink: Sink, server: Loopback) -> None:
    """A generator of the app's that hands pieces on, and is left half way, ends its stream."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    client = client_of(server, mode)

    def hand_on() -> Generator[Any]:
        yield from client.chat.completions.create(**ASK, stream=True)

    async def hand_on_async() -> AsyncGenerator[Any]:
        async for piece in await client.chat.completions.create(**ASK, stream=True):
            yield piece

    handing: Any = hand_on() if mode == "sync" else hand_on_async()
    await take(handing, 2)
    if how == "closed":
        await settled(handing.aclose() if mode == "async" else handing.close())
    del handing
    # The loop closes generators that are dropped, one after the other.
    for _ in range(5):
        gc.collect()
        await asyncio.sleep(0)
    await close_client(client)
    assert ends(sink) == FIRST


@BOTH
async def test_copied(mode: Mode, sink: Sink, server: Loopback) -> None:
    """A copy shares the pieces of its stream; they are told once."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    client = client_of(server, mode)
    stream = await opened(client)
    await take(stream, 2)
    other = copy.copy(stream)
    del stream
    gc.collect()
    assert ends(sink) == []
    assert len([piece async for piece in pieces(other)]) == 3
    await close_client(client)
    assert ends(sink) == WHOLE


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@BOTH
async def test_the_apps_own_error(
    error: type[BaseException], mode: Mode, sink: Sink, server: Loopback
) -> None:
    """What the app raises between two pieces passes, and leaves the stream as incomplete."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    client = client_of(server, mode)

    async def read() -> None:
        stream = await opened(client)
        try:
            await take(stream, 2)
            raise error("the app's")
        finally:
            await close_client(stream)

    with pytest.raises(error, match="the app's"):
        await read()
    await close_client(client)
    assert ends(sink) == FIRST


@BOTH
@pytest.mark.parametrize("include_usage", [False, True])
async def test_usage_is_asked_for_by_the_app_alone(
    include_usage: bool, mode: Mode, sink: Sink, server: Loopback
) -> None:
    """Tokens of a stream are told where the app asks for them; the request stays as it is."""
    more: Any = {"stream_options": {"include_usage": True}} if include_usage else {}
    server.always(lambda _: chat_stream(chat_chunks(TEXT, include_usage=include_usage)))
    client = client_of(server, mode)
    stream = await opened(client, **more)
    assert [piece async for piece in pieces(stream)]
    await close_client(client)
    assert server.requests[0].json == {**ASK, "stream": True, **more}
    tokens = [one.get("total_tokens") for one in told(sink, 2)]
    assert tokens == [None, 21 if include_usage else None]
    assert ends(sink) == WHOLE


@BOTH
async def test_asking_while_a_stream_is_read(mode: Mode, sink: Sink, server: Loopback) -> None:
    """Calls between the pieces of a stream are their own; so is one that an HTTP hook makes."""
    server.always(
        lambda request: (
            chat_stream(chat_chunks(TEXT))
            if request.json.get("stream")
            else json_reply(chat_completion("Inner"))
        )
    )
    client = client_of(server, mode)
    asked: list[Any] = []

    async def ask_once(*_: object) -> None:
        if not asked:
            asked.append(None)
            with context(user_id="hook"):
                await settled(client.chat.completions.create(**ASK))

    def hook(*_: object) -> None:
        if not asked:
            asked.append(None)
            with context(user_id="hook"):
                client.chat.completions.create(**ASK)

    kind = client._client.__class__
    hooked = kind(event_hooks={"response": [hook if mode == "sync" else ask_once]})
    outer = client_of(server, mode, http_client=hooked)
    stream = await opened(outer)
    async for _ in pieces(stream):
        with context(user_id="loop"):
            await settled(client.chat.completions.create(**ASK))
    for one in (client, outer):
        await close_client(one)
    assert ends(sink)[-1:] == WHOLE
    heard = sorted(
        (event["user_id"], event["event"], event["properties"]["$text"]) for event in sink.events
    )
    assert heard == [
        ("ada", "Generation", TEXT),
        ("ada", "Prompt", "Hi"),
        ("hook", "Generation", "Inner"),
        ("hook", "Prompt", "Hi"),
        *[("loop", "Generation", "Inner")] * 5,
        *[("loop", "Prompt", "Hi")] * 5,
    ]


@BOTH
async def test_a_very_long_stream(mode: Mode, sink: Sink, server: Loopback) -> None:
    """Ten thousand pieces are one text; what is cut of it is said."""
    server.always(lambda _: chat_stream(chat_chunks("word " * 10_000)))
    client = client_of(server, mode)
    stream = await opened(client)
    count = 0
    async for _ in pieces(stream):
        count += 1
    await close_client(client)
    assert count == 10_002
    generation = told(sink, 2)[1]
    assert generation["text_truncated"] is True
    assert generation["$text"] == ("word " * 10_000)[:20_000]


def test_what_was_never_made_whole_goes_without_a_sound() -> None:
    """Ctrl-C may come while it is made; what a destructor raises then would be shown."""
    shown: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", shown.append)
        for kind in (Pieces, AsyncPieces):
            kind.__new__(kind)
    assert shown == []


async def test_time_runs_out_between_two_pieces(sink: Sink, server: Loopback) -> None:
    """`wait_for` around one piece stops the stream, as ever: it is incomplete."""
    gate = Gate()
    chunks = chat_chunks(TEXT)
    server.script(chat_stream([*chunks[:2], gate, *chunks[2:]]))
    client = client_of(server, "async")
    stream = await opened(client)
    await take(stream, 2)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(stream.__anext__(), 0.01)
    gate.open()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    await close_client(client)
    assert ends(sink) == FIRST


async def test_tasks_at_once(sink: Sink, server: Loopback) -> None:
    """Of tasks that ask at once each has its own user; the one that is cancelled is incomplete."""
    gate = Gate()

    def reply(request: Any) -> Reply:
        waits = request.json["messages"][0]["content"] == "Wait"
        return Reply(before=gate) if waits else chat_stream(chat_chunks(TEXT))

    server.always(reply)
    client = client_of(server, "async")

    async def ask(user: str, text: str) -> None:
        with context(user_id=user, thread_id=user):
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}], stream=True
            )
            assert [piece async for piece in stream]

    waiting = asyncio.ensure_future(ask("dan", "Wait"))
    await asyncio.gather(*(ask(user, "Hi") for user in ("bob", "cid")))
    await asyncio.to_thread(gate.reached.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open()
    await close_client(client)
    assert flush(5)
    heard = {
        (event["user_id"], event["event"], event["properties"].get("status"))
        for event in sink.events
    }
    assert heard == {
        *[(user, "Prompt", None) for user in ("bob", "cid", "dan")],
        *[(user, "Generation", "ok") for user in ("bob", "cid")],
        ("dan", "Generation", "incomplete"),
    }


def test_a_loop_that_is_gone(sink: Sink, server: Loopback) -> None:
    """An asynchronous stream that outlives its loop, and is dropped then, is incomplete."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    streams: list[Any] = []

    async def begin() -> None:
        client = client_of(server, "async")
        streams.append(await opened(client))
        await take(streams[0], 2)
        await close_client(client)

    asyncio.run(begin())
    streams.clear()
    gc.collect()
    assert ends(sink) == FIRST


async def test_never_awaited(sink: Sink, server: Loopback) -> None:
    """A call that is never awaited has asked nothing."""
    client = client_of(server, "async")
    client.chat.completions.create(**ASK, stream=True).close()
    await close_client(client)
    assert ends(sink) == []
    assert sink.events == []


def test_the_kind_of_a_stream(server: Loopback) -> None:
    """A stream is the SDK's own, whole: its class, its fields, its methods."""
    server.always(lambda _: chat_stream(chat_chunks(TEXT)))
    with client_of(server, "sync") as client:
        stream: Any = client.chat.completions.create(**ASK, stream=True)
        kind: Any = openai.Stream
        assert type(stream) is kind
        assert iter(stream._iterator) is stream._iterator
        assert sys.getsizeof(stream) > 0
        stream.close()
