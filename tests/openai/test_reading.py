"""What a question and an answer can be: each kind, as the events that it makes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from openai_wire import Answer, ToolCall, chat_chunks, chat_completion, completion_chunks
from responses_wire import response_events, response_object

from tests.openai.asking import client_of, needs
from tests.replies import Reply, chat_stream, json_reply, response_stream
from tests.told import told
from trubrics_instrument import configure, context, feedback, identify, patch_openai
from trubrics_instrument._context import scope
from trubrics_instrument.providers.openai._fields import json_or_none

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback
    from tests.sink import Sink

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
TEXT = {"type": "text", "text": "What is this?"}
SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}


class Case(NamedTuple):
    """One kind: what differs from the usual, and what is told of it."""

    name: str
    given: Any
    expected: Any


def user(content: Any, **more: Any) -> dict[str, Any]:
    """Return a message of the user."""
    return {"role": "user", "content": content, **more}


CHAT_QUESTIONS = [
    Case("plain", [HI], {"$text": "Hi"}),
    Case(
        "after a history",
        [user("Old"), {"role": "assistant", "content": "Yes"}, HI],
        {"$text": "Hi"},
    ),
    Case("named user", [user("Hi", name="ada")], {"$text": "Hi"}),
    Case(
        "parts",
        [user([TEXT, {"type": "text", "text": "Quick!"}])],
        {"$text": "What is this?\nQuick!"},
    ),
    Case(
        "image", [user([TEXT, IMAGE, IMAGE])], {"$text": "What is this?", "attachments": "image:2"}
    ),
    Case("image alone", [user([IMAGE])], {"attachments": "image:1"}),
    Case("audio", [user([AUDIO])], {"attachments": "audio:1"}),
    Case(
        "file",
        [user([TEXT, FILE, IMAGE])],
        {"$text": "What is this?", "attachments": "file:1,image:1"},
    ),
    Case("kinds in order", [user([IMAGE, FILE])], {"attachments": "file:1,image:1"}),
    Case("no user", [SYSTEM], {"$text": "Be brief."}),
    Case(
        "no user, but others",
        [SYSTEM, {"role": "developer", "content": "Be kind."}],
        {"$text": "Be kind."},
    ),
    Case("developer last", [HI, {"role": "developer", "content": "Be kind."}], {"$text": "Hi"}),
    Case("nothing", [], {}),
    Case("empty", [user("")], {}),
    Case("white space", [user("  ")], {"$text": "  "}),
    Case("long", [user("word " * 40_000)], {"$text": "word " * 4_000, "text_truncated": True}),
    Case("not latin", [user("Ça va? 你好 🙂")], {"$text": "Ça va? 你好 🙂"}),
]


@pytest.fixture(autouse=True)
def patched() -> None:
    """Put the patch on."""
    patch_openai(user_id="ada", thread_id="t-1")


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    """Give a client of the loopback server."""
    with client_of(server, "sync") as ready:
        yield ready


def told_of(sink: Sink, n: int) -> list[dict[str, Any]]:
    """Return the events without what all of them say."""
    common = {"user_id", "$thread_id", "$prompt_id", "framework", "provider", "model", "operation"}
    return [
        {name: value for name, value in event.items() if name not in common}
        for event in told(sink, n)
    ]


@pytest.mark.parametrize("case", CHAT_QUESTIONS, ids=lambda case: case.name)
def test_question_of_chat(case: Case, sink: Sink, server: Loopback, client: Any) -> None:
    """The question is the text of the user's last message; what is no text is counted."""
    server.script(json_reply(chat_completion("Yes")))
    client.chat.completions.create(model="m", messages=case.given)
    assert told_of(sink, 2)[0] == {"event": "Prompt", **case.expected}


RESPONSES_QUESTIONS = [
    Case("str", {"input": "Hi"}, {"$text": "Hi"}),
    Case("message", {"input": [SYSTEM, HI]}, {"$text": "Hi"}),
    Case(
        "parts",
        {"input": [user([{"type": "input_text", "text": "Look"}, {"type": "input_image"}])]},
        {"$text": "Look", "attachments": "image:1"},
    ),
    Case(
        "file",
        {"input": [user([{"type": "input_file", "file_id": "f"}])]},
        {"attachments": "file:1"},
    ),
    Case("stored prompt", {"prompt": {"id": "pmpt_1"}}, {}),
    Case(
        "stored prompt with a variable",
        {"prompt": {"id": "pmpt_1", "variables": {"city": "Lyon"}}},
        {"$text": "Lyon"},
    ),
    Case(
        "stored prompt with variables",
        {"prompt": {"id": "pmpt_1", "variables": {"city": "Lyon", "day": "Monday"}}},
        {"$text": "city: Lyon\nday: Monday"},
    ),
    Case(
        "stored prompt with an empty variable",
        {"prompt": {"id": "pmpt_1", "variables": {"city": "Lyon", "day": ""}}},
        {"$text": "Lyon"},
    ),
    Case(
        "stored prompt and input",
        {"prompt": {"id": "p", "variables": {"city": "Lyon"}}, "input": "Hi"},
        {"$text": "Hi"},
    ),
]


@needs("responses")
@pytest.mark.parametrize("case", RESPONSES_QUESTIONS, ids=lambda case: case.name)
def test_question_of_responses(case: Case, sink: Sink, server: Loopback, client: Any) -> None:
    """The same over the Responses API, and what an app fills into a stored prompt."""
    server.script(json_reply(response_object("Yes")))
    client.responses.create(model="m", **case.given)
    assert told_of(sink, 2)[0] == {"event": "Prompt", **case.expected}


@needs("responses")
def test_a_stored_prompt_has_its_own_model(sink: Sink, server: Loopback, client: Any) -> None:
    """Where the app names no model, the assistant is the model that answered."""
    server.script(json_reply(response_object(Answer("Yes", model="gpt-4.1-2025-04-14"))))
    client.responses.create(prompt={"id": "pmpt_1"}, input="Hi")
    assert told(sink, 2)[1]["$assistant_id"] == "gpt-4.1-2025-04-14"


COMPLETION_QUESTIONS = [
    Case("str", "Once upon", {"$text": "Once upon"}),
    Case("several", ["One", "Two"], {"$text": "One\n\nTwo"}),
    Case("tokens", [1, 2, 3], {"attachments": "tokens:3"}),
    Case("several of tokens", [[1, 2], [3]], {"attachments": "tokens:3"}),
]


@pytest.mark.parametrize("case", COMPLETION_QUESTIONS, ids=lambda case: case.name)
def test_question_of_completions(case: Case, sink: Sink, server: Loopback, client: Any) -> None:
    """The same for legacy completions, whose prompt may be tokens."""
    server.script(json_reply({"id": "c", "choices": [{"text": "Yes", "index": 0}]}))
    client.completions.create(model="m", prompt=case.given)
    assert told_of(sink, 2)[0] == {"event": "Prompt", **case.expected}


def chat(message: dict[str, Any], finish_reason: str | None = "stop", **more: Any) -> Any:
    """Return the body of a chat completion with this message."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": finish_reason,
    }
    return {
        "id": "a-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": [choice],
        **more,
    }


def generation(**more: Any) -> dict[str, Any]:
    """Return what is told of a usual answer, with what differs."""
    usual = {
        "event": "Generation",
        "$assistant_id": "m",
        "$generation_id": "a-1",
        "response_model": "m-1",
        "finish_reason": "stop",
        "status": "ok",
        "model_calls": 1,
    }
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def tool_call(name: str, call_id: str | None = "call_1") -> dict[str, Any]:
    """Return what is told of a tool call."""
    known = {"event": "Tool call", "$assistant_id": "m", "tool_name": name, "tool_call_id": call_id}
    return {name: value for name, value in known.items() if value is not None}


FUNCTION = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CUSTOM = {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "x"}}
CHAT_ANSWERS = [
    Case("text", chat({"content": "Yes"}), [generation(**{"$text": "Yes"})]),
    Case("refusal", chat({"content": None, "refusal": "No!"}), [generation(**{"$text": "No!"})]),
    Case(
        "audio",
        chat({"content": None, "audio": {"id": "x", "data": "AAAA", "transcript": "Yes"}}),
        [generation(**{"$text": "Yes"}, attachments="audio:1")],
    ),
    Case(
        "content parts of a compatible host",
        chat(
            {"content": [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}]}
        ),
        [generation(**{"$text": "Yes"})],
    ),
    Case(
        "content parts that are no text",
        chat({"content": [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Yes"}]}),
        [generation(**{"$text": "Yes"})],
    ),
    Case(
        "reasoning of a compatible host",
        chat({"content": "Yes", "reasoning_content": "Hm", "reasoning": "Hm"}),
        [generation(**{"$text": "Yes"})],
    ),
    Case(
        "images of a compatible host",
        chat({"content": "Here", "images": [IMAGE, IMAGE]}),
        [generation(**{"$text": "Here"}, attachments="image:2")],
    ),
    Case(
        "cut short",
        chat({"content": "Ye"}, "length"),
        [generation(**{"$text": "Ye"}, finish_reason="length", status="incomplete")],
    ),
    Case(
        "filtered",
        chat({"content": None}, "content_filter"),
        [generation(finish_reason="content_filter", status="incomplete")],
    ),
    Case("empty", chat({"content": ""}), [generation()]),
    Case("nothing", chat({"content": None}, None), [generation(finish_reason=None)]),
    Case(
        "tools alone",
        chat({"content": None, "tool_calls": [FUNCTION, CUSTOM]}, "tool_calls"),
        [tool_call("look"), tool_call("run", "call_2")],
    ),
    Case(
        "text and a tool",
        chat({"content": "One moment", "tool_calls": [FUNCTION]}, "tool_calls"),
        [
            generation(**{"$text": "One moment"}, finish_reason="tool_calls", tool_calls=1),
            tool_call("look"),
        ],
    ),
    Case(
        "a function as it used to be",
        chat({"content": None, "function_call": {"name": "look", "arguments": "{}"}}),
        [tool_call("look", None)],
    ),
    Case(
        "tokens",
        chat(
            {"content": "Yes"},
            usage={
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "total_tokens": 12,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        ),
        [
            generation(
                **{"$text": "Yes"},
                input_tokens=5,
                output_tokens=7,
                total_tokens=12,
                cached_input_tokens=3,
                reasoning_tokens=2,
            )
        ],
    ),
    Case(
        "tokens that count nothing",
        chat({"content": "Yes"}, usage={"prompt_tokens": True, "completion_tokens": 2}),
        [generation(**{"$text": "Yes"}, output_tokens=2)],
    ),
    Case(
        "odd tokens",
        chat({"content": "Yes"}, usage={"prompt_tokens": "5", "completion_tokens": None}),
        [generation(**{"$text": "Yes"})],
    ),
]


@pytest.mark.parametrize("case", CHAT_ANSWERS, ids=lambda case: case.name)
def test_answer_of_chat(case: Case, sink: Sink, server: Loopback, client: Any) -> None:
    """Each kind of answer is told as what it is; reasoning is never text."""
    server.script(json_reply(case.given))
    client.chat.completions.create(model="m", messages=[HI])
    assert told_of(sink, 1 + len(case.expected))[1:] == case.expected


def test_an_answer_without_ids(sink: Sink, server: Loopback, client: Any) -> None:
    """A host without ids or a model's name still gives a Generation, with an id of our own."""
    server.script(json_reply({"choices": [{"message": {"content": "Yes"}}]}))
    client.chat.completions.create(model="m", messages=[HI])
    event = told_of(sink, 2)[1]
    assert len(event.pop("$generation_id")) == len("00000000-0000-0000-0000-000000000000")
    known = {"event": "Generation", "$text": "Yes", "$assistant_id": "m"}
    assert event == {**known, "status": "ok", "model_calls": 1}


def item(kind: str, **more: Any) -> dict[str, Any]:
    """Return an item of a response's output."""
    return {"id": "i", "type": kind, "status": "completed", **more}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return a message of a response's output."""
    return item("message", role="assistant", content=list(parts))


def part(text: str) -> dict[str, Any]:
    """Return a text of a response's message."""
    return {"type": "output_text", "text": text, "annotations": [{"type": "url_citation"}]}


def response(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the body of a response."""
    usual = response_object(Answer("", id="a-1", model="m-1", usage=None))
    return {**usual, "output": list(output), **more}


RESPONSES_ANSWERS = [
    Case(
        "text", response(message(part("Yes"))), [generation(**{"$text": "Yes"}, finish_reason=None)]
    ),
    Case(
        "several messages",
        response(
            item("reasoning", summary=[]), message(part("Yes, "), part("it ")), message(part("is"))
        ),
        [generation(**{"$text": "Yes, it is"}, finish_reason=None)],
    ),
    Case(
        "refusal",
        response(message({"type": "refusal", "refusal": "No!"})),
        [generation(**{"$text": "No!"}, finish_reason=None)],
    ),
    Case(
        "incomplete",
        response(
            message(part("Ye")),
            status="incomplete",
            incomplete_details={"reason": "max_output_tokens"},
        ),
        [generation(**{"$text": "Ye"}, finish_reason="max_output_tokens", status="incomplete")],
    ),
    Case(
        "a function",
        response(item("function_call", call_id="call_1", name="look", arguments="{}")),
        [tool_call("look")],
    ),
    Case(
        "a custom tool",
        response(item("custom_tool_call", call_id="call_1", name="run", input="x")),
        [tool_call("run")],
    ),
    Case(
        "built-in tools and text",
        response(item("web_search_call"), item("file_search_call"), message(part("Yes"))),
        [
            generation(**{"$text": "Yes"}, finish_reason=None, tool_calls=2),
            tool_call("web_search", None),
            tool_call("file_search", None),
        ],
    ),
    Case(
        "an image",
        response(item("image_generation_call", result="AAAA"), message(part("Here"))),
        [
            generation(
                **{"$text": "Here"}, finish_reason=None, attachments="image:1", tool_calls=1
            ),
            tool_call("image_generation", None),
        ],
    ),
    Case(
        "failed",
        response(status="failed", error={"code": "server_error", "message": "secret"}),
        [
            {
                "event": "Generation failed",
                "$assistant_id": "m",
                "status": "error",
                "error_type": "server_error",
            }
        ],
    ),
    Case("empty", response(), [generation(finish_reason=None)]),
]


@needs("responses")
def test_an_id_that_is_no_text(sink: Sink, server: Loopback, client: Any) -> None:
    """A host that numbers its responses gives no id that another one would not give again."""
    server.script(json_reply(response(message(part("Yes")), id=5)))
    client.responses.create(model="m", input="Hi")
    generation_id = told_of(sink, 2)[1]["$generation_id"]
    assert len(generation_id) == len("00000000-0000-0000-0000-000000000000")


@needs("responses")
@pytest.mark.parametrize("case", RESPONSES_ANSWERS, ids=lambda case: case.name)
def test_answer_of_responses(case: Case, sink: Sink, server: Loopback, client: Any) -> None:
    """The same over the Responses API: messages, tools of the app and built-in ones, failures."""
    server.script(json_reply(case.given))
    client.responses.create(model="m", input="Hi")
    assert told_of(sink, 1 + len(case.expected))[1:] == case.expected


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {
        "id": "a-1",
        "object": "chat.completion.chunk",
        "model": "m-1",
        "choices": [choice],
        **more,
    }


def piece_of_tool(call_id: str | None, name: str | None) -> dict[str, Any]:
    """Return a piece of a call of a tool, from a host that numbers every call 0."""
    return {"index": 0, "id": call_id, "function": {"name": name, "arguments": "{"}}


STREAMS = [
    Case(
        "Azure's first chunk has no model, and no choice",
        [{"id": "", "model": "", "choices": []}, chunk({"content": "Yes"}), chunk({}, "stop")],
        [generation(**{"$text": "Yes"}, stream=True)],
    ),
    Case(
        "usage in each chunk",
        [
            chunk({"content": "Y"}, usage={"prompt_tokens": 5, "completion_tokens": 1}),
            chunk({"content": "es"}, "stop", usage={"prompt_tokens": 5, "completion_tokens": 2}),
        ],
        [generation(**{"$text": "Yes"}, stream=True, input_tokens=5, output_tokens=2)],
    ),
    Case(
        "reasoning comes first",
        [chunk({"reasoning_content": "Hm"}), chunk({"content": "Yes"}), chunk({}, "stop")],
        [generation(**{"$text": "Yes"}, stream=True)],
    ),
    Case(
        "refusal",
        [chunk({"refusal": "No"}), chunk({"refusal": "!"}), chunk({}, "stop")],
        [generation(**{"$text": "No!"}, stream=True)],
    ),
    Case(
        "audio",
        [chunk({"audio": {"transcript": "Ye"}}), chunk({"audio": {"transcript": "s"}}, "stop")],
        [generation(**{"$text": "Yes"}, stream=True, attachments="audio:1")],
    ),
    Case(
        "images of a compatible host",
        [
            chunk({"content": "", "images": [{"type": "image_url", "image_url": {"url": "x"}}]}),
            chunk({"images": [{"type": "image_url", "image_url": {"url": "y"}}]}, "stop"),
        ],
        [generation(stream=True, attachments="image:2")],
    ),
    Case(
        "tools in pieces",
        chat_chunks(
            Answer(tool_calls=(ToolCall("look", '{"a": 1}'), ToolCall("run", "{}", "call_2")))
        ),
        [tool_call("look") | {"stream": True}, tool_call("run", "call_2") | {"stream": True}],
    ),
    Case(
        "two tools with one index",
        [
            chunk({"tool_calls": [piece_of_tool("call_1", "look")]}),
            chunk({"tool_calls": [piece_of_tool(None, None)]}),
            chunk({"tool_calls": [piece_of_tool("call_2", "run")]}),
            chunk({"tool_calls": [piece_of_tool("call_2", "run")]}, "tool_calls"),
        ],
        [tool_call("look") | {"stream": True}, tool_call("run", "call_2") | {"stream": True}],
    ),
    Case(
        "one tool, and an id for each piece",
        [
            chunk({"tool_calls": [piece_of_tool("call_1", "look")]}),
            chunk({"tool_calls": [piece_of_tool("call_7", None)]}, "tool_calls"),
        ],
        [tool_call("look") | {"stream": True}],
    ),
    Case(
        "a word, then parts, then another choice",
        [
            chunk({"content": "Y"}),
            chunk({"content": "e"}),
            chunk({"content": [{"type": "text", "text": "s"}]}),
            chunk({"content": "", "refusal": "no"}),
            {**chunk({}), "choices": [{"index": 1, "delta": {"content": "No"}}]},
            chunk({"content": "!"}, "length"),
        ],
        [
            generation(
                **{"$text": "Yes!"}, stream=True, finish_reason="length", status="incomplete"
            ),
            {
                "event": "Generation",
                "$assistant_id": "m",
                "$generation_id": "a-1:1",
                "$text": "No",
                "stream": True,
                "response_model": "m-1",
                "status": "ok",
                "model_calls": 1,
            },
        ],
    ),
    Case(
        "an id that comes late",
        [
            {**chunk({"content": "Y"}), "id": ""},
            chunk({"content": "es"}),
            {**chunk({}, "stop"), "id": ""},
        ],
        [generation(**{"$text": "Yes"}, stream=True)],
    ),
    Case(
        "a model that comes late",
        [
            {**chunk({"content": "Y"}), "model": ""},
            chunk({"content": "es"}),
            {**chunk({}, "stop"), "model": ""},
        ],
        [generation(**{"$text": "Yes"}, stream=True)],
    ),
    Case(
        "empty words before a refusal",
        [chunk({"content": ""}), chunk({"content": ""}), chunk({"refusal": "No!"}, "stop")],
        [generation(**{"$text": "No!"}, stream=True)],
    ),
    Case(
        "words with a count, a tool or a function",
        [
            chunk({"content": "Y"}),
            chunk({"content": "e", "tool_calls": [piece_of_tool("call_1", "look")]}),
            chunk({"content": "s", "function_call": {"name": "run", "arguments": ""}}),
            chunk({"content": "!"}, usage={"prompt_tokens": 5, "completion_tokens": 2}),
            chunk({}, "stop"),
        ],
        [
            generation(
                **{"$text": "Yes!"}, stream=True, input_tokens=5, output_tokens=2, tool_calls=2
            ),
            tool_call("look") | {"stream": True},
            tool_call("run", None) | {"stream": True},
        ],
    ),
    Case(
        "no finish reason",
        [chunk({"content": "Yes"})],
        [generation(**{"$text": "Yes"}, finish_reason=None, stream=True)],
    ),
    Case("nothing at all", [], [{"event": "Generation", "$assistant_id": "m", "stream": True}]),
]


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_streams(case: Case, sink: Sink, server: Loopback, client: Any) -> None:
    """Streams of all kinds of hosts add up to the same events."""
    reply: Reply = chat_stream(case.given)
    server.script(reply)
    for _ in client.chat.completions.create(model="m", messages=[HI], stream=True):
        pass
    events = told_of(sink, 1 + len(case.expected))[1:]
    if case.name == "nothing at all":
        (event,) = events
        events = [{name: event[name] for name in case.expected[0]}]
    assert events == case.expected


@pytest.mark.parametrize("at", [0, 1], ids=["before", "between"])
@pytest.mark.parametrize("endpoint", ["chat", "completion"])
def test_tokens_that_come_early(
    endpoint: str, at: int, sink: Sink, server: Loopback, client: Any
) -> None:
    """A chunk of tokens alone ends nothing that has not come to its end."""
    answer = Answer("One two", usage=None)
    chunks = chat_chunks(answer) if endpoint == "chat" else completion_chunks(answer)
    used: dict[str, Any] = {**chunks[0], "choices": [], "usage": {"prompt_tokens": 5}}
    server.script(chat_stream([*chunks[:at], used, *chunks[at:]]))
    if endpoint == "chat":
        list(client.chat.completions.create(model="m", messages=[HI], stream=True))
    else:
        list(client.completions.create(model="m", prompt="Hi", stream=True))
    answered = told(sink, 2)[1]
    assert (answered["$text"], answered["status"], answered["input_tokens"]) == ("One two", "ok", 5)


def test_a_completion_that_goes_on_behind_its_end(
    sink: Sink, server: Loopback, client: Any
) -> None:
    """A choice that gave its reason to end keeps that, whatever comes behind it."""
    words = completion_chunks(Answer("Yes", usage=None))
    server.script(chat_stream([*words, words[0] | {"choices": [{"index": 0, "text": "!"}]}]))
    list(client.completions.create(model="m", prompt="Hi", stream=True))
    answered = told(sink, 2)[1]
    assert (answered["$text"], answered["finish_reason"]) == ("Yes!", "stop")


def test_the_first_piece(sink: Sink, server: Loopback, client: Any) -> None:
    """A streamed answer tells when its first piece came; a whole one has no pieces."""
    server.script(chat_stream(chat_chunks("Yes")), json_reply(chat_completion("Yes")))
    list(client.chat.completions.create(model="m", messages=[HI], stream=True))
    client.chat.completions.create(model="m", messages=[HI])
    _, streamed, _, whole = (event["properties"] for event in sink.wait_for(4))
    assert 0 < streamed["time_to_first_token"] <= streamed["latency"]
    assert "time_to_first_token" not in whole


@needs("responses")
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_the_first_word(endpoint: str, sink: Sink, server: Loopback, client: Any) -> None:
    """The first piece is the first that has something of the answer: not that it begins."""
    if endpoint == "chat":
        first, *chunks = chat_chunks("Yes")
        server.script(chat_stream([first, 0.2, *chunks]))
        list(client.chat.completions.create(model="m", messages=[HI], stream=True))
    else:
        events = response_events("Yes")
        server.script(response_stream([*events[:4], 0.2, *events[4:]]))
        list(client.responses.create(model="m", input="Hi", stream=True))
    _, told_of = (event["properties"] for event in sink.wait_for(2))
    assert 0.2 <= told_of["time_to_first_token"] <= told_of["latency"]


def test_the_first_thought(sink: Sink, server: Loopback, client: Any) -> None:
    """What a compatible host's model thinks is something of the answer."""
    first, *chunks = chat_chunks("Yes")
    server.script(chat_stream([first, chunk({"reasoning_content": "Hm"}), 0.05, *chunks]))
    started_s = time.perf_counter()
    stream = client.chat.completions.create(model="m", messages=[HI], stream=True)
    assert len([next(stream), next(stream)]) == 2
    thought_s = time.perf_counter() - started_s
    list(stream)
    told_of = sink.wait_for(2)[1]["properties"]
    assert told_of["time_to_first_token"] <= round(thought_s, 4)


@needs("responses")
def test_an_image_alone(sink: Sink, server: Loopback, client: Any) -> None:
    """An answer that is nothing but an image is an answer."""
    image = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "status": "completed"}
    server.script(json_reply({**response_object(""), "output": [image]}))
    client.responses.create(model="m", input="Draw a cat.")
    _, generation, _ = told(sink, 3)
    assert (generation["event"], generation["attachments"]) == ("Generation", "image:1")


def test_metadata_becomes_properties(sink: Sink, server: Loopback, client: Any) -> None:
    """The request's own metadata are properties, without what says who and where."""
    configure(host=sink.host)
    patch_openai()
    server.script(json_reply(chat_completion("Yes")))
    metadata = {"plan": "pro", "user_id": "bob", "session_id": "s-1"}
    client.chat.completions.create(model="m", messages=[HI], extra_body={"metadata": metadata})
    for event in told(sink, 2):
        assert (event["user_id"], event["$thread_id"], event["plan"]) == ("bob", "thread 1", "pro")
        assert "session_id" not in event
    assert sink.events[0]["properties"]["$thread_id"] == "s-1"


OUR_NAMES = {"status": "trial", "total_tokens": 100, "model": "mine", "$text": "?", "source": "x"}


@pytest.mark.parametrize("said_by", ["context", "identify", "patch", "metadata"])
def test_our_own_names(said_by: str, sink: Sink, server: Loopback, client: Any) -> None:
    """A property of the app's by a name of ours would lie on the event that has no such fact."""
    configure(host=sink.host)
    own = {**OUR_NAMES, "plan": "pro"}
    patch_openai(properties=own if said_by == "patch" else None)
    server.script(json_reply(chat_completion("Yes")))
    extra = {"extra_body": {"metadata": own}} if said_by == "metadata" else {}
    with scope.Request(), context(properties=own if said_by == "context" else None):
        if said_by == "identify":
            identify(None, properties=own)
        client.chat.completions.create(model="m", messages=[HI], **extra)
        assert feedback(None, 1, properties={"model": "theirs"})
    asked, answered, rated = told(sink, 3)
    assert (asked["plan"], asked["$text"], asked["model"]) == ("pro", "Hi", "m")
    assert not {"status", "total_tokens"} & set(asked)
    assert (answered["plan"], answered["$text"], answered["status"]) == ("pro", "Yes", "ok")
    assert (rated.get("$text"), rated["model"], rated.get("status")) == (None, "theirs", None)


@pytest.mark.parametrize("body", [None, 5, "{", b"\xff"], ids=repr)
def test_a_body_that_is_no_json(body: Any) -> None:
    """A client of the app's own, a mock's for one, may have anything for a body."""
    assert json_or_none(body) is None
