"""Background responses that one worker process asks for, and another one fetches."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, ToolCall, chat_completion
from responses_wire import response_events, response_object

from tests.openai.asking import needs
from tests.replies import error_reply, json_reply, response_stream
from tests.workers import Worker, environ

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = [
    needs("responses"),
    pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm"),
]

SET_UP = """
import openai
trubrics_instrument.patch_openai()
client = openai.OpenAI(max_retries=0)
"""
ASK = """
with trubrics_instrument.context(**claim):
    client.responses.create(model="gpt-4o", input="Do the trams run?", background=True)
"""
FETCH = """
with trubrics_instrument.context(**claim):
    client.responses.retrieve("resp_9")
"""
FORGET = """
from trubrics_instrument import _runtime
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
_runtime.state().threads.board = Board(bytearray(BOARD_BYTES))
"""
RATE = """
trubrics_instrument.identify("ada")
client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
client.responses.retrieve("resp_9")
trubrics_instrument.feedback(None, 1)
"""
ASK_WITH = """
asked = {"model": "gpt-4o", "input": "Do the trams run?", "background": True}
with trubrics_instrument.context(**claim):
    client.responses.create(**asked, extra_body=fields)
"""
ASYNC = """
import asyncio
async def fetch():
    async with openai.AsyncOpenAI(max_retries=0) as client:
        {}
asyncio.run(fetch())
"""
WAYS = {
    "whole": "client.responses.retrieve('resp_9')",
    "in pieces": "list(client.responses.retrieve('resp_9', stream=True))",
    "raw": "client.responses.with_raw_response.retrieve('resp_9')",
    "async": ASYNC.format("await client.responses.retrieve('resp_9')"),
    "async, in pieces": ASYNC.format(
        "[one async for one in await client.responses.retrieve('resp_9', stream=True)]"
    ),
    "async and raw": ASYNC.format("await client.responses.with_raw_response.retrieve('resp_9')"),
}
FETCH_PIECES = """
with trubrics_instrument.context(**claim):
    for piece in client.responses.retrieve("resp_9", stream=True):
        pass
"""
BRING = """
result = {"type": "function_call_output", "call_id": "call_of_a_fetched_one", "output": "9"}
with trubrics_instrument.context(**claim):
    client.responses.create(model="gpt-4o", input=[result], previous_response_id="resp_9")
"""
ANSWER = Answer("All trams run.", id="resp_9")
QUEUED = json_reply(response_object(ANSWER, status="queued"))
WHOLE = json_reply(response_object(ANSWER))
ADA = {"user_id": "ada"}
IN_TALK = {"user_id": "ada", "thread_id": "talk-1"}
USUAL: dict[str, Any] = {"metadata": {**IN_TALK, "team": "trams"}}
OWN: dict[str, Any] = {"metadata": {f"trubrics_{name}": one for name, one in IN_TALK.items()}}
IN_CONVERSATION = {"conversation": "talk-1"}


def brief(sink: Sink) -> list[tuple[Any, ...]]:
    """Return event, user, text and status of all events; all are in one thread, of one prompt."""
    told = [(event, event["properties"]) for event in sink.events]
    assert len({(own["$thread_id"], own["$prompt_id"]) for _, own in told}) == 1
    return [
        (event["event"], event["user_id"], own.get("$text"), own.get("status"))
        for event, own in told
    ]


def prompt(user: str) -> tuple[Any, ...]:
    """Return what is told of the question."""
    return ("Prompt", user, "Do the trams run?", None)


def generation(user: str) -> tuple[Any, ...]:
    """Return what is told of the answer."""
    return ("Generation", user, "All trams run.", "ok")


@pytest.mark.parametrize("claim", [ADA, IN_TALK], ids=["a thread of ours", "the app's"])
def test_fetched_elsewhere(claim: dict[str, str], server: Loopback, sink: Sink) -> None:
    """The first process that reads the answer tells it, once, as the one that asked would.

    Though one that was sent earlier may arrive later.
    """
    server.script(QUEUED, QUEUED, WHOLE, QUEUED, WHOLE, WHOLE, WHOLE)
    around = environ(server, sink)
    with (
        Worker(around, SET_UP) as one,
        Worker(around, SET_UP) as other,
        Worker(around, SET_UP) as third,
    ):
        one.run(ASK, claim=claim)
        for worker in (other, other, one, other, third, one):
            worker.run(FETCH, claim=claim)
    assert brief(sink) == [prompt("ada"), generation("ada")]
    asked, answered = (event["properties"] for event in sink.events)
    assert (answered["$generation_id"], answered["model_calls"]) == ("resp_9", 1)
    assert answered["provider"] == asked["provider"]
    since, until = (datetime.fromisoformat(event["timestamp"][:-1]) for event in sink.events)
    assert abs(answered["latency"] - (until - since).total_seconds()) < 0.01


def test_fetched_in_pieces(server: Loopback, sink: Sink) -> None:
    """An answer may be fetched as a stream, by a poll that breaks off and one that does not."""
    pieces = response_events(ANSWER)
    server.script(QUEUED, response_stream(pieces[:4]), response_stream(pieces), WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=ADA)
        other.run(FETCH_PIECES, claim=ADA)
        other.run(FETCH_PIECES, claim=ADA)
        one.run(FETCH, claim=ADA)
    assert brief(sink) == [prompt("ada"), generation("ada")]


@pytest.mark.parametrize(
    ("asker", "fetcher", "user"),
    [
        (ADA, {}, "anonymous"),
        (ADA, {"user_id": "bob", "thread_id": "bobs"}, "anonymous"),
        ({}, {}, "anonymous"),
        ({}, ADA, "ada"),
        (IN_TALK, {"thread_id": "talk-1"}, "anonymous"),
        (IN_TALK, {"user_id": "bob", "thread_id": "talk-1"}, "anonymous"),
    ],
    ids=["nobody", "another", "nobody's", "who is known by now", "who is not said", "an admin"],
)
def test_who_fetches(
    asker: dict[str, str], fetcher: dict[str, str], user: str, server: Loopback, sink: Sink
) -> None:
    """The answer is told under the user who asked, if who fetches it says that, else nobody's."""
    server.script(QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=asker)
        other.run(FETCH, claim={**fetcher, "prompt_id": "of the request that fetches"})
    asked, answered = brief(sink)
    assert (asked[0], asked[2:]) == ("Prompt", prompt("")[2:])
    assert answered[2:] == generation("")[2:]
    own = sink.events[1]["properties"]
    assert ("anonymous" if own.get("anonymous") else answered[1]) == user


@pytest.mark.parametrize(
    ("asker", "claim"),
    [
        (IN_TALK, ADA),
        (IN_TALK, {"user_id": "ada", "thread_id": "talk-2"}),
        ({**ADA, "prompt_id": "message-1"}, ADA),
    ],
    ids=["no thread", "another thread", "a prompt"],
)
def test_ids_of_the_app(
    asker: dict[str, str], claim: dict[str, str], server: Loopback, sink: Sink
) -> None:
    """Where nobody can know the thread or the prompt, the answer is left to who asked."""
    server.script(QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=asker)
        other.run(FETCH, claim=claim)
    assert brief(sink) == [prompt("ada"), ("Generation", "ada", None, "incomplete")]


def who_and_where(sink: Sink) -> list[tuple[Any, ...]]:
    """Return event, user (None if anonymous), thread and team of all events."""
    told = [(event, event["properties"]) for event in sink.events]
    return [
        (
            event["event"],
            None if own.get("anonymous") else event["user_id"],
            own["$thread_id"],
            own.get("team"),
        )
        for event, own in told
    ]


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_repeats_who_asked(way: str, server: Loopback, sink: Sink) -> None:
    """Who asked is read from the answer, however it is fetched, with what else the request said."""
    queued = json_reply(response_object(ANSWER, status="queued", **USUAL))
    pieces = response_stream(response_events(ANSWER, **USUAL))
    whole = json_reply(response_object(ANSWER, **USUAL))
    server.script(queued, queued, pieces if "pieces" in way else whole)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK_WITH, claim={}, fields=USUAL)
        other.run(WAYS["whole"])
        other.run(WAYS[way])
    assert brief(sink) == [prompt("ada"), generation("ada")]
    assert who_and_where(sink) == [
        ("Prompt", "ada", "talk-1", "trams"),
        ("Generation", "ada", "talk-1", "trams"),
    ]
    own = sink.events[1]["properties"]
    assert (own["model_calls"], "time_to_first_token" in own) == (1, "pieces" in way)


@pytest.mark.parametrize(
    ("fields", "asker", "fetcher", "user"),
    [
        (OWN, {}, {}, "ada"),
        (OWN, {"user_id": "bob", "thread_id": "bobs"}, {"user_id": "bob"}, "ada"),
        ({"user": "ada", **IN_CONVERSATION}, {}, {}, "ada"),
        ({"safety_identifier": "ada", **IN_CONVERSATION}, {}, {}, "ada"),
        ({"safety_identifier": "ada", **IN_CONVERSATION}, {}, {"user_id": "bob"}, "ada"),
        ({"user": "a-number", "metadata": {"thread_id": "bobs"}}, IN_TALK, IN_TALK, "ada"),
        ({"user": "a-number", **IN_CONVERSATION}, ADA, {}, None),
        ({"prompt_cache_key": "ada", **IN_CONVERSATION}, {}, {}, None),
        ({"prompt_cache_key": "ada", **IN_CONVERSATION}, {}, ADA, "ada"),
    ],
    ids=[
        *("our keys", "our keys first", "a user", "a safe one", "an admin fetches"),
        *("the code here", "the code there", "no user", "who is known by now"),
    ],
)
def test_which_fields_say_who_asked(
    fields: dict[str, Any],
    asker: dict[str, str],
    fetcher: dict[str, str],
    user: str | None,
    server: Loopback,
    sink: Sink,
) -> None:
    """The answer is told under who asked, whether the code or the answer says so."""
    said = fields | ({"conversation": {"id": "talk-1"}} if "conversation" in fields else {})
    queued = json_reply(response_object(ANSWER, status="queued", **said))
    server.script(queued, json_reply(response_object(ANSWER, **said)))
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK_WITH, claim=asker, fields=fields)
        other.run(FETCH, claim=fetcher)
    assert brief(sink)[1][2:] == generation("")[2:]
    assert who_and_where(sink)[1] == ("Generation", user, "talk-1", None)


def test_a_stream_that_fails(server: Loopback, sink: Sink) -> None:
    """The beginning of a stream has said who asked."""
    queued = json_reply(response_object(ANSWER, status="queued", **USUAL))
    begun = response_events(ANSWER, **USUAL)[:2]
    failed = {"type": "error", "code": "server_error", "message": "No.", "sequence_number": 2}
    server.script(queued, response_stream([*begun, failed]))
    fetch = """
try:
    list(client.responses.retrieve("resp_9", stream=True))
except openai.APIError:
    pass
"""
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK_WITH, claim={}, fields=USUAL)
        other.run(fetch)
    assert who_and_where(sink) == [
        ("Prompt", "ada", "talk-1", "trams"),
        ("Generation failed", "ada", "talk-1", "trams"),
    ]


def test_never_fetched(server: Loopback, sink: Sink) -> None:
    """The process that asked tells at its end that nothing came, and nobody tells more then."""
    server.script(QUEUED, QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as other:
        with Worker(around, SET_UP) as one:
            one.run(ASK, claim=ADA)
            other.run(FETCH, claim=ADA)
        other.run(FETCH, claim=ADA)
    assert brief(sink) == [prompt("ada"), ("Generation", "ada", None, "incomplete")]


def test_fetched_in_vain(server: Loopback, sink: Sink) -> None:
    """The end of a process that has fetched nothing yet is no end of the answer."""
    server.script(QUEUED, QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one:
        one.run(ASK, claim=ADA)
        with Worker(around, SET_UP) as other:
            other.run(FETCH, claim=ADA)
        one.run(FETCH, claim=ADA)
    assert brief(sink) == [prompt("ada"), generation("ada")]


def test_goes_on_from_what_was_fetched(server: Loopback, sink: Sink) -> None:
    """A tool that the answer calls goes on with its turn, in whichever process its result comes."""
    calls = Answer(id="resp_9", tool_calls=(ToolCall("look", "{}", "call_of_a_fetched_one"),))
    server.script(QUEUED, json_reply(response_object(calls)), json_reply(response_object("At 9.")))
    around = environ(server, sink)
    with (
        Worker(around, SET_UP) as one,
        Worker(around, SET_UP) as other,
        Worker(around, SET_UP) as third,
    ):
        one.run(ASK, claim=ADA)
        other.run(FETCH, claim=ADA)
        third.run(BRING, claim=ADA)
    assert brief(sink) == [
        prompt("ada"),
        ("Tool call", "ada", None, None),
        ("Generation", "ada", "At 9.", "ok"),
    ]


def test_forgotten_by_the_board(server: Loopback, sink: Sink) -> None:
    """Who asked says nothing of an answer, if it may have been told, and nobody knows any more."""
    server.script(QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=ADA)
        other.run(FETCH, claim=ADA)
        one.run(FORGET)
    assert brief(sink) == [prompt("ada"), generation("ada")]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_fetched_after_one_that_failed(status: str, server: Loopback, sink: Sink) -> None:
    """What is fetched answers its own question, and is no retry of what was fetched before."""
    failed = response_object(Answer(id="resp_8"), status=status, output=[])
    first = json_reply(response_object(Answer(id="resp_8"), status="queued"))
    server.script(first, json_reply(failed), QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK.replace("Do the trams run?", "Hello?"), claim=IN_TALK)
        other.run(FETCH.replace("resp_9", "resp_8"), claim=IN_TALK)
        one.run(ASK, claim=IN_TALK)
        other.run(FETCH, claim=IN_TALK)
    told = [(event["event"], event["properties"]["$prompt_id"]) for event in sink.events]
    ends = "Generation failed" if status == "failed" else "Generation"
    assert [name for name, _ in told] == ["Prompt", ends, "Prompt", "Generation"]
    assert told[0][1] == told[1][1] != told[2][1] == told[3][1]


def test_a_question_without_words_after_one_that_failed(server: Loopback, sink: Sink) -> None:
    """It is no retry of a question whose words only another process knows."""
    failed = response_object(ANSWER, status="failed", output=[])
    server.script(QUEUED, json_reply(failed), json_reply(response_object("Hi!", id="resp_10")))
    ask = """
with trubrics_instrument.context(**claim):
    client.responses.create(model="gpt-4o", prompt={"id": "pmpt_1"})
"""
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=IN_TALK)
        other.run(FETCH, claim=IN_TALK)
        other.run(ask, claim=IN_TALK)
    names = [event["event"] for event in sink.events]
    assert names == ["Prompt", "Generation failed", "Prompt", "Generation"]


def test_fetched_after_a_question_without_words(server: Loopback, sink: Sink) -> None:
    """Nor is what is fetched a retry of one that failed here."""
    server.script(QUEUED, error_reply(500), WHOLE)
    fail = """
with trubrics_instrument.context(**claim):
    try:
        client.responses.create(model="gpt-4o", prompt={"id": "pmpt_1"})
    except openai.InternalServerError:
        pass
"""
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=IN_TALK)
        other.run(fail, claim=IN_TALK)
        other.run(FETCH, claim=IN_TALK)
    told = [(event["event"], event["properties"]["$prompt_id"]) for event in sink.events]
    assert [name for name, _ in told] == ["Prompt", "Prompt", "Generation failed", "Generation"]
    assert told[3][1] == told[0][1]


def test_what_is_fetched_may_be_rated(server: Loopback, sink: Sink) -> None:
    """It is the last answer of the code that has fetched it."""
    server.script(QUEUED, WHOLE)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=ADA)
        other.run(FETCH + "    trubrics_instrument.feedback(None, 1)\n", claim=ADA)
    (rated,) = [one["properties"] for one in sink.events if one["event"] == "Feedback"]
    assert rated["$generation_id"] == "resp_9"


def test_a_poll_is_no_answer_to_rate(server: Loopback, sink: Sink) -> None:
    """What was answered last is what the user rates, whatever is still to come."""
    server.script(QUEUED, json_reply(chat_completion(Answer("Hi!", id="c-1"))), QUEUED)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=ADA)
        other.run(RATE)
    (rated,) = [one["properties"] for one in sink.events if one["event"] == "Feedback"]
    assert rated["$generation_id"] == "c-1"


def test_a_conversation_goes_on_from_what_was_fetched(server: Loopback, sink: Sink) -> None:
    """It is found by the answer in every process, as one that is told where it was asked."""
    long = Answer(
        "All trams run, and all of them run on time today, as they mostly do.", id="resp_9"
    )
    queued, whole = response_object(long, status="queued"), response_object(long)
    server.script(*map(json_reply, (queued, whole, response_object("Yes.", id="resp_10"))))
    go_on = """
said = [("user", "Do the trams run?"), ("assistant", text), ("user", "Sure?")]
with trubrics_instrument.context(user_id="ada"):
    asked = [{"role": role, "content": content} for role, content in said[-2:]]
    client.responses.create(model="gpt-4o", input=asked)
"""
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        one.run(ASK, claim=ADA)
        other.run(FETCH, claim=ADA)
        one.run(go_on, text=long.text)
    threads = {event["properties"]["$thread_id"] for event in sink.events}
    assert [event["event"] for event in sink.events] == ["Prompt", "Generation"] * 2
    assert len(threads) == 1
    assert all(event["properties"]["thread_inferred"] for event in sink.events)
