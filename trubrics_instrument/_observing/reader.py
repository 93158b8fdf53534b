"""What a provider must tell of a request and of its answer, in no provider's words.

To add a provider, write one file in `providers/` with a `Reader` and a table of patch points, as
`tests/provider/one_file.py` does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from trubrics_instrument._context.identity import NO_CLAIM
from trubrics_instrument._conversations.trail import NO_HISTORY, History

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from trubrics_instrument._context.identity import Claim

Status: TypeAlias = Literal["ok", "incomplete", "error", "unread"]


class TurnKey(NamedTuple):
    """A name under which a turn waits for what goes on with it, such as the id of a tool call.

    Such ids are not unique on every host, so what was asked goes with them. Of a name that each
    turn of a conversation has, the `latest` one counts, in whichever process.
    """

    name: Hashable
    text: str | None = None
    latest: bool = False


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        operation: The kind of request: "chat", "responses", "completion".
        model: The model as asked for.
        text: What the user said last; never the history, the system prompt or a template.
        attachments: What else the user gave, such as "image:2,file:1".
        instructions: What tells one assistant of an app from another, such as the system prompt.
        stream: Whether the answer comes in pieces.
        continues: Whether it goes on with a turn: only tool calls and their results have come
            since the user spoke.
        brings: Whether it goes on with the results of tools, which an app may have called itself.
        turn_keys: Names under which the turn that it continues may be known, likeliest first; one
            that does not surely continue a turn asks anew where none is known.
        question: What tells the question from others, besides its text and its history.
        claim: Who asks, and where, in the provider's own fields.
        metadata: The app's own data of this request.
        previous_id: The id of the answer that this request goes on from.
        chained: Whether a later request may go on from its answer by id alone.
        resumable: Whether the answer can be fetched later, by its id (background work).
        fetched: The id of the answer, if that is fetched for a question of another process.
        told: The number of what was answered before, if who is asked keeps the conversation: in
            this process it tells the question from the same words later.
        aside: Whether it asks nothing: it has a cache warmed up, or the context made shorter.
        history: What it resends of its conversation.
        provider: Who serves the model: "openai", "azure", else the host's name.
    """

    operation: str
    model: str | None = None
    text: str | None = None
    attachments: str | None = None
    stream: bool = False
    continues: bool = False
    brings: bool = False
    turn_keys: tuple[TurnKey, ...] = ()
    question: Hashable = None
    claim: Claim = NO_CLAIM
    metadata: Mapping[str, object] = {}
    previous_id: str | None = None
    chained: bool = False
    history: History = NO_HISTORY
    provider: str | None = None
    resumable: bool = False
    fetched: str | None = None
    told: tuple[int, ...] = ()
    aside: bool = False
    instructions: str | None = None


class ToolUse(NamedTuple):
    """One call of a tool by the assistant; a `hosted` one needs no result from the app."""

    name: str
    id: str | None = None
    hosted: bool = False


class Usage(NamedTuple):
    """Tokens, as the provider counts them; None where it does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None

    def properties(self) -> dict[str, object]:
        """Return what is known, under the names that the events use."""
        named = zip(self._fields, self, strict=True)
        return {name: count for name, count in named if count is not None}


class Choice(NamedTuple):
    """One answer to the question; not `complete` if it was cut short.

    It has an `id` of its own where the provider gives one to each choice. `resent_as` is what apps
    may resend in the place of its text: the id of a sound; one of several messages, or all that
    was said, with what is no part of the answer. Where they resend an id with it, that is its
    `resent_id`.
    """

    text: str | None = None
    tool_uses: tuple[ToolUse, ...] = ()
    finish_reason: str | None = None
    attachments: str | None = None
    complete: bool = True
    id: str | None = None
    resent_as: tuple[str | None, ...] = ()
    resent_id: str | None = None


class Answer(NamedTuple):
    """What came back.

    Attributes:
        id: The answer's id, which the app can see too.
        model: The model that answered, as it calls itself.
        choices: Usually one; several if the app asked for several.
        usage: Tokens of the whole request.
        status: "incomplete" if the answer was cut short.
        error_type: The class or code of a failure that came inside an answer.
        pending: The answer is not there yet: it will come under this id (background work).
        claim: Who asked, and where, if an answer that can be fetched repeats it.
        metadata: The app's own data of the request, likewise.
    """

    id: str | None = None
    model: str | None = None
    choices: tuple[Choice, ...] = ()
    usage: Usage = Usage()
    status: Status = "ok"
    error_type: str | None = None
    pending: bool = False
    claim: Claim = NO_CLAIM
    metadata: Mapping[str, object] = {}


class Gathering(Protocol):
    """The pieces of one streamed answer, as they come."""

    def speaks(self, piece: object) -> bool:
        """Whether a piece has something of the answer: most streams begin with none of it."""
        ...

    def add(self, piece: object) -> bool:
        """Take one piece, and return whether the answer is whole with it, though not its tokens.

        The piece belongs to the app, so keep no reference to it.
        """
        ...

    def over(self) -> bool:
        """Whether nothing can come any more, not even the tokens of a whole answer."""
        ...

    def answer(self, *, ended: bool) -> Answer:
        """Return the answer so far; `ended` if the stream was read to its end."""
        ...


class AnswerReader(Protocol):
    """Pure functions that read one kind of answer; they may raise, the shield is around them."""

    framework: str

    def answer(self, body: object) -> Answer:
        """Return what a whole answer says: the SDK's object, or the same as a dict."""
        ...

    def turn_keys(self, asked: Asked, answer: Answer) -> tuple[TurnKey, ...]:
        """Return the names under which a request that goes on from this answer will ask."""
        ...


class Reader(AnswerReader, Protocol):
    """The same for a kind of request, of which we see the body and the pieces of the answer."""

    def asked(self, request: Mapping[str, object], *, stream: bool) -> Asked:
        """Return what the body of a request asks."""
        ...

    def gathering(self) -> Gathering:
        """Return an empty gathering for a streamed answer."""
        ...
