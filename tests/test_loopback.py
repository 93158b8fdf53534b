"""The loopback server does to real clients what a test scripts."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

import openai
import pytest
import requests
from openai_wire import (
    Answer,
    ToolCall,
    Usage,
    chat_chunks,
    chat_completion,
    completion,
    completion_chunks,
    error_body,
)
from responses_wire import response_events, response_object

from tests.loopback import Loopback
from tests.replies import (
    CLOSE,
    RESET,
    Fault,
    Gate,
    Reply,
    chat_stream,
    error_reply,
    json_reply,
    raw_reply,
    response_stream,
    truncated_reply,
)
from tests.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionMessageParam
    from pydantic import BaseModel

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
ANSWERS = [
    Answer("Good morning to you"),
    Answer("Cut", finish_reason="length"),
    Answer(refusal="I will not", usage=Usage(3, 4, cached=2, reasoning=1)),
    Answer(tool_calls=(ToolCall("a", '{"x": 1}', "call_1"), ToolCall("b", "{}", "call_2"))),
    Answer("Let me look", tool_calls=(ToolCall("a"),)),
]
CHAT_ANSWERS = [*ANSWERS, Answer("One", more=("Two", "Three four"))]
has_responses = pytest.mark.skipif(
    not hasattr(openai.OpenAI, "responses"), reason="openai has Responses from 1.66"
)


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Run a loopback server for one test."""
    with Loopback() as server:
        yield server


@pytest.fixture
def client(server: Loopback) -> Iterator[openai.OpenAI]:
    """Connect a client that does not retry."""
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0, timeout=5) as client:
        yield client


def _strict(model: BaseModel, source: dict[str, Any]) -> dict[str, Any]:
    """Return what the SDK holds, checked against its own types rather than taken on trust."""
    type(model).model_validate(source)
    return model.model_dump(mode="json", exclude_unset=True, by_alias=True)


@pytest.mark.parametrize("answer", CHAT_ANSWERS)
def test_chat_completion(server: Loopback, client: openai.OpenAI, answer: Answer) -> None:
    """A chat completion reaches the SDK whole, and fits its types."""
    body = chat_completion(answer)
    server.script(json_reply(body), path="/v1/chat/completions")
    got = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert _strict(got, body) == body
    assert server.requests[0].json == {"model": "gpt-4o", "messages": HELLO}
    assert server.requests[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("answer", CHAT_ANSWERS)
def test_chat_chunks(
    server: Loopback, client: openai.OpenAI, answer: Answer, include_usage: bool
) -> None:
    """Streamed chunks reach the SDK one by one, and fit its types."""
    bodies = chat_chunks(answer, include_usage=include_usage)
    server.script(chat_stream(bodies))
    stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    assert [_strict(chunk, body) for chunk, body in zip(stream, bodies, strict=True)] == bodies


@pytest.mark.skipif(openai.VERSION < "2", reason="the helper left beta late in openai 1")
def test_chat_chunks_add_up(server: Loopback, client: openai.OpenAI) -> None:
    """The SDK's own accumulator makes the whole answer of the chunks."""
    answer = Answer("One two", tool_calls=(ToolCall("a", '{"x": 1}'),), more=("Three four",))
    server.script(chat_stream(chat_chunks(answer, include_usage=True)))
    with client.chat.completions.stream(model="gpt-4o", messages=HELLO) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls
    assert call is not None
    assert (call[0].function.name, call[0].function.arguments) == ("a", '{"x": 1}')
    assert [choice.message.content for choice in final.choices] == ["One two", "Three four"]


@pytest.mark.parametrize("answer", [Answer("One two"), Answer("One", more=("Two",))])
def test_completion(server: Loopback, client: openai.OpenAI, answer: Answer) -> None:
    """A legacy completion reaches the SDK, whole and streamed."""
    body, bodies = completion(answer), completion_chunks(answer)
    server.script(json_reply(body), chat_stream(bodies))
    ask = client.completions.create
    assert _strict(ask(model="gpt-3.5", prompt="Hello"), body) == body
    # Not checked against the types: these deny that finish_reason is null until the end.
    stream = ask(model="gpt-3.5", prompt="Hello", stream=True)
    assert [chunk.model_dump(mode="json", exclude_unset=True) for chunk in stream] == bodies


@has_responses
@pytest.mark.parametrize("answer", ANSWERS)
def test_response_object(server: Loopback, client: openai.OpenAI, answer: Answer) -> None:
    """A response reaches the SDK whole, and fits its types."""
    body = response_object(answer, previous_response_id="resp_0")
    server.script(json_reply(body))
    assert _strict(client.responses.create(model="gpt-4o", input="Hello"), body) == body


@has_responses
@pytest.mark.parametrize("answer", ANSWERS)
def test_response_events(server: Loopback, client: openai.OpenAI, answer: Answer) -> None:
    """Events of a streamed response reach the SDK one by one, and fit its types."""
    bodies = response_events(answer)
    server.script(response_stream(bodies))
    stream = client.responses.create(model="gpt-4o", input="Hello", stream=True)
    assert [_strict(event, body) for event, body in zip(stream, bodies, strict=True)] == bodies


@has_responses
@pytest.mark.parametrize("status", ["queued", "failed"])
def test_response_without_output(server: Loopback, client: openai.OpenAI, status: str) -> None:
    """A response that is not done, or failed, has no output."""
    error = {"code": "server_error", "message": "Broken"} if status == "failed" else None
    body = response_object("Hello", status=status, error=error)
    server.script(json_reply(body))
    got = client.responses.create(model="gpt-4o", input="Hello", background=True)
    assert _strict(got, body) == body
    assert (got.output, got.usage) == ([], None)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (error_reply(401), openai.AuthenticationError),
        (error_reply(429, retry_after="2"), openai.RateLimitError),
        (error_reply(500), openai.InternalServerError),
        (Reply(before=RESET), openai.APIConnectionError),
        (truncated_reply(chat_completion("Hello")), openai.APIConnectionError),
        (raw_reply(b"{not json"), json.JSONDecodeError),
    ],
)
def test_faults(
    server: Loopback, client: openai.OpenAI, reply: Reply, error: type[Exception]
) -> None:
    """Each fault is the error that the SDK has for it, and the next request is fine."""
    server.script(reply, json_reply(chat_completion("Hello")))
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert raised.type is error  # a timeout would be a connection error, too
    again = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert again.choices[0].message.content == "Hello"


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        (error_body("Broken"), {"APIError"}),
        # Source: openai before 3.14 lets the error of its HTTP library through.
        (RESET, {"APIConnectionError", "ReadError"}),
    ],
)
def test_broken_stream(
    server: Loopback, client: openai.OpenAI, fault: Any, names: set[str]
) -> None:
    """A stream breaks in the middle, after the chunks before it were received."""
    gate = Gate()
    server.script(chat_stream([*chat_chunks("One two three")[:2], gate, fault]))
    stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "One "]
    gate.open()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one, the next line says
        next(stream)
    assert raised.type.__name__ in names


@pytest.mark.parametrize(
    ("fault", "error"),
    [(RESET, ConnectionResetError), (CLOSE, http.client.RemoteDisconnected)],
)
def test_no_answer(server: Loopback, fault: Fault, error: type[Exception]) -> None:
    """A client can tell a connection that was cut from one that was closed."""
    server.script(Reply(before=fault))
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
    connection.request("GET", "/")
    with contextlib.closing(connection), pytest.raises(error) as raised:
        connection.getresponse()
    assert raised.type is error


def test_gate_holds_the_headers(server: Loopback) -> None:
    """A reply is held until the test lets it go, and both sides can tell."""
    gate, answers = Gate(), list[int]()
    server.script(Reply(204, before=gate))
    thread = threading.Thread(
        target=lambda: answers.append(requests.get(server.url, timeout=5).status_code)
    )
    thread.start()
    assert gate.reached.wait(5)
    assert answers == []
    gate.open()
    thread.join(5)
    assert answers == [204]


def test_close_lets_nobody_wait() -> None:
    """A server that closes opens its gates, so that no client hangs."""
    gate = Gate()
    with Loopback() as server:
        server.script(Reply(steps=[b"1", gate], headers={"content-length": "2"}))
        response = requests.get(server.url, stream=True, timeout=5)
        assert gate.reached.wait(5)
    with response, pytest.raises(requests.exceptions.RequestException):
        assert response.content


def test_which_reply(server: Loopback) -> None:
    """A reply for the path goes before one for any path, and both before the standing one."""
    server.always(lambda request: json_reply([request.method, request.query]))
    server.script(json_reply("any"))
    server.script(json_reply("here"), path="/here")
    got = [requests.get(f"{server.url}/here?a=1", timeout=5).json() for _ in range(3)]
    assert got == ["here", "any", ["GET", "a=1"]]


def test_nothing_scripted(server: Loopback) -> None:
    """A request that nobody thought of gets an answer that says so."""
    response = requests.post(f"{server.url}/x", json={}, timeout=5)
    assert (response.status_code, response.json()) == (
        418,
        error_body("Nothing is scripted for POST /x."),
    )


def test_connection_is_kept(server: Loopback) -> None:
    """Two requests of a session go over one connection, a chunked reply between them."""
    server.script(chat_stream(chat_chunks("Hello")), json_reply(1))
    with requests.Session() as session:
        for _ in range(2):
            session.get(server.url, timeout=5)
    assert len({request.client for request in server.wait_for(2)}) == 1


def test_sink() -> None:
    """The sink lists what it accepted, in either form, and remembers what it refused."""
    one, two = {"event": "Prompt", "user_id": "a"}, {"event": "Generation", "user_id": "a"}
    with Sink() as sink:
        sink.script(503, error_reply(429, retry_after="1"))
        sink.refuse("/publish_event", 401)
        statuses = [
            requests.post(f"{sink.host}/{endpoint}", json=body, timeout=5).status_code
            for endpoint, body in [
                ("publish_events", [one]),
                ("publish_events", [one]),
                ("publish_events", [one, two]),
                ("publish_event", two),
                ("elsewhere", two),
            ]
        ]
        sink.refuse("/publish_event", 200)
        requests.post(f"{sink.host}/publish_event", json=two, timeout=5)
        assert sink.wait_for(3) == [one, two, two]
    assert statuses == [503, 429, 200, 401, 404]
    assert [request.json for request in sink.requests][:2] == [[one], [one]]


def test_waiting_has_an_end() -> None:
    """A wait for what never comes fails, and says what there is."""
    with Sink() as sink:
        requests.post(f"{sink.host}/publish_event", json={"event": "Prompt"}, timeout=5)
        with pytest.raises(AssertionError, match=r"there are 1 events: \['Prompt'\]"):
            sink.wait_for(2, timeout_s=0.01)
        with pytest.raises(AssertionError, match="1 of 2 requests"):
            sink.wait_for_requests(2, timeout_s=0.01)
