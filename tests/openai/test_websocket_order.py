"""Over a WebSocket an answer is told as that to its own question, whatever happens on the way."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.openai.asking import Mode, entered, pieces, settled
from tests.openai.websockets import (
    BOTH,
    ON_A_WEBSOCKET,
    HeldBack,
    answer_of,
    ask,
    asked_by,
    by_user,
    client_of,
    create,
    ends,
    events_of,
    pair,
    play,
    refusal,
    refuse_once,
    scripted,
    websocket_server,
)
from tests.told import told
from trubrics_instrument import configure, patch_openai, suppress, unpatch_openai
from trubrics_instrument._base import shield
from trubrics_instrument.providers.openai import _websocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.sync.server import ServerConnection

    from tests.sink import Sink

pytestmark = ON_A_WEBSOCKET


def keeps_what_fails() -> bool:
    """Whether this SDK puts a message that it could not send back into its queue."""
    queue: Any = pytest.importorskip("openai._send_queue")
    return "requeue_failed" not in inspect.signature(queue.SendQueue.flush_sync).parameters


@BOTH
async def test_a_failed_first_flush(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that fails when the manager connects takes no answer from the next questions."""
    patch_openai()
    refuse_once(monkeypatch, mode, "ada")
    with websocket_server() as url:
        client = client_of(mode, url)
        manager = client.responses.connect()
        for user in ("ada", "bob"):
            with asked_by(user):
                manager.send(create(f"I am {user}"))
        async with entered(manager) as connection:
            with asked_by("cid"):
                await settled(connection.send(create("I am cid")))
            heard = ["I AM CID"] if keeps_what_fails() else ["I AM BOB", "I AM CID"]
            assert [await answer_of(connection) for _ in heard] == heard
        await settled(client.close())
    unsent: Any = [("Prompt", "I am bob"), ("Generation", None)]
    failed = ("Generation", None) if keeps_what_fails() else ("Generation failed", None)
    assert by_user(sink, 6) == {
        "ada": [("Prompt", "I am ada"), failed],
        "bob": unsent if keeps_what_fails() else pair("I am bob"),
        "cid": pair("I am cid"),
    }
    waits = ("incomplete", None)
    assert ends(sink, 6) == {
        "ada": waits if keeps_what_fails() else ("error", "OSError"),
        "bob": waits if keeps_what_fails() else ("ok", None),
        "cid": ("ok", None),
    }


def cut(after: int | None = None, asked: int = 1) -> Callable[[ServerConnection], None]:
    """Return a server that goes away after the first answer, or so many of its events."""

    def answer(connection: ServerConnection) -> None:
        first, *_ = [json.loads(connection.recv()) for _ in range(asked)]
        for event in events_of(first, 1)[:after]:
            connection.send(json.dumps(event))
        connection.close(1011)

    return answer


async def next_answers(connection: Any, count: int) -> list[str]:
    """Read so many answers in one loop over the connection, which may connect again."""
    heard: list[str] = []
    async for event in pieces(connection):
        if event.type == "response.completed":
            heard.append(event.response.output_text)
            if len(heard) == count:
                return heard
    raise AssertionError("the connection ended before the answers")


def while_reconnecting(client: Any, mode: Mode, user: str) -> tuple[Any, list[Any]]:
    """Return a manager that connects again, and asks then; and where its connection must be put."""
    connections: list[Any] = []
    sending: list[Any] = []

    def queue(_: Any) -> None:
        with asked_by(user):
            sent = connections[0].send(create(f"I am {user}"))
            sending.append(asyncio.ensure_future(sent) if mode == "async" else sent)

    manager = client.responses.connect(on_reconnecting=queue, initial_delay=0.01)
    return manager, connections


@BOTH
async def test_connected_again(mode: Mode, sink: Sink) -> None:
    """What the old connection owed is ended; what was queued meanwhile is answered on the new."""
    patch_openai()
    with websocket_server(cut(after=5, asked=2), play()) as url:
        client = client_of(mode, url)
        manager, connections = while_reconnecting(client, mode, "cid")
        async with entered(manager) as connection:
            connections.append(connection)
            for user in ("ada", "bob"):
                with asked_by(user):
                    await settled(connection.send(create(f"I am {user}")))
            assert await next_answers(connection, 1) == ["I AM CID"]
            with asked_by("dan"):
                assert await ask(connection, "I am dan") == "I AM DAN"
        await settled(client.close())
    assert by_user(sink, 8) == {
        "ada": [("Prompt", "I am ada"), ("Generation failed", "I ")],
        "bob": [("Prompt", "I am bob"), ("Generation failed", None)],
        "cid": pair("I am cid"),
        "dan": pair("I am dan"),
    }
    lost = ("error", "ConnectionClosedError")
    fine = ("ok", None)
    assert ends(sink, 8) == {"ada": lost, "bob": lost, "cid": fine, "dan": fine}


@BOTH
async def test_a_message_that_is_sent_again(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that failed, but that the SDK sends again, keeps the place of its answer."""
    patch_openai()
    refuse_once(monkeypatch, mode, "bob")
    with websocket_server(cut(), play()) as url:
        client = client_of(mode, url)
        manager, connections = while_reconnecting(client, mode, "cid")
        async with entered(manager) as connection:
            connections.append(connection)
            with asked_by("ada"):
                assert await ask(connection, "I am ada") == "I AM ADA"
            with asked_by("bob"), pytest.raises(OSError, match="no"):
                await settled(connection.send(create("I am bob")))
            heard = ["I AM BOB", "I AM CID"] if keeps_what_fails() else ["I AM CID"]
            assert await next_answers(connection, len(heard)) == heard
        await settled(client.close())
    assert by_user(sink, 6) == {
        "ada": pair("I am ada"),
        "bob": [("Prompt", "I am bob"), ("Generation failed", None)],
        "cid": pair("I am cid"),
    }


@BOTH
@pytest.mark.parametrize("off", ["undone", "disabled", "suppressed"])
@pytest.mark.parametrize("read_while_off", [False, True])
async def test_off_and_on_again(read_while_off: bool, off: str, mode: Mode, sink: Sink) -> None:
    """What was asked while nobody looked is told to nobody, and keeps its place all the same."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"):
                await settled(connection.send(create("I am ada")))
            told(sink, 1)
            if off == "undone":
                unpatch_openai()
            elif off == "disabled":
                configure(host=sink.host, enabled=False)
            with suppress() if off == "suppressed" else asked_by("bob"):
                await settled(connection.send(create("hidden")))
                heard = [await answer_of(connection)] if read_while_off else []
            if off == "undone":
                patch_openai()
            elif off == "disabled":
                configure(host=sink.host)
            with asked_by("cid"):
                await settled(connection.send(create("I am cid")))
            while len(heard) < 3:
                heard.append(await answer_of(connection))
            assert heard == ["I AM ADA", "HIDDEN", "I AM CID"]
        await settled(client.close())
    n = 3 if off == "disabled" and read_while_off else 4
    assert by_user(sink, n) == {
        "ada": pair("I am ada") if n == 4 else [("Prompt", "I am ada")],
        "cid": pair("I am cid"),
    }


@BOTH
async def test_queued_before_the_patch(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited to be sent before the patch keeps its place, though it goes out with others."""
    refuse_once(monkeypatch, mode, "one")
    with websocket_server() as url:
        client = client_of(mode, url)
        manager = client.responses.connect()
        for text in ("one", "two"):
            manager.send(create(text))
        async with entered(manager) as connection:
            patch_openai()
            with asked_by("ada"):
                await settled(connection.send(create("I am ada")))
            heard = ["I AM ADA"] if keeps_what_fails() else ["TWO", "I AM ADA"]
            assert [await answer_of(connection) for _ in heard] == heard
        await settled(client.close())
    assert by_user(sink, 2) == {"ada": pair("I am ada")}


@BOTH
async def test_closed_before_it_was_sent(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be sent when the app closes the connection is incomplete."""
    patch_openai()
    refuse_once(monkeypatch, mode, "ada")
    with websocket_server() as url:
        client = client_of(mode, url)
        manager = client.responses.connect()
        for user in ("ada", "bob"):
            with asked_by(user):
                manager.send(create(f"I am {user}"))
        async with entered(manager):
            pass
        assert ends(sink, 4)["bob"] == ("incomplete", None)
        await settled(client.close())


@BOTH
async def test_an_error_after_it_was_sent(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that raises although it has sent the question, is answered like any other."""
    resource: Any = pytest.importorskip("openai.resources.responses.responses")
    kind: Any = getattr(resource, f"{'' if mode == 'sync' else 'Async'}ResponsesConnection")
    sending = kind.send

    def send(connection: Any, event: Any) -> None:
        sending(connection, event)
        raise OSError("of another message")

    async def send_async(connection: Any, event: Any) -> None:
        await sending(connection, event)
        raise OSError("of another message")

    monkeypatch.setattr(kind, "send", send if mode == "sync" else send_async)
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"), pytest.raises(OSError, match="another"):
                await settled(connection.send(create("I am ada")))
            assert await answer_of(connection) == "I AM ADA"
        await settled(client.close())
    unpatch_openai()
    assert by_user(sink, 2) == {"ada": pair("I am ada")}


@BOTH
async def test_raw_messages(mode: Mode, sink: Sink) -> None:
    """What is sent and taken as plain messages is told like any other."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            for user, kind in (("ada", str), ("bob", str.encode)):
                with asked_by(user):
                    question = json.dumps(create(f"I am {user}"))
                    await settled(connection.send_raw(kind(question)))
            with asked_by("nobody"):
                await settled(connection.send_raw('{"type": "response.create'))
            answered = 0
            while answered < 1:
                answered += b"response.completed" in await settled(connection.recv_bytes())
            assert await answer_of(connection) == "I AM BOB"
        await settled(client.close())
    assert by_user(sink, 4) == {"ada": pair("I am ada"), "bob": pair("I am bob")}


@BOTH
async def test_what_asks_nothing(mode: Mode, sink: Sink) -> None:
    """Any other event is no question, also where its words look like one."""
    patch_openai()
    other = {"type": "response.cancel", "event_id": "response.create"}
    with websocket_server(scripted(lambda asked: events_of(asked[2], 1), asked=3)) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            await settled(connection.send(other))
            await settled(connection.send_raw(json.dumps(other)))
            with asked_by("ada"):
                assert await ask(connection, "I am ada") == "I AM ADA"
        await settled(client.close())
    assert by_user(sink, 2) == {"ada": pair("I am ada")}


def test_queued_where_nobody_asks() -> None:
    """What the SDK queues without a question costs no fault."""
    queues: Any = pytest.importorskip("openai._send_queue")
    patch_openai()
    queue = queues.SendQueue()
    queue.enqueue('{"type": "response.cancel"}')
    assert len(queue) == 1


@BOTH
async def test_connected_before_the_patch(mode: Mode, sink: Sink) -> None:
    """A connection from before the patch is observed from the next question on."""
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            await settled(connection.send(create("unseen")))
            for _ in range(5):
                await settled(connection.recv())
            patch_openai()
            assert await answer_of(connection) == "UNSEEN"
            with asked_by("ada"):
                assert await ask(connection, "I am ada") == "I AM ADA"
        await settled(client.close())
    assert by_user(sink, 2) == {"ada": pair("I am ada")}


@BOTH
async def test_two_connections_of_one_manager(mode: Mode, sink: Sink) -> None:
    """Each connection has answers of its own, though both share the queue of their manager."""
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        manager = client.responses.connect()
        async with entered(manager) as first:
            with asked_by("ada"):
                await settled(first.send(create("I am ada")))
            async with entered(manager) as second:
                with asked_by("bob"):
                    assert await ask(second, "I am bob") == "I AM BOB"
                assert await answer_of(first) == "I AM ADA"
                await settled(first.close())
        await settled(client.close())
    assert by_user(sink, 4) == {"ada": pair("I am ada"), "bob": pair("I am bob")}


@BOTH
@pytest.mark.parametrize(
    "case", ["refused", "in the middle", "the next one's", "which?", "given up"]
)
async def test_errors(case: str, mode: Mode, sink: Sink) -> None:
    """An error ends the question that it answers: what comes next shows which one that was."""

    def errors(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first, second = (events_of(one, number) for number, one in enumerate(asked))
        return {
            "refused": [refusal(), *second],
            "in the middle": [*first[:5], refusal(), *second],
            "the next one's": [*first[:5], refusal(), *first[5:]],
            "which?": [*first[:5], refusal()],
            "given up": [*first[:5], *second],
        }[case]

    patch_openai()
    with websocket_server(scripted(errors, asked=2)) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            for user in ("ada", "bob"):
                with asked_by(user):
                    await settled(connection.send(create(f"I am {user}")))
            if case == "which?":
                while (await settled(connection.recv())).type != "error":
                    pass
            else:
                await answer_of(connection)
        await settled(client.close())
    begun, refused = "incomplete", ("error", "bad_model")
    assert (
        ends(sink, 4)
        == {
            "refused": {"ada": refused, "bob": ("ok", None)},
            "in the middle": {"ada": refused, "bob": ("ok", None)},
            "the next one's": {"ada": ("ok", None), "bob": refused},
            "which?": {"ada": (begun, None), "bob": (begun, None)},
            "given up": {"ada": (begun, None), "bob": ("ok", None)},
        }[case]
    )
    texts = {one["user_id"]: one.get("$text") for one in told(sink, 4)}
    assert (
        texts
        == {
            "refused": {"ada": None, "bob": "I AM BOB"},
            "in the middle": {"ada": "I ", "bob": "I AM BOB"},
            "the next one's": {"ada": "I AM ADA", "bob": None},
            "which?": {"ada": "I ", "bob": None},
            "given up": {"ada": "I ", "bob": "I AM BOB"},
        }[case]
    )


@BOTH
async def test_an_answer_that_nobody_asked_for(mode: Mode, sink: Sink) -> None:
    """What begins in a lane where nobody has asked is nobody's, and ends nothing."""

    def stray_first(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        begun, *more = events_of(create("?", lane="b"), 9)[:6]
        answer = {**begun["response"], "previous_response_id": "resp_0"}
        return [{**begun, "response": answer}, *more, *events_of(asked[0], 1)]

    patch_openai()
    with websocket_server(scripted(stray_first)) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"):
                assert await ask(connection, "I am ada") == "I AM ADA"
        await settled(client.close())
    assert by_user(sink, 2) == {"ada": pair("I am ada")}


@BOTH
async def test_a_message_that_is_no_json(mode: Mode, sink: Sink) -> None:
    """What the app itself cannot read is no fault of ours, and ends nothing."""

    def odd(connection: ServerConnection) -> None:
        first, *others = events_of(json.loads(connection.recv()), 1)
        connection.send(json.dumps(first))
        for message in ("{not json", "null", "[]", '{"type": []}'):
            connection.send(message)
        for event in others:
            connection.send(json.dumps(event))
        connection.recv()

    patch_openai()
    with websocket_server(odd) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"):
                await settled(connection.send(create("I am ada")))
            for _ in range(5):
                await settled(connection.recv_bytes())
            assert await answer_of(connection) == "I AM ADA"
        await settled(client.close())
    assert by_user(sink, 2) == {"ada": pair("I am ada")}


async def test_two_threads_at_once(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two threads send at the same time, the answers are unread; then all is certain."""
    patch_openai()
    held_back = HeldBack(monkeypatch, "ada")
    with websocket_server() as url:
        client = client_of("sync", url)
        with client.responses.connect() as connection:
            with held_back.sent_by("ada", connection, create("I am ada")), asked_by("bob"):
                assert await ask(connection, "I am bob") == "I AM BOB"
            assert await answer_of(connection) == "I AM ADA"
            with asked_by("cid"):
                assert await ask(connection, "I am cid") == "I AM CID"
        client.close()
    unread = ("Generation", None)
    assert by_user(sink, 6) == {
        "ada": [("Prompt", "I am ada"), unread],
        "bob": [("Prompt", "I am bob"), unread],
        "cid": pair("I am cid"),
    }
    assert ends(sink, 6) == {
        "ada": ("unread", None),
        "bob": ("unread", None),
        "cid": ("ok", None),
    }


@BOTH
async def test_a_socket_that_cannot_be_watched(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a connection cannot be followed, its questions are told, and as unread."""

    def broken(*_: object) -> None:
        raise LookupError("a bug of ours")

    shield.set_strict(strict=False)
    monkeypatch.setattr(_websocket, "_follow", broken)
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"):
                assert await ask(connection, "I am ada") == "I AM ADA"
        await settled(client.close())
    assert ends(sink, 2) == {"ada": ("unread", None)}


def test_a_socket_that_only_sends(sink: Sink) -> None:
    """A stand-in for a socket, as tests have one, costs no fault."""

    class Socket:
        """Takes what is sent."""

        def send(self, message: str) -> None:
            """Forget it."""

        def close(self, **_: object) -> None:
            """Do nothing."""

    resource: Any = pytest.importorskip("openai.resources.responses.responses")
    patch_openai()
    connection = resource.ResponsesConnection(Socket())
    connection.send(create("one"))
    connection.close()
    assert [(one["event"], one.get("status")) for one in told(sink, 2)] == [
        ("Prompt", None),
        ("Generation", "incomplete"),
    ]


@BOTH
async def test_a_connection_that_is_dropped(mode: Mode, sink: Sink) -> None:
    """One that is never closed ends its questions when the garbage collector takes it."""
    patch_openai()
    with websocket_server(scripted(lambda asked: events_of(asked[0], 1)[:5])) as url:
        client = client_of(mode, url)
        connection = await entered_for_good(client.responses.connect())
        with asked_by("ada"):
            await settled(connection.send(create("I am ada")))
        for _ in range(5):
            await settled(connection.recv())
        socket = connection._connection
        del connection
        await settled(socket.close())
        del socket
        await settled(client.close())
    for _ in range(200):  # the thread that reads the socket lets go of it in its own time
        gc.collect()
        if len(sink.events) > 1:
            break
        await asyncio.sleep(0.02)
    assert ends(sink, 2) == {"ada": ("incomplete", None)}


async def entered_for_good(manager: Any) -> Any:
    """Return a connection that nobody is to close."""
    return await settled(manager.enter())


@BOTH
async def test_stopped_waiting(mode: Mode, sink: Sink) -> None:
    """To wait for an event in vain, or no longer, ends nothing."""
    patch_openai()
    with websocket_server(scripted(lambda asked: events_of(asked[0], 1)[:5], lambda _: [])) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"):
                await settled(connection.send(create("I am ada")))
            for _ in range(5):
                await settled(connection.recv())
            if mode == "sync":
                with pytest.raises(TimeoutError):
                    connection._connection.recv(timeout=0)
            else:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.recv(), 0.01)
            told(sink, 1)
            assert len(sink.events) == 1
        await settled(client.close())
    assert ends(sink, 2) == {"ada": ("incomplete", None)}


@BOTH
async def test_the_server_takes_its_leave(mode: Mode, sink: Sink) -> None:
    """A connection that the server closes in good order leaves its answers incomplete."""

    def leave(connection: ServerConnection) -> None:
        for event in events_of(json.loads(connection.recv()), 1)[:5]:
            connection.send(json.dumps(event))

    patch_openai()
    with websocket_server(leave) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            with asked_by("ada"):
                await settled(connection.send(create("I am ada")))
            assert len([event async for event in pieces(connection)]) == 5
            assert ends(sink, 2) == {"ada": ("incomplete", None)}
        await settled(client.close())
