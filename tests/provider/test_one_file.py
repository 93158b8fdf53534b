"""A provider is one new file, whatever the SDK's answers are: whole, in pieces, asynchronous."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.provider.one_file import READER, patch_parrot
from tests.provider.parrot import AsyncParrot, Chatter, Parrot, ParrotError, Reply
from trubrics_instrument import testing
from trubrics_instrument._base import shield
from trubrics_instrument._observing.stream import Pieces
from trubrics_instrument._observing.watched import WatchedCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trubrics_instrument.testing import Events

HELLO = [{"role": "user", "content": "Hello there"}]
WHOLE = [Reply(word, "p-2") for word in ("You ", "said: ", "Hello ", "there ")]
PIECES = [*WHOLE, Reply("", "p-2", 4)]


@pytest.fixture
def events() -> Iterator[Events]:
    """What is told while the parrot is observed."""
    with testing.capture() as events, patch_parrot():
        yield events


def ended_by(events: Events, **end: Any) -> None:
    """Check that one question was told, and how it ended."""
    asked, ended = events
    assert (asked.event, asked.text, asked.properties["framework"]) == (
        "Prompt",
        "Hello there",
        "parrot",
    )
    assert {name: ended.get(name) for name in end} == end
    assert (ended.prompt_id, ended.thread_id) == (asked.prompt_id, asked.thread_id)


def ask(*, stream: bool = False, asked: list[dict[str, str]] = HELLO) -> Any:
    """Ask a parrot."""
    return Parrot().chat(model="p", messages=asked, stream=stream)


async def ask_async(*, stream: bool = False) -> Any:
    """Ask a parrot that answers later."""
    return await AsyncParrot().chat(model="p", messages=HELLO, stream=stream)


ANSWERED = {
    "event": "Generation",
    "text": "You said: Hello there",
    "status": "ok",
    "assistant_id": "p",
    "response_model": "p-2",
    "output_tokens": 4,
}


def test_whole(events: Events) -> None:
    """An answer is told, and handed on as it is."""
    assert ask() == Reply("You said: Hello there", "p-2", 4)
    ended_by(events, **ANSWERED, stream=None)


def test_whole_async(events: Events) -> None:
    """So is one that is awaited."""
    assert asyncio.run(ask_async()) == Reply("You said: Hello there", "p-2", 4)
    ended_by(events, **ANSWERED, stream=None)


def test_generator(events: Events) -> None:
    """A generator stays one, and gives what it gave."""
    stream = ask(stream=True)
    first = next(stream)
    assert [first, *stream] == PIECES
    assert stream.__qualname__ == "_pieces"
    assert inspect.isgenerator(stream)
    ended_by(events, **ANSWERED, stream=True)


def test_generator_async(events: Events) -> None:
    """So does an asynchronous one."""

    async def read() -> list[Reply]:
        stream = await ask_async(stream=True)
        pieces = [piece async for piece in stream]
        assert inspect.isasyncgen(stream)
        return pieces

    assert asyncio.run(read()) == PIECES
    ended_by(events, **ANSWERED, stream=True)


def test_generator_that_is_spoken_to(events: Events) -> None:
    """What is sent and thrown into a generator, and what it returns, pass as without us."""
    stream = ask(stream=True)
    taken = [stream.send(None), *(stream.send(None) for _ in PIECES[1:])]
    with pytest.raises(StopIteration) as ended:
        stream.send(None)
    assert (taken, ended.value.value) == (PIECES, "Bye")
    ended_by(events, **ANSWERED, stream=True)


def test_generator_that_is_thrown_at(events: Events) -> None:
    """An exception of the app's is one of its own where the generator does not catch it."""
    stream = ask(stream=True)
    assert next(stream) == PIECES[0]
    with pytest.raises(KeyError):
        stream.throw(KeyError())
    assert list(stream) == []
    ended_by(events, event="Generation failed", text="You", error_type="KeyError")


def test_iterator_inside(events: Events) -> None:
    """An SDK's own stream stays itself, and the SDK may close what it has inside."""
    stream = SimpleNamespace(_iterator=(piece for piece in PIECES))
    parrot = Parrot()
    parrot.reply = lambda: stream
    assert parrot.chat(model="p", messages=HELLO, stream=True) is stream
    assert next(stream._iterator) == PIECES[0]
    stream._iterator.close()
    assert list(stream._iterator) == []
    ended_by(events, event="Generation", text="You", status="ok")


class ChatterCall(WatchedCall):
    """A call that may answer with a stream of the SDK's own class."""

    def take(self, result: Any) -> Any:
        """Watch what lies inside of such a stream."""
        if not isinstance(result, Chatter):
            return super().take(result)
        result._beak = Pieces(result._beak, self.recording())
        return result


def test_stream_of_another_shape(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is its own iterator stays itself, where the provider says what to watch."""
    monkeypatch.setattr("tests.provider.one_file.WatchedCall", ChatterCall)
    parrot, stream = Parrot(), Chatter(iter(PIECES))
    parrot.reply = lambda: stream
    assert parrot.chat(model="p", messages=HELLO, stream=True) is stream
    assert [next(stream), *stream] == PIECES
    ended_by(events, **ANSWERED, stream=True)


def test_no_piece_is_kept() -> None:
    """A piece belongs to the app, which may change it, or count on its end."""
    gathering, piece = READER.gathering(), Reply("Hello", "p-2", 1)
    kept = weakref.ref(piece)
    gathering.add(piece)
    del piece
    gc.collect()
    assert kept() is None


def test_no_stream(events: Events) -> None:
    """What is neither a generator nor has an iterator inside stays what it is, and is unread."""
    shield.set_strict(strict=False)
    other = iter(PIECES)
    parrot = Parrot()
    parrot.reply = lambda: other
    assert parrot.chat(model="p", messages=HELLO, stream=True) is other
    ended_by(events, event="Generation", status="unread")


LEFT = {"event": "Generation", "text": "You", "status": "incomplete", "output_tokens": None}


def test_generator_closed(events: Events) -> None:
    """A generator that is closed on the way tells what came, and is closed."""
    stream = ask(stream=True)
    assert next(stream) == PIECES[0]
    stream.close()
    ended_by(events, **LEFT)
    assert list(stream) == []


def test_generator_async_closed(events: Events) -> None:
    """So does an asynchronous one."""

    async def leave() -> list[Reply]:
        stream = await ask_async(stream=True)
        assert await anext(stream) == PIECES[0]
        await stream.aclose()
        ended_by(events, **LEFT)
        return [piece async for piece in stream]

    assert asyncio.run(leave()) == []


def test_generator_dropped(events: Events) -> None:
    """So does one that nobody holds any longer."""
    assert next(ask(stream=True)) == PIECES[0]
    gc.collect()
    ended_by(events, **LEFT)


def test_generator_never_read(events: Events) -> None:
    """So does one that nobody has read at all."""
    ask(stream=True)
    gc.collect()
    ended_by(events, event="Generation", text=None, status="incomplete")


def test_raised(events: Events) -> None:
    """An exception of the SDK's passes, and is told."""
    with pytest.raises(ParrotError, match="Silence!"):
        ask(asked=[{"role": "user", "content": "Silence!"}])
    assert [(event.event, event.get("error_type")) for event in events] == [
        ("Prompt", None),
        ("Generation failed", "ParrotError"),
    ]


def test_unread(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be read is the app's all the same, and told as unread."""
    shield.set_strict(strict=False)
    monkeypatch.setattr("tests.provider.one_file.ParrotReader.gathering", None)
    stream = ask(stream=True)
    assert list(stream) == PIECES
    ended_by(events, event="Generation", status="unread", text=None)
    assert shield.faults() == {"reading the answer": 1}


def test_conversation(events: Events) -> None:
    """A question that resends what was said goes on with its conversation."""
    heard = ask().words
    again = [*HELLO, {"role": "assistant", "content": heard}, {"role": "user", "content": "Bye"}]
    ask(asked=again)
    assert [(event.event, event.text) for event in events[2:]] == [
        ("Prompt", "Bye"),
        ("Generation", "You said: Bye"),
    ]
    assert len({event.thread_id for event in events}) == 1
