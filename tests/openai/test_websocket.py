"""Responses over a WebSocket, on a loopback WebSocket server."""

from __future__ import annotations

import gc
from collections import UserDict
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.openai.asking import Mode, entered, settled
from tests.openai.websockets import (
    BOTH,
    ON_A_WEBSOCKET,
    answer_of,
    ask,
    by_user,
    client_of,
    create,
    play,
    session_over,
    websocket_server,
)
from tests.told import told
from trubrics_instrument import context, flush, patch_openai, suppress, unpatch_openai
from trubrics_instrument._base import shield
from trubrics_instrument.providers.openai._responses import ResponsesReader

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = ON_A_WEBSOCKET


@BOTH
async def test_questions_and_answers(mode: Mode, sink: Sink) -> None:
    """Each question and answer over one connection is a Prompt and a Generation."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with context(user_id="ada", thread_id="t-1"):
                assert await ask(connection, "one") == "ONE"
            with suppress():
                assert await ask(connection, "hidden") == "HIDDEN"
            with context(user_id="bob", thread_id="t-2"):
                assert await ask(connection, "two", lane="b") == "TWO"
        await settled(client.close())
    events = told(sink, 4)
    assert [(one["event"], one["user_id"], one["$text"]) for one in events] == [
        ("Prompt", "ada", "one"),
        ("Generation", "ada", "ONE"),
        ("Prompt", "bob", "two"),
        ("Generation", "bob", "TWO"),
    ]
    assert [one.get("$generation_id") for one in events] == [None, "resp_1", None, "resp_3"]
    assert [one.get("total_tokens") for one in events] == [None, 21, None, 21]
    assert all(one["stream"] for one in events)


@BOTH
async def test_an_event_that_is_an_object(mode: Mode, sink: Sink) -> None:
    """An event of the SDK's classes is read as it is: it warns no more often than without us."""
    events: Any = pytest.importorskip("openai.types.responses.responses_client_event")
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            # openai 2.54 has one class for whatever is sent, 3.x one for each.
            kind = getattr(events, "ResponseCreate", events.ResponsesClientEvent)
            event = kind(**create("one"), metadata={"trubrics_user_id": "ada"})
            event.include = iter(["reasoning.encrypted_content"])
            with pytest.warns(UserWarning, match="serializer") as warned:
                await settled(connection.send(event))
            assert await answer_of(connection) == "ONE"
        await settled(client.close())
    assert len([one for one in warned if "serializer" in str(one.message)]) == 1
    assert by_user(sink, 2) == {"ada": [("Prompt", "one"), ("Generation", "ONE")]}


@BOTH
async def test_an_event_that_is_a_mapping(mode: Mode, sink: Sink) -> None:
    """An event may be any mapping that the SDK takes, and not only a dict."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            await settled(connection.send(UserDict(create("one"))))
            assert await answer_of(connection) == "ONE"
        await settled(client.close())
    assert by_user(sink, 2) == {"anon 1": [("Prompt", "one"), ("Generation", "ONE")]}


@BOTH
async def test_fields_that_are_not_sent(mode: Mode, sink: Sink) -> None:
    """The SDK's marks of a field that is left out are no user and no model."""
    patch_openai()
    marks = [openai.NOT_GIVEN, getattr(openai, "omit", openai.NOT_GIVEN)]  # the newer is newer
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            for mark in marks:
                event = {**create("one"), "user": mark, "safety_identifier": mark}
                await settled(connection.send(event))
                assert await answer_of(connection) == "ONE"
        await settled(client.close())
    assert all(one["anonymous"] for one in told(sink, 4))


@BOTH
async def test_queued_before_the_connection(mode: Mode, sink: Sink) -> None:
    """What a manager sends before it connects is asked then, by whoever asks then."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        manager = client.responses.connect()
        with context(user_id="ada", thread_id="t-1"):
            manager.send(create("one"))
        with suppress():
            manager.send(create("hidden"))
        with context(user_id="bob", thread_id="t-2"):
            manager.send(create("two"))
        assert [one["event"] for one in told(sink, 2)] == ["Prompt", "Prompt"]
        async with entered(manager) as connection:
            for answer in ("ONE", "HIDDEN", "TWO"):
                assert await answer_of(connection) == answer
            with context(user_id="cid", thread_id="t-3"):
                assert await ask(connection, "three") == "THREE"
        await settled(client.close())
    assert by_user(sink, 6) == {
        "ada": [("Prompt", "one"), ("Generation", "ONE")],
        "bob": [("Prompt", "two"), ("Generation", "TWO")],
        "cid": [("Prompt", "three"), ("Generation", "THREE")],
    }


@BOTH
async def test_never_connected(mode: Mode, sink: Sink) -> None:
    """A manager that is dropped before it connects ends its questions as incomplete."""
    patch_openai()
    client = client_of(mode, "ws://127.0.0.1:9")
    manager = client.responses.connect(max_queue_size=100)
    manager.send(create("one"))
    with context(user_id="ada"), pytest.raises(Exception, match="queue is full"):
        manager.send(create("long" * 100))
    del manager
    gc.collect()
    await settled(client.close())
    assert [(one["event"], one.get("status"), one.get("error_type")) for one in told(sink, 4)] == [
        ("Prompt", None, None),
        ("Prompt", None, None),
        ("Generation failed", "error", "WebSocketQueueFullError"),
        ("Generation", "incomplete", None),
    ]


@BOTH
async def test_answers_that_nobody_reads(mode: Mode, sink: Sink) -> None:
    """An app that asks on and on and reads no answer is waited for no longer than needed."""
    patch_openai()
    client = client_of(mode, "ws://127.0.0.1:9")
    manager = client.responses.connect()
    for number in range(1_002):
        manager.send(create(str(number)))
    ends = [one["status"] for one in told(sink, 1_004) if one["event"] == "Generation"]
    assert ends == ["incomplete"] * 2
    del manager
    gc.collect()
    await settled(client.close())
    assert len(told(sink, 2_004)) == 2_004


@BOTH
async def test_lanes_of_a_session(mode: Mode, sink: Sink) -> None:
    """What goes through the lanes of a session is told for each lane, though they are mixed up."""
    patch_openai()
    with websocket_server(play(backwards=2)) as url:
        client = client_of(mode, url)
        async with (
            entered(client.responses.connect()) as connection,
            entered(session_over(mode, connection)) as session,
        ):
            asked = {user: session.lane(user) for user in ("ada", "bob")}
            for user, lane in asked.items():
                with context(user_id=user, thread_id=user):
                    await settled(lane.send(create(f"I am {user}")))
            with context(user_id="cid"), pytest.raises(RuntimeError, match="Consume"):
                await settled(asked["bob"].send(create("too early")))
            for lane in reversed(asked.values()):
                assert (await settled(lane.get_final_response())).status == "completed"
        await settled(client.close())
    assert by_user(sink, 6) == {
        "ada": [("Prompt", "I am ada"), ("Generation", "I AM ADA")],
        "bob": [("Prompt", "I am bob"), ("Generation", "I AM BOB")],
        "cid": [("Prompt", "too early"), ("Generation failed", None)],
    }


@BOTH
async def test_a_warm_up(mode: Mode, sink: Sink) -> None:
    """What the server is only to prepare for is no question, and takes no other one's answer."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            warm_up: Any = {**create("a history"), "generate": False}
            await settled(connection.send(warm_up))
            assert await ask(connection, "one") == "A HISTORY"
            assert await answer_of(connection) == "ONE"
        await settled(client.close())
    assert [(one["event"], one["$text"]) for one in told(sink, 2)] == [
        ("Prompt", "one"),
        ("Generation", "ONE"),
    ]


@BOTH
async def test_left_early(mode: Mode, sink: Sink) -> None:
    """A connection that is closed before the answer ends it as incomplete, with the text so far."""
    patch_openai()
    with websocket_server(play(cut_after=5)) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            event = {"type": "response.create", "model": "gpt-4o", "input": "one two three"}
            await settled(connection.send(event))
            for _ in range(5):
                await settled(connection.recv())
        await settled(client.close())
    generation = told(sink, 2)[1]
    assert generation["status"] == "incomplete"
    assert generation["$text"] == "ONE "


@BOTH
async def test_undone(mode: Mode, sink: Sink) -> None:
    """Without the patch nothing is told, not even over a connection made while it was on."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            unpatch_openai()
            assert await ask(connection, "one") == "ONE"
        await settled(client.close())
    assert flush(5)
    assert sink.events == []


@BOTH
async def test_a_question_that_could_not_be_sent(mode: Mode, sink: Sink) -> None:
    """A send that raises ends its question: the next answer is not told as its own."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            unsendable = {
                "type": "response.create",
                "model": "m",
                "input": "one",
                "tools": object(),
            }
            with context(user_id="ada", thread_id="t-1"), pytest.raises(TypeError):
                await settled(connection.send(unsendable))
            with context(user_id="bob", thread_id="t-2"):
                assert await ask(connection, "two") == "TWO"
        await settled(client.close())
    assert [(one["event"], one["user_id"], one.get("$text")) for one in told(sink, 4)] == [
        ("Prompt", "ada", "one"),
        ("Generation failed", "ada", None),
        ("Prompt", "bob", "two"),
        ("Generation", "bob", "TWO"),
    ]


@BOTH
async def test_a_question_that_cannot_be_read(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to nobody, and its answer is not told as the next question's."""

    def broken(*_: object, **__: object) -> Any:
        raise LookupError("a bug of ours")

    shield.set_strict(strict=False)
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with monkeypatch.context() as patched:
                patched.setattr(ResponsesReader, "asked", broken)
                await settled(connection.send(create("one")))
            with context(user_id="bob", thread_id="t-2"):
                await settled(connection.send(create("two")))
            assert [await answer_of(connection) for _ in range(2)] == ["ONE", "TWO"]
        await settled(client.close())
    assert by_user(sink, 2) == {"bob": [("Prompt", "two"), ("Generation", "TWO")]}
