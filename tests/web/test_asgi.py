"""The ASGI middleware: WebSockets, the lifespan, and apps left exactly as they are."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from tests.replies import Gate, Reply
from trubrics_instrument import _public, identify
from trubrics_instrument._base import shield
from trubrics_instrument._context.scope import Said, said
from trubrics_instrument.asgi import TrubricsMiddleware
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback import Loopback
    from tests.sink import Sink
    from tests.web.serving import Model

pytestmark = pytest.mark.anyio


async def receive() -> Any:
    """Return what nobody asks for."""
    return {}


def http(**headers: str) -> dict[str, Any]:
    """Return the scope of a request."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": pairs}


async def test_the_last_words_come_after_the_delivery() -> None:
    """When the app has shut down, what it told has arrived: uvicorn may end the process then."""
    from tests.sink import Sink

    with Sink() as sink:
        _public.configure(host=sink.host, flush_interval_s=30.0)
        arrived: list[tuple[str, int]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "lifespan.startup.complete"})
            _public.track("Converted", user_id="ada")
            await send({"type": "lifespan.shutdown.complete"})

        async def send(message: Any) -> None:
            arrived.append((message["type"], len(sink.events)))

        await TrubricsMiddleware(app)({"type": "lifespan"}, receive, send)
    assert arrived == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


async def test_a_header_that_comes_twice_names_neither() -> None:
    """A client cannot be somebody else by sending what the proxy sends too; as in WSGI."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(said().user_id)

    async def send(message: Any) -> None:
        """Take a message."""

    told: list[str | None] = []
    twice = {"type": "http", "headers": [(b"x-user", b"bob"), (b"X-User", b"ada")]}
    for scope in (twice, http(x_user="ada"), http()):
        await TrubricsMiddleware(app, user_id="X-User")(scope, receive, send)
    assert told == ["bob,ada", "ada", None]


async def ended_by_its_server(shut_down: Callable[[], object] = str) -> None:
    """Run an app from the start to the end of its server, with `shut_down` as the last it does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        shut_down()
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None:
        """Take a message."""

    await TrubricsMiddleware(app)({"type": "lifespan"}, receive, send)


async def test_a_stream_that_goes_on_behind_the_end(model: Model) -> None:
    """It is told as far as it came, once; the app has the rest of it all the same."""
    with capture() as events:
        stream = model.stream("One two three")
        had = [next(stream), next(stream)]
        await ended_by_its_server()
        await ended_by_its_server()
        had += stream
        told = [(one.event, one.text, one.get("status")) for one in events]
    assert had == ["", "One ", "two ", "three", ""]
    assert told == [("Prompt", "One two three", None), ("Generation", "One ", "incomplete")]


async def test_what_the_server_cancels_ends_first(model: Model, server: Loopback) -> None:
    """However many task groups lie around a call, it has ended when the lifespan does."""
    gate = Gate()
    server.script(Reply(before=gate))

    async def inside(layers: int) -> None:
        if not layers:
            await model.ask_async("Hi")
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(inside, layers - 1)

    with capture() as events:
        task = asyncio.create_task(inside(10))
        assert await asyncio.to_thread(gate.reached.wait, 20)
        await ended_by_its_server(task.cancel)
        told = [(one.event, one.text, one.get("status")) for one in events]
        with pytest.raises(asyncio.CancelledError):
            await task
    assert told == [("Prompt", "Hi", None), ("Generation", None, "incomplete")]


def test_the_end_of_a_server_on_trio(model: Model) -> None:
    """There, too, what is open is told."""
    with capture() as events:
        stream = model.stream("One two three")
        assert [next(stream), next(stream)] == ["", "One "]
        trio.run(ended_by_its_server)
        assert events.one("Generation", status="incomplete").text == "One "
        assert list(stream) == ["two ", "three", ""]


async def test_a_websocket_is_one_request(sink: Sink) -> None:
    """Whoever is identified on a connection stays so until it is closed."""
    seen: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        identify("ada")
        for _ in range(2):
            await send({"type": "websocket.send", "text": "hi"})
            seen.append(said().user_id)

    async def send(message: Any) -> None:
        """Take a message."""

    await TrubricsMiddleware(app)({"type": "websocket", "headers": []}, receive, send)
    assert seen == ["ada", "ada"]
    assert said() == Said()


async def test_the_app_is_left_as_it_is() -> None:
    """It gets the very objects of the server, and its exception passes untouched."""
    error = KeyError("the app's own")
    given = (http(), receive, receive)
    got: list[Any] = []

    async def app(*arguments: Any) -> None:
        got.extend(arguments)
        raise error

    with pytest.raises(KeyError) as caught:
        await TrubricsMiddleware(app)(*given)  # type: ignore[arg-type] # `send` is never called
    assert caught.value is error
    assert all(one is other for one, other in zip(got, given, strict=True))


@pytest.mark.parametrize(
    ("headers", "user", "thread"),
    [
        ({"x_user": "ada", "x_thread": "t"}, "ada", "t"),
        ({"x_user": "josé", "x_other": "t"}, "josÃ©", None),
        ({"x_user": ""}, None, None),
        ({"X_User": "ada", "X_THREAD": "t"}, "ada", "t"),
    ],
)
async def test_headers(headers: dict[str, str], user: str | None, thread: str | None) -> None:
    """A header's name is compared without regard to case; a header without words says nothing."""
    seen: list[Said] = []

    async def app(*_: Any) -> None:
        seen.append(said())

    ours = TrubricsMiddleware(app, user_id="X-User", thread_id="X-THREAD")
    await ours(http(**headers), receive, receive)  # type: ignore[arg-type] # as above
    assert seen == [Said(user_id=user, thread_id=thread)]


@pytest.mark.parametrize("name", ["user_id", "thread_id", "properties"])
def test_impossible_arguments(name: str) -> None:
    """A mistake at set-up is told at once."""
    with pytest.raises(ValueError, match=f"{name} must be .* or a callable, not int"):
        TrubricsMiddleware(receive, **{name: 7})  # type: ignore[arg-type] # on purpose
    with pytest.raises(ValueError, match=f"{name} must be a plain function"):
        TrubricsMiddleware(receive, **{name: receive})  # type: ignore[arg-type] # the same


@pytest.mark.parametrize("value", ["", "X User", "X-User:", "Benutzer-Schlüssel"])
def test_names_that_no_header_has(value: str) -> None:
    """Nobody would ever be known by one."""
    with pytest.raises(ValueError, match=f"user_id='{value}' is no name that a header can have"):
        TrubricsMiddleware(receive, user_id=value)  # type: ignore[arg-type] # as above


async def test_a_mounted_app_with_a_middleware_of_its_own() -> None:
    """It is one request: what the app around knows of it holds inside, and the reverse."""
    seen: list[Said] = []

    async def chat(*_: Any) -> None:
        seen.append(said())
        identify(None, properties={"page": "chat"})

    inside = TrubricsMiddleware(chat, thread_id="x-chat", properties={"app": "chat"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        identify("ada")
        await inside({**scope, "root_path": "/chat"}, receive, send)
        seen.append(said())

    around = TrubricsMiddleware(app, user_id="x-user", thread_id="x-thread")
    await around(http(x_user="guest", x_thread="t", x_chat="c"), receive, receive)  # type: ignore[arg-type] # as above
    known = Said(user_id="ada", thread_id="c", properties={"app": "chat"})
    told = known._replace(properties={"app": "chat", "page": "chat"})
    assert seen == [known, told]


async def test_a_scope_that_takes_no_notes() -> None:
    """A server's odd scope costs the app nothing, and each middleware has its own request."""
    shield.set_strict(strict=False)
    seen: list[Said] = []

    async def app(*_: Any) -> None:
        seen.append(said())

    ours = TrubricsMiddleware(app, user_id="x-user")
    await ours(MappingProxyType(http(x_user="ada")), receive, receive)  # type: ignore[arg-type] # as above
    assert seen == [Said(user_id="ada")]
    assert shield.faults() == {"knowing a request again": 1}


async def test_the_next_request_begins_inside_of_the_one_before() -> None:
    """A server may start it there, where requests wait in line on one connection."""
    seen: list[Said] = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(said())
        if scope["headers"]:
            identify("ada")
            await ours(http(), receive, receive)  # type: ignore[arg-type] # as above

    ours = TrubricsMiddleware(app, thread_id="x-thread")
    await ours(http(x_thread="t"), receive, receive)  # type: ignore[arg-type] # as above
    assert seen == [Said(thread_id="t"), Said()]
