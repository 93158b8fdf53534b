"""What the user says while an answer comes over a WebSocket, and the answer that follows."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from openai_wire import Answer, ToolCall
from responses_wire import response_events
from websockets.asyncio.client import ClientConnection as AsyncConnection

from tests.openai.asking import Mode, entered, pieces, settled
from tests.openai.websockets import (
    BOTH,
    ON_A_WEBSOCKET,
    HeldBack,
    answer_of,
    asked_by,
    by_user,
    client_of,
    create,
    pair,
    refusal,
    refuse_once,
    session_over,
    websocket_server,
)
from tests.told import told
from trubrics_instrument import patch_openai, suppress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from websockets.sync.server import ServerConnection

    from tests.sink import Sink

pytestmark = ON_A_WEBSOCKET

ENDS = ("response.completed", "response.incomplete")
STEERED = {"status": "incomplete", "incomplete_details": {"reason": "steered"}}


def steer(text: str, answer_id: str = "resp_1") -> dict[str, Any]:
    """Return the event that steers an answer."""
    return {"type": "response.steer", "previous_response_id": answer_id, "input": text}


def about(kind: str, steer_id: str | None, answer_id: str = "resp_1") -> dict[str, Any]:
    """Return the event that says what became of steering input."""
    named = {"id": steer_id} if steer_id else {}
    failure = (
        {"error": {"code": "response_not_active", "message": "no"}} if kind == "failed" else {}
    )
    pending: dict[str, Any] = {"reason": "waiting_for_required_input", "required_input": []}
    return {
        "type": f"response.steer.{kind}",
        "sequence_number": 0,
        "steer": {**named, "previous_response_id": answer_id},
        **(failure or (pending if kind == "pending" else {})),
    }


class Server(NamedTuple):
    """One that plays what it is told, message by message."""

    connection: ServerConnection

    def take(self) -> Any:
        """Wait for the next message of the app."""
        return json.loads(self.connection.recv())

    def play(self, *events: dict[str, Any]) -> None:
        """Send events."""
        for event in events:
            self.connection.send(json.dumps(event))

    def answer(self, answer: Answer | str, previous_id: str | None = None, **about: Any) -> None:
        """Send a whole answer."""
        self.play(*response_events(answer, previous_response_id=previous_id, **about))

    def begin(self) -> list[dict[str, Any]]:
        """Wait for a question, begin to answer, and return what is left of that answer."""
        self.take()
        events = response_events(Answer("I AM", id="resp_1"), **STEERED)
        self.play(*events[:5])
        return events[5:]


def after(number: int, text: str) -> Answer:
    """Return the answer of that number."""
    return Answer(text, id=f"resp_{number}")


@asynccontextmanager
async def talking(mode: Mode, play: Callable[[Server], None]) -> AsyncGenerator[Any]:
    """Put the patch on, and give a connection to a server that does as a function says."""

    def answer(connection: ServerConnection) -> None:
        play(Server(connection))
        connection.recv()  # until the app hangs up

    patch_openai()
    with websocket_server(answer) as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            yield connection
        await settled(client.close())


async def began(connection: Any) -> None:
    """Read until an answer begins."""
    async for received in pieces(connection):
        if received.type == "response.created":
            return


async def heard(connection: Any) -> str:
    """Read an answer to its end, complete or not."""
    async for received in pieces(connection):
        if received.type in ENDS:
            return str(received.response.output_text)
    raise AssertionError("the connection ended before the answer")


def by_resource(connection: Any, event: dict[str, Any]) -> Any:
    """Steer in the words of the SDK."""
    given = {name: given for name, given in event.items() if name != "type"}
    return connection.response.steer(**given)


def by_message(connection: Any, event: dict[str, Any]) -> Any:
    """Steer with a message that is made already."""
    return connection.send_raw(json.dumps(event))


def by_event(connection: Any, event: dict[str, Any]) -> Any:
    """Steer with an event."""
    return connection.send(event)


def texts(sink: Sink, n: int) -> list[tuple[Any, ...]]:
    """Return event, text, status and error of the first `n` events."""
    return [
        (one["event"], one.get("$text"), one.get("status"), one.get("error_type"))
        for one in told(sink, n)
    ]


PROMPT = ("Prompt", "I am ada", None, None)
CUT = ("Generation", "I AM", "incomplete", None)


@pytest.mark.parametrize("send", [by_resource, by_message, by_event])
@BOTH
async def test_steered(mode: Mode, send: Callable[..., Any], sink: Sink) -> None:
    """What steers is a prompt of its conversation, and the answer that follows is its answer."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.play(about("accepted", "steer_1"), *rest)
        server.answer(after(2, "shorter answer"), "resp_1")
        server.take()
        server.answer(after(3, "I AM BOB"))

    async with talking(mode, play) as connection:
        if send is by_resource and not hasattr(getattr(connection, "response", None), "steer"):
            pytest.skip("this openai has no method for it")
        await settled(connection.send(create("I am ada")))
        await began(connection)
        await settled(send(connection, steer("shorter")))
        assert await heard(connection) == "I AM"
        with asked_by("bob"):
            await settled(connection.send(create("I am bob")))
        assert await answer_of(connection) == "shorter answer"
        assert await answer_of(connection) == "I AM BOB"
    first, second, cut, ended, *bob = sorted(told(sink, 6), key=lambda one: one["user_id"] == "bob")
    assert [(one["event"], one["$text"]) for one in (first, cut, second, ended)] == [
        ("Prompt", "I am ada"),
        ("Generation", "I AM"),
        ("Prompt", "shorter"),
        ("Generation", "shorter answer"),
    ]
    assert (cut["status"], cut["finish_reason"]) == ("incomplete", "steered")
    assert (ended["status"], ended["$generation_id"]) == ("ok", "resp_2")
    assert first["$prompt_id"] == cut["$prompt_id"]
    assert second["$prompt_id"] == ended["$prompt_id"] != first["$prompt_id"]
    assert len({one["$thread_id"] for one in (first, cut, second, ended)}) == 1
    assert {one["$assistant_id"] for one in (cut, ended)} == {"gpt-4o"}
    assert {one["model"] for one in (first, cut, second, ended)} == {"gpt-4o"}
    assert [(one["event"], one["$text"]) for one in bob] == pair("I am bob")


@BOTH
async def test_after_a_complete_answer(mode: Mode, sink: Sink) -> None:
    """In its lane, an answer that is complete may be followed by one to what came too late."""

    def play(server: Server) -> None:
        lane = {"stream_id": server.take()["stream_id"]}
        events = response_events(after(1, "I AM ADA"))
        server.play(*({**event, **lane} for event in events[:3]))
        server.take()
        server.play({**about("accepted", "steer_1"), **lane})
        following = response_events(after(2, "longer answer"), previous_response_id="resp_1")
        server.play(*({**event, **lane} for event in [*events[3:], *following]))

    async with talking(mode, play) as connection:
        with asked_by("ada"):
            await settled(connection.send(create("I am ada", lane="a")))
            await began(connection)
            await settled(connection.send(steer("longer")))
        assert [await heard(connection) for _ in range(2)] == ["I AM ADA", "longer answer"]
    assert by_user(sink, 4) == {
        "ada": [
            ("Prompt", "I am ada"),
            ("Prompt", "longer"),
            ("Generation", "I AM ADA"),
            ("Generation", "longer answer"),
        ]
    }


@BOTH
async def test_through_a_lane_of_a_session(mode: Mode, sink: Sink) -> None:
    """A lane of a session steers its own answer, beside others."""

    def play(server: Server) -> None:
        a, b = ({"stream_id": server.take()["stream_id"]} for _ in range(2))
        of_a, of_b = response_events(after(1, "I AM ADA")), response_events(after(2, "I AM BOB"))
        server.play({**of_a[0], **a}, {**of_b[0], **b})
        assert server.take() == steer("longer", "resp_2")
        server.play({**about("accepted", "steer_1", "resp_2"), **b})
        following = response_events(after(3, "longer answer"), previous_response_id="resp_2")
        server.play(*({**event, **b} for event in [*of_b[1:], *following]))
        server.play(*({**event, **a} for event in of_a[1:]))

    async with (
        talking(mode, play) as connection,
        entered(session_over(mode, connection)) as session,
    ):
        asked = {user: session.lane(user) for user in ("ada", "bob")}
        for user, lane in asked.items():
            with asked_by(user):
                await settled(lane.send(create(f"I am {user}")))
        assert (await settled(asked["bob"].recv())).type == "response.created"
        with asked_by("bob"):
            await settled(asked["bob"].send(steer("longer", "resp_2")))
        for user in ("bob", "bob", "ada"):
            assert (await settled(asked[user].get_final_response())).status == "completed"
    told_of = by_user(sink, 6)
    assert told_of["ada"] == pair("I am ada")
    assert sorted(told_of["bob"]) == sorted(
        [*pair("I am bob"), ("Prompt", "longer"), ("Generation", "longer answer")]
    )


@BOTH
async def test_steered_twice(mode: Mode, sink: Sink) -> None:
    """Of two things said, the last one has the answer; that may be steered in its turn."""

    def play(server: Server) -> None:
        rest = server.begin()
        for steer_id in ("steer_1", "steer_2"):
            server.take()
            server.play(about("accepted", steer_id))
        following = response_events(after(2, "in French"), previous_response_id="resp_1")
        server.play(*rest, *following[:-1])
        server.take()
        server.play(about("accepted", "steer_3", "resp_2"), following[-1])
        server.answer(after(3, "in German"), "resp_2")

    async with talking(mode, play) as connection:
        await settled(connection.send(create("I am ada")))
        await began(connection)
        await settled(connection.send(steer("shorter")))
        await settled(connection.send(steer("French")))
        assert await heard(connection) == "I AM"
        await began(connection)
        await settled(connection.send(steer("German", "resp_2")))
        assert [await heard(connection) for _ in range(2)] == ["in French", "in German"]
    assert texts(sink, 8) == [
        PROMPT,
        ("Prompt", "shorter", None, None),
        ("Prompt", "French", None, None),
        CUT,
        ("Generation", None, "incomplete", None),
        ("Prompt", "German", None, None),
        ("Generation", "in French", "ok", None),
        ("Generation", "in German", "ok", None),
    ]
    assert {one["model"] for one in told(sink, 8)} == {"gpt-4o"}
    assert len({one["$thread_id"] for one in told(sink, 8)}) == 1


@pytest.mark.parametrize("steer_id", [None, "steer_1"], ids=["refused", "accepted before"])
@BOTH
async def test_that_failed(mode: Mode, steer_id: str | None, sink: Sink) -> None:
    """What the server does not take is told as failed; asked explicitly, it is no new prompt."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        if steer_id:
            server.play(about("accepted", steer_id))
        server.play(*rest, about("failed", steer_id))
        server.take()
        server.answer(after(2, "shorter answer"), "resp_1")

    async with talking(mode, play) as connection:
        await settled(connection.send(create("I am ada")))
        await began(connection)
        await settled(connection.send(steer("shorter")))
        async for received in pieces(connection):
            if received.type == "response.steer.failed":
                break
        again: Any = {**create("shorter"), "previous_response_id": "resp_1"}
        await settled(connection.send(again))
        assert await answer_of(connection) == "shorter answer"
    assert texts(sink, 5) == [
        PROMPT,
        ("Prompt", "shorter", None, None),
        CUT,
        ("Generation failed", None, "error", "response_not_active"),
        ("Generation", "shorter answer", "ok", None),
    ]
    assert len({one["$prompt_id"] for one in told(sink, 5)[1:2] + told(sink, 5)[3:]}) == 1


@BOTH
async def test_an_answer_that_waits_for_a_tool(mode: Mode, sink: Sink) -> None:
    """What waits for the result of a tool goes with that, and has no answer of its own."""

    def play(server: Server) -> None:
        server.take()
        use = ToolCall("look_up", "{}", id="call_1")
        events = response_events(Answer(None, id="resp_1", tool_calls=(use,)))
        server.play(events[0])
        server.take()
        server.play(about("accepted", "steer_1"), *events[1:], about("pending", "steer_1"))
        server.take()
        server.answer(after(2, "At nine, Madam"), "resp_1")

    async with talking(mode, play) as connection:
        await settled(connection.send(create("I am ada")))
        await began(connection)
        await settled(connection.send(steer("politely")))
        async for received in pieces(connection):
            if received.type == "response.steer.pending":
                break
        result = {"type": "function_call_output", "call_id": "call_1", "output": "9:00"}
        goes_on: Any = {"previous_response_id": "resp_1", "input": [result]}
        await settled(connection.send({**create(""), **goes_on}))
        assert await answer_of(connection) == "At nine, Madam"
    assert texts(sink, 5) == [
        PROMPT,
        ("Prompt", "politely", None, None),
        ("Tool call", None, None, None),
        ("Generation", None, "incomplete", None),
        ("Generation", "At nine, Madam", "ok", None),
    ]
    prompt_ids = [one["$prompt_id"] for one in told(sink, 5)]
    assert prompt_ids[0] == prompt_ids[2] == prompt_ids[4]


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "refused"])
@BOTH
async def test_beside_a_question(mode: Mode, taken: bool, sink: Sink) -> None:
    """A question that goes on from the same answer has its own one, whatever became of a steer."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.take()
        if taken:
            server.play(about("accepted", "steer_1"), *rest)
            server.answer(after(2, "SHORTER"), "resp_1")
            server.answer(after(3, "I AM BOB"), "resp_1")
        else:
            server.play(*rest)
            server.answer(after(3, "I AM BOB"), "resp_1")
            server.play(about("failed", None))

    async with talking(mode, play) as connection:
        with asked_by("ada"):
            await settled(connection.send(create("I am ada")))
            await began(connection)
        with asked_by("cid"):
            await settled(connection.send(steer("shorter")))
        with asked_by("bob"):
            goes_on: Any = {**create("I am bob"), "previous_response_id": "resp_1"}
            await settled(connection.send(goes_on))
        answers = ["I AM", "SHORTER", "I AM BOB"] if taken else ["I AM", "I AM BOB"]
        assert [await heard(connection) for _ in answers] == answers
        if not taken:
            assert (await settled(connection.recv())).type == "response.steer.failed"
    assert by_user(sink, 6) == {
        "ada": [("Prompt", "I am ada"), ("Generation", "I AM")],
        "bob": pair("I am bob"),
        "cid": pair("shorter") if taken else [("Prompt", "shorter"), ("Generation failed", None)],
    }


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
@BOTH
async def test_hung_up(mode: Mode, taken: bool, sink: Sink) -> None:
    """What has no answer by the time that the app hangs up is told as incomplete."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.play(*([about("accepted", "steer_1")] if taken else []), *rest)

    async with talking(mode, play) as connection:
        await settled(connection.send(create("I am ada")))
        await began(connection)
        await settled(connection.send(steer("shorter")))
        assert await heard(connection) == "I AM"
    unanswered = ("Generation", None, "incomplete", None)
    assert texts(sink, 4) == [PROMPT, ("Prompt", "shorter", None, None), CUT, unanswered]


@BOTH
async def test_the_server_hangs_up(mode: Mode, sink: Sink) -> None:
    """What has no answer by the time that the connection breaks is told as failed."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.play(about("accepted", "steer_1"), *rest)
        server.connection.close(code=1011)

    async with talking(mode, play) as connection:
        await settled(connection.send(create("I am ada")))
        await began(connection)
        await settled(connection.send(steer("shorter")))
        assert await heard(connection) == "I AM"
        with pytest.raises(Exception, match="1011"):
            await settled(connection.recv())
    failed = ("Generation failed", None, "error", "ConnectionClosedError")
    assert texts(sink, 4) == [PROMPT, ("Prompt", "shorter", None, None), CUT, failed]


@BOTH
async def test_that_could_not_be_sent(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be sent is told as failed, and takes no answer."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.play(about("accepted", "steer_1"), *rest)
        server.answer(after(2, "I AM BOB"), "resp_1")

    refuse_once(monkeypatch, mode, "impossible")
    async with talking(mode, play) as connection:
        with asked_by("ada"):
            await settled(connection.send(create("I am ada")))
            await began(connection)
        with asked_by("cid"):
            unreadable: Any = {**steer("shorter"), "input": {"a set": {1}}}
            with pytest.raises(TypeError):
                await settled(connection.send(unreadable))
            with pytest.raises(OSError, match="no"):
                await settled(connection.send(steer("impossible")))
        with asked_by("bob"):
            await settled(connection.send(steer("I am bob")))
        assert [await heard(connection) for _ in range(2)] == ["I AM", "I AM BOB"]
    failed = ("Generation failed", None)
    assert by_user(sink, 8) == {
        "ada": [("Prompt", "I am ada"), ("Generation", "I AM")],
        "bob": pair("I am bob"),
        "cid": [("Prompt", None), failed, ("Prompt", "impossible"), failed],
    }


@pytest.mark.parametrize("seen", [True, False], ids=["suppressed", "never seen"])
@BOTH
async def test_that_is_not_told(mode: Mode, seen: bool, sink: Sink) -> None:
    """The answer to what is not observed is told to nobody, and not to the next question."""

    def play(server: Server) -> None:
        rest = server.begin()
        if seen:
            server.take()
        server.take()
        server.play(about("accepted", "steer_1"), *rest)
        server.answer(after(2, "steered"), "resp_1")
        server.answer(after(3, "I AM BOB"))

    async with talking(mode, play) as connection:
        with asked_by("ada"):
            await settled(connection.send(create("I am ada")))
            await began(connection)
            if seen:
                with suppress():
                    await settled(connection.send(steer("shorter")))
        with asked_by("bob"):
            await settled(connection.send(create("I am bob")))
        answers = [await heard(connection) for _ in range(3)]
        assert answers == ["I AM", "steered", "I AM BOB"]
    assert by_user(sink, 4) == {
        "ada": [("Prompt", "I am ada"), ("Generation", "I AM")],
        "bob": pair("I am bob"),
    }


async def test_too_many(sink: Sink) -> None:
    """Of more than is waited for, the first is told as unread; to hang up ends all others."""

    def play(server: Server) -> None:
        rest = server.begin()
        for _ in range(1_001):
            server.take()
        server.play(*rest)

    async with talking("sync", play) as connection:
        connection.send(create("I am ada"))
        await began(connection)
        for number in range(1_001):
            connection.send(steer(f"words: {number}"))
        assert await heard(connection) == "I AM"
        statuses = [one.get("status") for one in told(sink, 1_004)]
        assert (statuses.count("unread"), statuses.count(None)) == (1, 1_002)
    assert len(told(sink, 2_004)) == 2_004


@pytest.mark.parametrize("waits", [False, True], ids=["alone", "before another question"])
@BOTH
async def test_a_host_that_knows_no_steering(mode: Mode, waits: bool, sink: Sink) -> None:
    """An error that answers a steer ends neither the answer that comes nor the next question."""

    def play(server: Server) -> None:
        server.take()
        events = response_events(after(1, "I AM ADA"))
        server.play(*events[:5])
        server.take()
        if waits:
            server.take()
        server.play(refusal(), *events[5:])
        if waits:
            server.answer(after(2, "I AM BOB"))

    async with talking(mode, play) as connection:
        with asked_by("ada"):
            await settled(connection.send(create("I am ada")))
            await began(connection)
        with asked_by("cid"):
            await settled(connection.send(steer("shorter")))
        if waits:
            with asked_by("bob"):
                await settled(connection.send(create("I am bob")))
        for text in ["I AM ADA", "I AM BOB"][: 1 + waits]:
            assert await heard(connection) == text
    assert [one["user_id"] for one in told(sink, 4 + 2 * waits)][2 + waits] == "cid"  # at once
    heard_of = by_user(sink, 4 + 2 * waits)
    assert heard_of.pop("bob", pair("I am bob")) == pair("I am bob")
    assert heard_of == {
        "ada": pair("I am ada"),
        "cid": [("Prompt", "shorter"), ("Generation failed", None)],
    }


async def test_cancelled(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sending one was cancelled, nobody knows whether the answer is to that or the next."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.take()
        server.play(about("accepted", "steer_1"), about("failed", None), *rest)
        server.answer(after(2, "to ada"), "resp_1")
        server.take()
        server.answer(after(3, "I AM CID"))

    sending: Any = AsyncConnection.send

    async def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        await sending(self, message, *args, **kwargs)
        if "from ada" in message:
            raise asyncio.CancelledError

    monkeypatch.setattr(AsyncConnection, "send", send)
    async with talking("async", play) as connection:
        await connection.send(create("I am zoe"))
        await began(connection)
        with asked_by("ada"), pytest.raises(asyncio.CancelledError):
            await connection.send(steer("from ada"))
        with asked_by("bob"):
            await connection.send(steer("from bob"))
        assert [await heard(connection) for _ in range(2)] == ["I AM", "to ada"]
        with asked_by("cid"):
            await connection.send(create("I am cid"))
        assert await heard(connection) == "I AM CID"
    told_of = by_user(sink, 8)
    unread = ("Generation", None)
    assert told_of["ada"] == [("Prompt", "from ada"), unread]
    assert told_of["bob"] == [("Prompt", "from bob"), unread]
    assert told_of["cid"] == pair("I am cid")
    ends = {one["user_id"]: one.get("status") for one in told(sink, 8)}
    assert (ends["ada"], ends["bob"]) == ("incomplete", "unread")


async def test_two_threads_at_once(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two threads steer one answer at the same time, nobody knows which is taken."""

    def play(server: Server) -> None:
        rest = server.begin()
        server.take()
        server.take()
        server.play(about("accepted", "steer_1"), about("failed", None), *rest)
        server.answer(after(2, "to bob"), "resp_1")

    held_back = HeldBack(monkeypatch, "from ada")
    async with talking("sync", play) as connection:
        connection.send(create("I am zoe"))
        await began(connection)
        with held_back.sent_by("ada", connection, steer("from ada")), asked_by("bob"):
            connection.send(steer("from bob"))
        assert [await heard(connection) for _ in range(2)] == ["I AM", "to bob"]
    statuses = {
        one["user_id"]: (one["event"], one.get("status"), one.get("$text")) for one in told(sink, 6)
    }
    assert statuses["ada"] == statuses["bob"] == ("Generation", "unread", None)
