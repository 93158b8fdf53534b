"""A fault of ours, wherever it strikes, costs at most its own event: the app gets its answer."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from tests.openai.asking import WAYS, Way, ask, client_of, close_client
from tests.openai.test_matrix import reply_of
from tests.told import told
from trubrics_instrument import _runtime, patch_openai, stats
from trubrics_instrument._base import shield
from trubrics_instrument._delivery import Sender
from trubrics_instrument._observing import call
from trubrics_instrument.providers.openai import _chat, _completion, _request, _responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio


class Broken(Exception):  # noqa: N818 - what a bug of ours would raise
    """Raised inside us."""


def _raise(*_: object, **__: object) -> Any:
    raise Broken("a bug that quotes the prompt")


def _places() -> list[tuple[str, object, str]]:
    """Return every place where we read something, as (what, owner, attribute)."""
    readers = [
        (f"{reader.__name__} {step}", reader, step)
        for reader in (_chat.ChatReader, _responses.ResponsesReader, _completion.CompletionReader)
        for step in ("asked", "answer", "gathering")
    ]
    gatherings = [
        (f"{gathering.__name__} {step}", gathering, step)
        for gathering in (
            _chat.ChatGathering,
            _responses.ResponsesGathering,
            _completion.CompletionGathering,
        )
        for step in ("speaks", "add", "answer")
    ]
    return [
        *readers,
        *gatherings,
        ("options", _request, "_own_options"),
        ("provider", _request, "_provider"),
        ("prompt", call.ModelCall, "begin"),
        ("end", call.ModelCall, "end"),
        ("failure", call.ModelCall, "fail"),
        ("first piece", call.ModelCall, "first_piece"),
        ("emit", _runtime, "emit"),
        ("queue", Sender, "put"),
    ]


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_the_app_never_notices(
    way: Way, sink: Sink, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bug in each place in turn, the app's answer is what it is without us."""
    server.always(lambda _: reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    bare = await ask(client, way)
    patch_openai()
    shield.set_strict(strict=False)
    for what, owner, attribute in _places():
        with monkeypatch.context() as broken:
            broken.setattr(owner, attribute, _raise)
            observed = await ask(client, way)
        assert type(observed) is type(bare), what
        if way.shape != "unparsed":
            assert observed == bare, what
    await close_client(client)
    assert sink.requests is not None


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_what_cannot_be_read_is_told_as_unread(
    way: Way,
    sink: Sink,
    server: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reader that raises makes the event say so; the log has a warning, and never content."""
    reader = _request.READERS[way.path.removeprefix("/v1")]
    monkeypatch.setattr(type(reader), "gathering" if way.streamed else "answer", _raise)
    shield.set_strict(strict=False)
    server.script(reply_of(way), path=way.path)
    patch_openai()
    client = client_of(server, way.mode)
    await ask(client, way)
    await close_client(client)
    generation = sink.wait_for(2)[1]
    assert generation["event"] == "Generation"
    assert generation["properties"]["status"] == "unread"
    assert stats().faults == {"reading the answer": 1}
    assert "quotes the prompt" not in caplog.text
    assert "Broken" in caplog.text


@pytest.mark.parametrize("step", ["add", "answer"])
@pytest.mark.parametrize("way", [way for way in WAYS if way.streamed], ids=str)
async def test_a_stream_that_cannot_be_read_is_told_as_unread(
    way: Way, step: str, sink: Sink, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault at one piece, or at the end, leaves the stream alone and is said in the event."""
    reader = _request.READERS[way.path.removeprefix("/v1")]
    monkeypatch.setattr(type(reader.gathering()), step, _raise)
    shield.set_strict(strict=False)
    server.script(reply_of(way), path=way.path)
    patch_openai()
    client = client_of(server, way.mode)
    assert len(await ask(client, way)) > 1
    await close_client(client)
    assert sink.wait_for(2)[1]["properties"]["status"] == "unread"
    doing = {"add": "reading a piece of a stream", "answer": "reading a stream"}
    assert stats().faults == {doing[step]: 1}


def test_the_shield_counts_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first fault of a kind is one warning with where it happened; all are counted."""
    shield.set_strict(strict=False)
    for _ in range(3):
        with shield.shield("testing"):
            _raise()
    assert stats().faults == {"testing": 3}
    assert len(caplog.records) == 1
    assert "_raise" in caplog.text
    assert "quotes the prompt" not in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_shield_lets_the_apps_wishes_through(error: type[BaseException]) -> None:
    """What is no `Exception` is the app's, and passes."""
    shield.set_strict(strict=False)
    with pytest.raises(error), shield.shield("testing"):
        raise error


def test_each_place_exists() -> None:
    """The list of places is true: each is there, so that breaking it breaks something."""
    broken: list[Callable[..., Any]] = [getattr(owner, name) for _, owner, name in _places()]
    assert all(callable(place) for place in broken)


def test_a_fault_in_a_finaliser(
    sink: Sink, server: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the garbage collector runs us, a fault is counted and not logged: that takes a lock."""
    shield.set_strict(strict=False)
    patch_openai()
    server.always(reply_of(Way("chat", "whole", "sync")))
    client = client_of(server, "sync")
    create = client.chat.completions.with_streaming_response.create
    manager = create(model="m", messages=[{"role": "user", "content": "Hi"}])
    response = manager.__enter__()
    response.read()
    monkeypatch.setattr(_chat.ChatReader, "answer", _raise)
    del manager, response
    gc.collect()
    client.close()
    assert [event.get("status") for event in told(sink, 2)] == [None, "unread"]
    assert caplog.messages == []
    assert stats().faults == {"reading the answer": 1}
