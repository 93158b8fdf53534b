"""A loopback WebSocket server of Responses, and how the tests ask it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer
from responses_wire import response_events
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.server import serve

from tests.openai.asking import MODES, Mode, in_this_sdk, pieces, settled
from tests.told import told
from trubrics_instrument import context

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from websockets.sync.server import ServerConnection

    from tests.sink import Sink

BOTH = pytest.mark.parametrize("mode", MODES)
ON_A_WEBSOCKET = [
    pytest.mark.anyio,
    # websockets 17 warns of what the SDK does.
    pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning"),
    pytest.mark.skipif(
        not in_this_sdk("responses.connect"),
        reason="this openai has no Responses over a WebSocket",
    ),
]


def events_of(question: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Return the events of an answer: the question, in upper case."""
    lane = {"stream_id": question["stream_id"]} if "stream_id" in question else {}
    answer = Answer(question["input"].upper(), id=f"resp_{number}")
    return [{**event, **lane} for event in response_events(answer)]


def play(cut_after: int | None = None, backwards: int = 1) -> Callable[[ServerConnection], None]:
    """Return a server that answers each question, in as many events.

    `backwards` questions at once are answered, the last one first.
    """

    def answer(connection: ServerConnection) -> None:
        count = 0
        while True:
            asked = [json.loads(connection.recv()) for _ in range(backwards)]
            for one in reversed(asked):
                count += 1
                for event in events_of(one, count)[:cut_after]:
                    connection.send(json.dumps(event))
            if cut_after is not None:
                return

    return answer


@contextmanager
def websocket_server(*played: Callable[[ServerConnection], None]) -> Generator[str]:
    """Serve one connection after the other as they are played, the last one again and again."""
    waiting = list(played or [play()])

    def answer(connection: ServerConnection) -> None:
        now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        try:
            now(connection)
        except ConnectionClosed:
            return

    listening: Any = serve(answer, "127.0.0.1", 0)
    with listening as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        server.shutdown()
        thread.join()


def client_of(mode: Mode, url: str) -> Any:
    """Return a client of a WebSocket server."""
    kind: Any = openai.OpenAI if mode == "sync" else openai.AsyncOpenAI
    return kind(api_key="k", base_url=url.replace("ws", "http", 1), websocket_base_url=url)


async def ask(connection: Any, question: str, *, lane: str | None = None) -> str:
    """Ask over a connection, and read the answer to its end."""
    await settled(connection.send(create(question, lane=lane)))
    return await answer_of(connection)


def create(question: str, *, lane: str | None = None) -> dict[str, str]:
    """Return the event that asks."""
    event = {"type": "response.create", "model": "gpt-4o", "input": question}
    return {**event, "stream_id": lane} if lane else event


async def answer_of(connection: Any) -> str:
    """Read an answer to its end."""
    async for received in pieces(connection):
        if received.type == "response.completed":
            return str(received.response.output_text)
    raise AssertionError("the connection ended before the answer")


def by_user(sink: Sink, n: int) -> dict[str, list[tuple[str, str | None]]]:
    """Return event and text of the first `n` events, by user."""
    users: dict[str, list[tuple[str, str | None]]] = {}
    for one in told(sink, n):
        users.setdefault(one["user_id"], []).append((one["event"], one.get("$text")))
    return users


def asked_by(user: str) -> Any:
    """Return the context of a user, whose thread has the same name."""
    return context(user_id=user, thread_id=user)


def pair(text: str) -> list[tuple[str, str | None]]:
    """Return what is told of a question and of its answer."""
    return [("Prompt", text), ("Generation", text.upper())]


def ends(sink: Sink, n: int) -> dict[str, tuple[str | None, str | None]]:
    """Return status and error type of the last event of each user."""
    return {one["user_id"]: (one.get("status"), one.get("error_type")) for one in told(sink, n)}


def scripted(
    *script: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], asked: int = 1
) -> Callable[[ServerConnection], None]:
    """Return a server that takes so many messages, and then plays what a script makes of them."""

    def answer(connection: ServerConnection) -> None:
        for step in script:
            got = [json.loads(connection.recv()) for _ in range(asked)]
            for event in step(got):
                connection.send(json.dumps(event))
        connection.recv()

    return answer


def refusal(**fields: Any) -> dict[str, Any]:
    """Return the event of an error, as a WebSocket has it."""
    error = {"type": "invalid_request_error", "code": "bad_model", "message": "a secret prompt"}
    return {"type": "error", "status": 400, "error": error, **fields}


def refuse_once(monkeypatch: pytest.MonkeyPatch, mode: Mode, text: str) -> None:
    """Let the first message that has this text fail where it goes over a socket."""
    kind: Any = ClientConnection if mode == "sync" else _async_connection()
    sending, left = kind.send, [OSError("no")]

    def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        if left and text in message:
            raise left.pop()
        return sending(self, message, *args, **kwargs)

    async def send_async(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        return await send(self, message, *args, **kwargs)

    monkeypatch.setattr(kind, "send", send if mode == "sync" else send_async)


def _async_connection() -> Any:
    from websockets.asyncio.client import ClientConnection as AsyncConnection

    return AsyncConnection


class HeldBack:
    """A message with this text, which stands where it goes over a socket until it may go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        self._stands, self._may_go = threading.Event(), threading.Event()
        sending: Any = ClientConnection.send

        def send(connection: Any, message: Any, *args: Any, **kwargs: Any) -> None:
            if text in message:
                self._stands.set()
                assert self._may_go.wait(10)
            sending(connection, message, *args, **kwargs)

        monkeypatch.setattr(ClientConnection, "send", send)

    @contextmanager
    def sent_by(self, user: str, connection: Any, event: Any) -> Generator[None]:
        """Have a user send it in another thread, which goes on when the block ends."""

        def send() -> None:
            with asked_by(user):
                connection.send(event)

        thread = threading.Thread(target=send)
        thread.start()
        assert self._stands.wait(10)
        yield
        self._may_go.set()
        thread.join()


def session_over(mode: Mode, connection: Any) -> Any:
    """Return a session with lanes over a connection, if this SDK has such."""
    lanes = pytest.importorskip(
        "openai.lib.responses_websocket", reason="this openai has no sessions"
    )
    kind = "ResponsesWebSocketSession" if mode == "sync" else "AsyncResponsesWebSocketSession"
    limits = lanes.ResponsesWebSocketLimits(4, 100, 400, 100_000, 400_000)
    return getattr(lanes, kind)(connection, limits=limits)
