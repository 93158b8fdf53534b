"""Where it is lost over a WebSocket whose answers come, they are unread; in other lanes they count.

A cancelled send may have sent its question, or not; and only so many questions are awaited.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.openai.asking import Mode, entered, settled
from tests.openai.websockets import (
    BOTH,
    ON_A_WEBSOCKET,
    answer_of,
    asked_by,
    by_user,
    client_of,
    create,
    ends,
    events_of,
    pair,
    refusal,
    scripted,
    websocket_server,
)
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = ON_A_WEBSOCKET


def stop_while_sending(monkeypatch: pytest.MonkeyPatch, text: str, *, sent: bool) -> None:
    """Let a message that has this text hang where it goes over a socket: sent, or before that."""
    from websockets.asyncio.client import ClientConnection

    kind: Any = ClientConnection
    sending = kind.send

    async def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        if text in message and not sent:
            await asyncio.Event().wait()
        await sending(self, message, *args, **kwargs)
        if text in message:
            await asyncio.Event().wait()

    monkeypatch.setattr(kind, "send", send)


async def hanging(connection: Any, event: Any) -> asyncio.Future[Any]:
    """Send something that hangs on its way."""
    sent: asyncio.Future[Any] = asyncio.ensure_future(connection.send(event))
    await asyncio.wait([sent], timeout=0.05)
    return sent


async def cancel(sent: asyncio.Future[Any]) -> None:
    """Cancel what hangs."""
    sent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sent


@pytest.mark.parametrize("sent", [True, False])
async def test_cancelled_while_sending(
    sent: bool, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent before a cancelled one in its lane is told, and what goes in another lane."""
    patch_openai()
    stop_while_sending(monkeypatch, "bob", sent=sent)
    with websocket_server() as url:
        client = client_of("async", url)
        async with client.responses.connect() as connection:
            with asked_by("ada"):
                await connection.send(create("I am ada"))
            with asked_by("bob"):
                hangs = await hanging(connection, create("I am bob"))
            with asked_by("cid"):
                await connection.send(create("I am cid"))
            with asked_by("dan"):
                await connection.send(create("I am dan", lane="d"))
            await cancel(hangs)
            with asked_by("eve"):
                await connection.send(create("I am eve"))
            with asked_by("fay"):
                await connection.send(create("I am fay", lane="f"))
            names = ["ADA", *(["BOB"] if sent else []), "CID", "DAN", "EVE", "FAY"]
            heard = [await answer_of(connection) for _ in names]
            assert heard == [f"I AM {name}" for name in names]
        await client.close()
    assert by_user(sink, 12) == {
        "ada": pair("I am ada"),
        "bob": [("Prompt", "I am bob"), ("Generation", None)],
        "cid": [("Prompt", "I am cid"), ("Generation", None)],
        "dan": pair("I am dan"),
        "eve": [("Prompt", "I am eve"), ("Generation", None)],
        "fay": pair("I am fay"),
    }
    ok, unread = ("ok", None), ("unread", None)
    assert ends(sink, 12) == {
        "ada": ok,
        "bob": ("incomplete", None),
        "cid": unread,
        "dan": ok,
        "eve": unread,
        "fay": ok,
    }


async def test_refused_after_it_was_cancelled(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a cancelled question does not end the answer in the middle of which it comes."""

    def refuse_second(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = events_of(asked[0], 1)
        return [*first[:5], refusal(), *first[5:]]

    patch_openai()
    stop_while_sending(monkeypatch, "bob", sent=True)
    with websocket_server(scripted(refuse_second, asked=2)) as url:
        client = client_of("async", url)
        async with client.responses.connect() as connection:
            with asked_by("ada"):
                await connection.send(create("I am ada"))
            with asked_by("bob"):
                await cancel(await hanging(connection, create("I am bob")))
            assert await answer_of(connection) == "I AM ADA"
        await client.close()
    assert ends(sink, 4) == {"ada": ("ok", None), "bob": ("incomplete", None)}


async def ask_and_read(connection: Any, *asked: tuple[str, str | None]) -> None:
    """Let users ask in lanes, and then read all the answers."""
    for user, lane in asked:
        with asked_by(user):
            await settled(connection.send(create(f"I am {user}", lane=lane)))
    heard = [await answer_of(connection) for _ in asked]
    assert heard == [f"I AM {user.upper()}" for user, _ in asked]


@BOTH
async def test_more_questions_than_are_awaited(
    mode: Mode, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked while too many answers are owed is unread, and so is its lane from then on."""
    monkeypatch.setattr("trubrics_instrument.providers.openai._wire.MAX_AWAITED", 2)
    patch_openai()
    with websocket_server() as url:
        client = client_of(mode, url)
        async with entered(client.responses.connect()) as connection:
            await ask_and_read(connection, ("ada", None), ("bob", None), ("cid", None))
            await ask_and_read(connection, ("dan", "d"), ("eve", None))
            # A second lane is lost, and with it all: no more lanes than questions are noted.
            await ask_and_read(connection, ("fay", "f"), ("gil", "f"), ("hal", "h"), ("ivy", "i"))
            await ask_and_read(connection, ("joy", "j"))
        await settled(client.close())
    told = {"ada", "bob", "dan", "fay", "gil"}
    assert by_user(sink, 20) == {
        name: pair(f"I am {name}")
        if name in told
        else [("Prompt", f"I am {name}"), ("Generation", None)]
        for name in ("ada", "bob", "cid", "dan", "eve", "fay", "gil", "hal", "ivy", "joy")
    }
