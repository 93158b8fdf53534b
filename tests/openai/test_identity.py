"""Who asks, and where: each source in its turn, and the first that says so wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, chat_completion
from responses_wire import response_object

from tests.openai.asking import client_of, fields, needs
from tests.replies import json_reply
from trubrics_instrument import _public, context, identify, patch_openai
from trubrics_instrument._base import shield
from trubrics_instrument._context import scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback
    from tests.sink import Sink

QUESTION: Any = [{"role": "user", "content": "Hi"}]
OWN = {"trubrics_user_id": "own", "trubrics_thread_id": "own-t"}
PLAIN = {"user_id": "plain", "session_id": "plain-t"}


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    """Give a client that gets an answer, in a scope of its own."""
    before = scope._here.get()
    server.always(lambda _: json_reply(chat_completion(Answer("Hello", usage=None))))
    with client_of(server, "sync") as ready:
        yield ready
    scope._here.set(before)


def who(sink: Sink) -> tuple[Any, ...]:
    """Return the user and the thread of the Prompt and the Generation, which are the same."""
    prompt, generation = sink.wait_for(2)
    found = [(event["user_id"], event["properties"]["$thread_id"]) for event in sink.events]
    assert len(set(found)) == 1, (prompt, generation)
    return found[0]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"own", "context", "patch", "plain", "default"}, ("own", "own-t")),
        ({"context", "identify", "patch", "plain", "default"}, ("context", "context-t")),
        ({"identify", "patch", "plain", "default"}, ("identify", "identify-t")),
        ({"patch", "plain", "default"}, ("patch", "patch-t")),
        ({"plain", "default"}, ("plain", "plain-t")),
    ],
)
def test_the_order(levels: set[str], expected: tuple[str, str], client: Any, sink: Sink) -> None:
    """Own keys, context, identify, the patch's arguments, then what the call carries anyway."""
    if "default" in levels:
        _public.configure(host=sink.host, flush_interval_s=0.0, user_id="default")
    told_patch: dict[str, Any] = {"user_id": "patch", "thread_id": lambda: "patch-t"}
    patch_openai(**(told_patch if "patch" in levels else {}))
    if "identify" in levels:
        identify("identify", thread_id="identify-t")
    metadata = {**(PLAIN if "plain" in levels else {}), **(OWN if "own" in levels else {})}
    around: dict[str, Any] = (
        {"user_id": "context", "thread_id": "context-t"} if "context" in levels else {}
    )
    with context(**around):
        create = client.chat.completions.create
        create(model="m", messages=QUESTION, **fields(create, metadata=metadata))
    assert who(sink) == expected


def test_the_default_user(client: Any, sink: Sink) -> None:
    """The configured user is who asks where nothing else says so; the thread is inferred."""
    _public.configure(host=sink.host, flush_interval_s=0.0, user_id="default")
    patch_openai()
    client.chat.completions.create(model="m", messages=QUESTION)
    assert who(sink)[0] == "default"
    properties = sink.events[0]["properties"]
    assert properties["thread_inferred"] is True
    assert "anonymous" not in properties


@pytest.mark.parametrize(
    ("more", "user"),
    [
        ({"safety_identifier": "safe", "user": "older"}, "safe"),
        ({"user": "older"}, "older"),
    ],
)
def test_the_sdks_own_fields(more: dict[str, str], user: str, client: Any, sink: Sink) -> None:
    """The fields that OpenAI has for the user name the user."""
    patch_openai()
    create = client.chat.completions.create
    create(model="m", messages=QUESTION, **fields(create, **more))
    assert who(sink)[0] == user


@needs("responses")
def test_a_conversation_of_responses(client: Any, server: Loopback, sink: Sink) -> None:
    """The Responses API's `conversation` is the thread."""
    patch_openai()
    server.script(json_reply(response_object(Answer("Hello"))))
    client.responses.create(model="m", input="Hi", conversation="conv_1", user="ada")
    assert who(sink) == ("ada", "conv_1")


def test_nobody(client: Any, sink: Sink) -> None:
    """Without a user there is an anonymous one for each thread, the same for all of it."""
    patch_openai()
    with context(thread_id="t"):
        client.chat.completions.create(model="m", messages=QUESTION)
        client.chat.completions.create(model="m", messages=QUESTION)
    events = sink.wait_for(4)
    assert len({event["user_id"] for event in events}) == 1
    assert events[0]["user_id"].startswith("anon-")
    assert all(event["properties"]["anonymous"] for event in events)


def test_bad_ids(client: Any, sink: Sink) -> None:
    """A number becomes its `str`, an empty id is absent, a long one is cut and marked."""
    patch_openai(user_id="fallback")
    with context(user_id=7, thread_id="x" * 600):
        client.chat.completions.create(model="m", messages=QUESTION)
    user, thread = who(sink)
    assert (user, len(thread)) == ("7", 512)
    assert all(event["properties"]["id_truncated"] for event in sink.events)
    with context(user_id=""):
        client.chat.completions.create(model="m", messages=QUESTION)
    assert sink.wait_for(4)[3]["user_id"] == "fallback"


@pytest.mark.parametrize("kind", ["trubrics_", ""], ids=["own", "usual"])
def test_numbers_in_metadata(kind: str, client: Any, sink: Sink) -> None:
    """So does one with which the request itself says who asks, and where."""
    patch_openai()
    metadata = {f"{kind}user_id": 7, f"{kind}thread_id": 8}
    client.chat.completions.create(model="m", messages=QUESTION, extra_body={"metadata": metadata})
    assert who(sink) == ("7", "8")


async def nobody_awaits() -> str:
    """Return a user, as a coroutine that nobody awaits."""
    return "ada"


def test_an_async_callable_is_refused() -> None:
    """Its coroutine would be another user at each question."""
    with pytest.raises(ValueError, match="user_id must be a plain function"):
        patch_openai(user_id=nobody_awaits)
    with pytest.raises(ValueError, match="thread_id must be a plain function"):
        patch_openai(thread_id=nobody_awaits)


def test_an_id_that_was_not_awaited_is_none(client: Any, sink: Sink) -> None:
    """A forgotten `await` makes nobody up: the user is unknown, and the mistake is counted."""
    shield.set_strict(strict=False)
    patch_openai()
    forgotten = nobody_awaits()
    with context(user_id=forgotten, thread_id="t"):
        client.chat.completions.create(model="m", messages=QUESTION)
    forgotten.close()
    assert who(sink)[0].startswith("anon-")
    assert shield.faults() == {"reading an id": 1}


def test_a_prompt_that_is_no_text_is_not_used(client: Any, sink: Sink) -> None:
    """A `context(prompt=...)` of another type costs nothing: the request says what was asked."""
    patch_openai()
    with context(prompt=[{"type": "text", "text": "Hello?"}]):  # type: ignore[arg-type] # the test
        client.chat.completions.create(model="m", messages=QUESTION)
    assert sink.wait_for(2)[0]["properties"]["$text"] == QUESTION[-1]["content"]


def test_a_callable_that_raises(client: Any, sink: Sink) -> None:
    """A callable that raises says nothing, and is counted; the app gets its answer."""
    shield.set_strict(strict=False)
    patch_openai(user_id=lambda: 1 / 0, thread_id="t")
    assert client.chat.completions.create(model="m", messages=QUESTION).choices
    assert who(sink)[0].startswith("anon-")
    assert shield.faults() == {"asking the app who the user is": 1}
