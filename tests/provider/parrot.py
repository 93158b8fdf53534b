"""An SDK that the package does not know: it answers at once, and streams as plain generators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

Messages = list[dict[str, str]]


class ParrotError(Exception):
    """The parrot does not want to."""


@dataclass
class Reply:
    """An answer, or a piece of one; the last piece says how many words there were."""

    words: str
    model: str
    said: int | None = None


class Chatter:
    """A stream of a class of its own, which is its own iterator."""

    def __init__(self, pieces: Iterator[Reply]) -> None:
        self._beak = pieces

    def __iter__(self) -> Chatter:
        return self

    def __next__(self) -> Reply:
        return next(self._beak)


class Parrot:
    """The client."""

    reply: Any = None

    def chat(self, *, model: str, messages: Messages, stream: bool = False) -> Any:
        """Return the answer, or a generator of its pieces."""
        if self.reply is not None:
            return self.reply()
        reply = _reply(model, messages)
        return _pieces(reply) if stream else reply


class AsyncParrot:
    """The same client, asynchronous."""

    async def chat(self, *, model: str, messages: Messages, stream: bool = False) -> Any:
        """Return the answer, or an asynchronous generator of its pieces."""
        reply = _reply(model, messages)
        return _async_pieces(reply) if stream else reply


def _reply(model: str, messages: Messages) -> Reply:
    heard = messages[-1]["content"]
    if heard == "Silence!":
        raise ParrotError(heard)
    return Reply(f"You said: {heard}", f"{model}-2", len(heard.split()) + 2)


def _pieces(reply: Reply) -> Generator[Reply, None, str]:
    for word in reply.words.split():
        yield Reply(f"{word} ", reply.model)
    yield Reply("", reply.model, reply.said)
    return "Bye"


async def _async_pieces(reply: Reply) -> AsyncIterator[Reply]:
    for piece in _pieces(reply):
        yield piece
