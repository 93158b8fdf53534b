"""What is a turn, at the level of calls: one question is told once, whatever it takes to answer."""

from __future__ import annotations

from contextlib import suppress as suppress_errors
from contextvars import copy_context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pydantic
import pytest
from openai_wire import Answer, ToolCall, chat_chunks, chat_completion
from responses_wire import response_events, response_object

from tests.openai.asking import (
    MODES,
    Mode,
    client_of,
    close_client,
    in_this_sdk,
    needs,
    pieces,
    settled,
)
from tests.replies import chat_stream, error_reply, json_reply, response_stream
from tests.told import told
from trubrics_instrument import _runtime, configure, context, patch_openai
from trubrics_instrument._context import scope
from trubrics_instrument._conversations import turns

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("mode", MODES)
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
USER = {"role": "user", "content": "Will it rain in Lyon?"}
CALLS = Answer(tool_calls=(ToolCall("get_weather", '{"city": "Lyon"}', "call_7"),), usage=None)
ANSWER = Answer("No, it is sunny.", usage=None, id="answer-2")


def brief(sink: Sink, n: int) -> list[tuple[Any, ...]]:
    """Return event, text, prompt and thread of the first `n` events."""
    return [
        (one["event"], one.get("$text"), one.get("$prompt_id"), one.get("$thread_id"))
        for one in told(sink, n)
    ]


async def say(client: Any, messages: list[Any], *, stream: bool = False, **more: Any) -> None:
    """Ask chat completions, and read the answer to its end."""
    arguments = {"model": "gpt-4o", "messages": messages, **more}
    if stream:
        arguments["stream"] = True
    answer = await settled(client.chat.completions.create(**arguments))
    if stream:
        assert [piece async for piece in pieces(answer)]


@BOTH
@EITHER
async def test_tools(mode: Mode, stream: bool, sink: Sink, server: Loopback) -> None:
    """A call that brings tool results goes on with the turn of the call that asked for them."""
    patch_openai()
    replies = [
        chat_stream(chat_chunks(one)) if stream else json_reply(chat_completion(one))
        for one in (CALLS, CALLS, ANSWER)
    ]
    server.script(*replies)
    client = client_of(server, mode)
    call = chat_completion(CALLS)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_7", "content": "sunny"}
    await say(client, [USER], stream=stream)
    await say(client, [USER, call, result], stream=stream)
    await say(client, [USER, call, result, call, result], stream=stream)
    await close_client(client)
    common = {
        "user_id": "anon 1",
        "$thread_id": "thread 1",
        "$prompt_id": "prompt 1",
        "anonymous": True,
        "thread_inferred": True,
        "framework": "openai",
        "provider": "127.0.0.1",
        "operation": "chat",
        "model": "gpt-4o",
        **({"stream": True} if stream else {}),
    }
    assistant = {"$assistant_id": "gpt-4o"}
    tool = {"tool_name": "get_weather", "tool_call_id": "call_7"}
    assert told(sink, 4) == [
        {"event": "Prompt", "$text": USER["content"], **common},
        {"event": "Tool call", **common, **assistant, **tool},
        {"event": "Tool call", **common, **assistant, **tool},
        {
            "event": "Generation",
            "$text": ANSWER.text,
            "$generation_id": "answer-2",
            **common,
            **assistant,
            "status": "ok",
            "response_model": ANSWER.model,
            "finish_reason": "stop",
            "model_calls": 3,
            "tool_calls": 2,
        },
    ]


@needs("responses")
@BOTH
@EITHER
@pytest.mark.parametrize("stateful", [True, False], ids=["previous_response_id", "whole input"])
async def test_tools_of_responses(
    mode: Mode, stream: bool, stateful: bool, sink: Sink, server: Loopback
) -> None:
    """The same over the Responses API, where the results may come without the question."""
    patch_openai()
    first = Answer(tool_calls=CALLS.tool_calls, id="resp_a")
    second = Answer("No.", id="resp_b")
    server.script(
        *(
            response_stream(response_events(one)) if stream else json_reply(response_object(one))
            for one in (first, second)
        )
    )
    client = client_of(server, mode)
    result = {"type": "function_call_output", "call_id": "call_7", "output": "sunny"}
    call = response_object(first)["output"][0]
    follow_up: dict[str, Any] = {"input": [USER, call, result]}
    if stateful:
        follow_up = {"input": [result], "previous_response_id": "resp_a"}
    for arguments in ({"input": USER["content"]}, follow_up):
        answer = await settled(client.responses.create(model="gpt-4o", stream=stream, **arguments))
        if stream:
            assert [piece async for piece in pieces(answer)]
    await close_client(client)
    assert brief(sink, 3) == [
        ("Prompt", USER["content"], "prompt 1", "thread 1"),
        ("Tool call", None, "prompt 1", "thread 1"),
        ("Generation", "No.", "prompt 1", "thread 1"),
    ]


@BOTH
async def test_retry(mode: Mode, sink: Sink, server: Loopback) -> None:
    """The same request after a failure is the same prompt; after an answer it is a new one."""
    patch_openai()
    server.script(error_reply(500), error_reply(503), *[json_reply(chat_completion(ANSWER))] * 2)
    client = client_of(server, mode)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            await say(client, [USER])
    await say(client, [USER], model="gpt-4o")
    await say(client, [USER])
    await close_client(client)
    question = USER["content"]
    assert brief(sink, 6) == [
        ("Prompt", question, "prompt 1", "thread 1"),
        ("Generation failed", None, "prompt 1", "thread 1"),
        ("Generation failed", None, "prompt 1", "thread 1"),
        ("Generation", ANSWER.text, "prompt 1", "thread 1"),
        ("Prompt", question, "prompt 2", "thread 2"),
        ("Generation", ANSWER.text, "prompt 2", "thread 2"),
    ]


@needs("responses")
def test_retry_in_another_form(sink: Sink, server: Loopback) -> None:
    """A question that is tried again as a message, where it was a text before, is the same."""
    patch_openai()
    server.script(error_reply(500), json_reply(response_object(ANSWER)))
    with client_of(server, "sync") as client:
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model="gpt-4o", input=USER["content"])
        client.responses.create(model="gpt-4o", input=[USER])
    assert brief(sink, 3) == [
        ("Prompt", USER["content"], "prompt 1", "thread 1"),
        ("Generation failed", None, "prompt 1", "thread 1"),
        ("Generation", ANSWER.text, "prompt 1", "thread 1"),
    ]


@BOTH
async def test_the_sdks_own_retries_are_never_seen(
    mode: Mode, sink: Sink, server: Loopback
) -> None:
    """A request that the SDK repeats by itself is one call."""
    patch_openai()
    server.script(error_reply(500, **{"retry-after-ms": "1"}), json_reply(chat_completion(ANSWER)))
    client = client_of(server, mode, max_retries=2)
    await say(client, [USER])
    await close_client(client)
    assert len(server.requests) == 2
    assert [event["event"] for event in told(sink, 2)] == ["Prompt", "Generation"]


@BOTH
@EITHER
async def test_several_choices(mode: Mode, stream: bool, sink: Sink, server: Loopback) -> None:
    """Several answers to one question are several Generations; tokens are counted once."""
    patch_openai()
    answer = Answer("One", more=("Two", "Three"))
    chunks = chat_chunks(answer, include_usage=True)
    server.script(chat_stream(chunks) if stream else json_reply(chat_completion(answer)))
    client = client_of(server, mode)
    await say(client, [USER], stream=stream, n=3)
    await close_client(client)
    events = told(sink, 4)
    assert [
        (one["event"], one["$text"], one.get("$generation_id"), one.get("total_tokens"))
        for one in events
    ] == [
        ("Prompt", USER["content"], None, None),
        ("Generation", "One", "chatcmpl-1", 21),
        ("Generation", "Two", "chatcmpl-1:1", None),
        ("Generation", "Three", "chatcmpl-1:2", None),
    ]


@BOTH
async def test_several_calls_as_one_turn(mode: Mode, sink: Sink, server: Loopback) -> None:
    """Calls in a context that names the prompt are one turn, with the words that it gives."""
    patch_openai()
    server.always(lambda _: json_reply(chat_completion(ANSWER)))
    client = client_of(server, mode)
    with context(prompt_id="p-1", prompt="What the user typed", thread_id="t-1", user_id="ada"):
        await say(client, [{"role": "user", "content": "Rewrite: ..."}])
        await say(client, [{"role": "user", "content": "Context: ... Question: ..."}])
    await close_client(client)
    events = told(sink, 3)
    assert [(one["event"], one["$text"], one["user_id"]) for one in events] == [
        ("Prompt", "What the user typed", "ada"),
        ("Generation", ANSWER.text, "ada"),
        ("Generation", ANSWER.text, "ada"),
    ]
    assert [event["properties"]["$prompt_id"] for event in sink.events] == ["p-1"] * 3


@needs("responses")
async def test_previous_response_keeps_the_thread(sink: Sink, server: Loopback) -> None:
    """A response that goes on from another belongs to its thread, and is a new question."""
    patch_openai()
    server.script(
        json_reply(response_object(Answer("Hello", id="resp_a"))),
        json_reply(response_object(Answer("Bye", id="resp_b"))),
    )
    client = client_of(server, "sync")
    client.responses.create(model="gpt-4o", input="Hi")
    client.responses.create(model="gpt-4o", input="Bye", previous_response_id="resp_a")
    client.close()
    assert brief(sink, 4) == [
        ("Prompt", "Hi", "prompt 1", "thread 1"),
        ("Generation", "Hello", "prompt 1", "thread 1"),
        ("Prompt", "Bye", "prompt 2", "thread 1"),
        ("Generation", "Bye", "prompt 2", "thread 1"),
    ]


def test_tool_calls_without_ids_of_their_own(sink: Sink, server: Loopback) -> None:
    """Strangers who ask the same at the same time are two turns, on a host that counts calls."""
    patch_openai()
    counted = Answer(tool_calls=(ToolCall("get_weather", "{}", "call_0"),), usage=None)
    server.script(
        *[json_reply(chat_completion(counted))] * 2, *[json_reply(chat_completion(ANSWER))] * 2
    )
    client = client_of(server, "sync")
    call = chat_completion(counted)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_0", "content": "sunny"}
    strangers = [scope.Request(), scope.Request()]
    for messages in ([USER], [USER, call, result]):
        for stranger in strangers:
            with stranger:
                client.chat.completions.create(model="gpt-4o", messages=list[Any](messages))
    client.close()
    assert_each_has_its_own(sink)


def assert_each_has_its_own(sink: Sink) -> None:
    """See that two who ask and bring results by turns have a turn and a conversation each."""
    assert [(event, prompt, thread) for event, _, prompt, thread in brief(sink, 6)] == [
        ("Prompt", "prompt 1", "thread 1"),
        ("Tool call", "prompt 1", "thread 1"),
        ("Prompt", "prompt 2", "thread 2"),
        ("Tool call", "prompt 2", "thread 2"),
        ("Generation", "prompt 1", "thread 1"),
        ("Generation", "prompt 2", "thread 2"),
    ]


def test_results_that_nobody_asked_for(sink: Sink, server: Loopback) -> None:
    """Results for a call that this process has not seen are no part of another conversation."""
    patch_openai()
    counted = Answer(tool_calls=(ToolCall("get_weather", "{}", "call_0"),), usage=None)
    server.script(json_reply(chat_completion(counted)), json_reply(chat_completion(ANSWER)))
    client = client_of(server, "sync")
    call = chat_completion(counted)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_0", "content": "sunny"}
    for thread, messages in (("t-1", [USER]), ("t-2", [USER, call, result])):
        with scope.Request(), context(user_id="ada", thread_id=thread):
            client.chat.completions.create(model="gpt-4o", messages=list[Any](messages))
    client.close()
    assert [(event, prompt) for event, _, prompt, _ in brief(sink, 3)] == [
        ("Prompt", "prompt 1"),
        ("Tool call", "prompt 1"),
        ("Generation", "prompt 2"),
    ]


def test_results_under_another_id(sink: Sink, server: Loopback) -> None:
    """Results that the app has numbered anew are in the conversation that their question began."""
    patch_openai()
    server.script(json_reply(chat_completion(CALLS)), json_reply(chat_completion(ANSWER)))
    chat, _ = results_of("call_1")
    with client_of(server, "sync") as client:
        client.chat.completions.create(model="gpt-4o", messages=list[Any]([USER]))
        client.chat.completions.create(model="gpt-4o", messages=[USER, *chat])
    assert [(one[0], *one[2:]) for one in brief(sink, 3)] == [
        ("Prompt", "prompt 1", "thread 1"),
        ("Tool call", "prompt 1", "thread 1"),
        ("Generation", "prompt 2", "thread 1"),
    ]


@needs("responses")
def test_results_of_elsewhere_in_items(sink: Sink, server: Loopback) -> None:
    """So it is over Responses: whoever brings such results asks nothing."""
    patch_openai()
    server.script(json_reply(response_object(ANSWER)))
    _, items = results_of("call_0")
    with client_of(server, "sync") as client:
        client.responses.create(model="gpt-4o", input=[USER, *items])
    assert [one[:2] for one in brief(sink, 1)] == [("Generation", ANSWER.text)]


@pytest.mark.parametrize("user_id", ["ada", None], ids=["named", "anonymous"])
@pytest.mark.parametrize("endpoint", ["chat", pytest.param("responses", marks=needs("responses"))])
def test_tools_that_the_app_calls_itself(
    endpoint: str, user_id: str | None, sink: Sink, server: Loopback
) -> None:
    """A turn begins behind results that nobody waits for, if the app says what was typed."""
    configure(host=sink.host, spool="off")  # no other process knows who waits
    patch_openai()
    reply = chat_completion if endpoint == "chat" else response_object
    server.script(*[json_reply(reply(one)) for one in (ANSWER, CALLS, ANSWER, ANSWER)])
    client = client_of(server, "sync")

    def ask(typed: str, call_id: str) -> None:
        chat, items = results_of(call_id)
        messages: list[Any] = [{"role": "user", "content": f"{typed}?"}]
        with context(user_id=user_id, prompt=typed):
            if endpoint == "chat":
                client.chat.completions.create(model="m", messages=[*messages, *chat])
            else:
                client.responses.create(model="m", input=[*messages, *items])

    ask("Rain", "call_1")
    ask("Snow", "call_2")
    ask("Snow", "call_7")  # the model has called it
    ask("Rain", "call_3")  # in another conversation
    client.close()
    assert brief(sink, 7) == [
        ("Prompt", "Rain", "prompt 1", "thread 1"),
        ("Generation", ANSWER.text, "prompt 1", "thread 1"),
        ("Prompt", "Snow", "prompt 2", "thread 2"),
        ("Tool call", None, "prompt 2", "thread 2"),
        ("Generation", ANSWER.text, "prompt 2", "thread 2"),
        ("Prompt", "Rain", "prompt 3", "thread 3"),
        ("Generation", ANSWER.text, "prompt 3", "thread 3"),
    ]


def results_of(call_id: str) -> tuple[list[Any], list[Any]]:
    """Return a tool's call and its result, as messages and as items."""
    function = {"name": "get_weather", "arguments": "{}"}
    call = {"type": "function", "id": call_id, "function": function}
    result = {"role": "tool", "tool_call_id": call_id, "content": "sunny"}
    items = [
        {"type": "function_call", "call_id": call_id, **function},
        {"type": "function_call_output", "call_id": call_id, "output": "sunny"},
    ]
    return [{"role": "assistant", "content": None, "tool_calls": [call]}, result], items


@needs("responses")
def test_another_question_instead_of_results(sink: Sink, server: Loopback) -> None:
    """Whoever asks something else, where results were expected, is in the same conversation."""
    patch_openai()
    server.script(
        json_reply(response_object(Answer(tool_calls=CALLS.tool_calls, id="resp_a"))),
        json_reply(response_object(Answer("Bye", id="resp_b"))),
    )
    client = client_of(server, "sync")
    client.responses.create(model="gpt-4o", input="Hi")
    client.responses.create(model="gpt-4o", input="Never mind", previous_response_id="resp_a")
    client.close()
    assert brief(sink, 4) == [
        ("Prompt", "Hi", "prompt 1", "thread 1"),
        ("Tool call", None, "prompt 1", "thread 1"),
        ("Prompt", "Never mind", "prompt 2", "thread 1"),
        ("Generation", "Bye", "prompt 2", "thread 1"),
    ]


def test_no_text_is_remembered(sink: Sink, server: Loopback) -> None:
    """What waits for a retry or for tool results holds no text, however long the question was."""
    patch_openai()
    long = {"role": "user", "content": "secret " * 20_000}
    server.script(error_reply(500), json_reply(chat_completion(CALLS)))
    client = client_of(server, "sync")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gpt-4o", messages=[long])
    turns = _runtime.state().turns
    failed = repr([*turns._failed._entries])
    client.chat.completions.create(model="gpt-4o", messages=[{**long, "name": "ada"}])
    client.close()
    assert [event["event"] for event in told(sink, 3)][1:] == ["Generation failed", "Tool call"]
    awaited = repr([*turns._open._entries])
    assert "[]" not in {failed, awaited}
    assert "secret" not in failed + awaited


class Weather(pydantic.BaseModel):
    """What an app wants to be answered."""

    degrees: int


@pytest.mark.skipif(
    openai.__version__.startswith("1.40."), reason="this openai parses behind our back"
)
@BOTH
async def test_retry_after_the_parser(mode: Mode, sink: Sink, server: Loopback) -> None:
    """An answer that the app's own parser refuses is told, and the request may be tried again."""
    patch_openai()
    texts = ('{"degrees": "many"}', '{"degrees": 21}')
    server.script(*(json_reply(chat_completion(Answer(text, usage=None))) for text in texts))
    client = client_of(server, mode)
    resource = client.chat.completions if in_this_sdk("chat.completions.parse") else None
    asked = {"model": "gpt-4o", "messages": [USER], "response_format": Weather}
    parse = (resource or client.beta.chat.completions).parse
    with pytest.raises(pydantic.ValidationError):
        await settled(parse(**asked))
    assert (await settled(parse(**asked))).choices[0].message.parsed == Weather(degrees=21)
    await close_client(client)
    assert [one[:3] for one in brief(sink, 3)] == [
        ("Prompt", USER["content"], "prompt 1"),
        *(("Generation", text, "prompt 1") for text in texts),
    ]


def test_much_later(sink: Sink, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks the same long after a failure asks anew."""
    patch_openai()
    clock = [0.0]
    monkeypatch.setattr(
        "trubrics_instrument._conversations.turns.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    server.script(*[error_reply(500)] * 2, json_reply(chat_completion(ANSWER)))
    with client_of(server, "sync") as client, context(user_id="ada"):
        for waits_s in (turns.RETRIES_S - 1, turns.RETRIES_S, 0):
            with suppress_errors(openai.InternalServerError):
                client.chat.completions.create(model="gpt-4o", messages=[USER])
            clock[0] += waits_s
    assert [(one[0], one[2]) for one in brief(sink, 5)] == [
        ("Prompt", "prompt 1"),
        ("Generation failed", "prompt 1"),
        ("Generation failed", "prompt 1"),
        ("Prompt", "prompt 2"),
        ("Generation", "prompt 2"),
    ]


@needs("responses")
@pytest.mark.parametrize("chained", [True, False], ids=["by id", "whole input"])
def test_an_approval(chained: bool, sink: Sink, server: Loopback) -> None:
    """Where a tool of a remote server is to be approved, the answer is an act, and no prompt."""
    patch_openai()
    request = {"id": "mcpr_1", "type": "mcp_approval_request", "name": "ask", "arguments": "{}"}
    asks = response_object(Answer("", id="resp_1")) | {"output": [{**request, "server_label": "s"}]}
    server.script(json_reply(asks), json_reply(response_object(Answer("Done.", id="resp_2"))))
    approved = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    with client_of(server, "sync") as client, context(user_id="ada"):
        client.responses.create(model="gpt-4o", input=[USER])
        goes_on: Any = {"input": [USER, *asks["output"], approved]}
        if chained:
            goes_on = {"input": [approved], "previous_response_id": "resp_1"}
        client.responses.create(model="gpt-4o", **goes_on)
    events = told(sink, 3)
    assert [(one["event"], one.get("tool_name"), one.get("$text")) for one in events] == [
        ("Prompt", None, USER["content"]),
        ("Tool call", "mcp_approval_request", None),
        ("Generation", None, "Done."),
    ]
    assert {one["$prompt_id"] for one in events} == {"prompt 1"}


@needs("responses")
@pytest.mark.parametrize("who", [None, "ada"], ids=["anonymous", "one user"])
@pytest.mark.parametrize("known", [True, False], ids=["again", "told by the first only"])
def test_one_tool_call_id_after_two_answers(
    who: str | None, known: bool, sink: Sink, server: Loopback
) -> None:
    """Tool results go on with the answer that they name, whatever the ids of the tools are."""
    patch_openai()
    for name in ("a", "b"):
        use = ToolCall("get_weather", "{}", "call_0")
        asks = response_object(Answer(None, id=f"resp_{name}", tool_calls=(use,), usage=None))
        server.script(json_reply(asks))
    for name in ("a", "b"):
        server.script(json_reply(response_object(Answer(f"For {name}", id=f"end_{name}"))))
    result: Any = {"type": "function_call_output", "call_id": "call_0", "output": "21"}

    def ask(**asked: Any) -> None:
        user_id = who if known or "previous_response_id" not in asked else None
        with scope.Request(), context(user_id=user_id):
            client.responses.create(model="gpt-4o", **asked)

    with client_of(server, "sync") as client:
        for name in ("a", "b"):
            copy_context().run(ask, input=f"Question {name}")
        for name in ("a", "b"):
            copy_context().run(ask, input=[result], previous_response_id=f"resp_{name}")
    events = told(sink, 6)
    by_prompt = {one["$prompt_id"]: one["$text"] for one in events if one["event"] == "Prompt"}
    assert [
        (by_prompt[one["$prompt_id"]], one["$text"])
        for one in events
        if one["event"] == "Generation"
    ] == [("Question a", "For a"), ("Question b", "For b")]
    assert len({one["$thread_id"] for one in events}) == 2


@BOTH
async def test_an_answer_that_goes_on(mode: Mode, sink: Sink, server: Loopback) -> None:
    """Where the model is to go on with an answer that was left half way, nobody has asked again."""
    patch_openai()
    server.script(chat_stream(chat_chunks("It rains in Lyon")), json_reply(chat_completion(ANSWER)))
    client = client_of(server, mode)
    stream = await settled(
        client.chat.completions.create(model="gpt-4o", messages=[USER], stream=True)
    )
    async for piece in pieces(stream):
        if piece.choices[0].delta.content:
            break
    await settled(stream.close())
    await say(client, [USER, {"role": "assistant", "content": "It rains"}])
    await close_client(client)
    assert [(one[0], one[2]) for one in brief(sink, 3)] == [
        ("Prompt", "prompt 1"),
        ("Generation", "prompt 1"),
        ("Generation", "prompt 1"),
    ]


@BOTH
@pytest.mark.parametrize("fails", [False, True], ids=["at once", "after a failure"])
async def test_an_answer_that_the_app_begins(
    mode: Mode, fails: bool, sink: Sink, server: Loopback
) -> None:
    """With the results of tools the app may begin the answer; it may also begin from scratch."""
    patch_openai()
    replies = [json_reply(chat_completion(CALLS)), json_reply(chat_completion(ANSWER))]
    server.script(replies[0], *([error_reply(500), replies[0]] if fails else []), replies[1])
    client = client_of(server, mode)
    call = chat_completion(CALLS)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_7", "content": "sunny"}
    begun = {"role": "assistant", "content": "No, it"}
    await say(client, [USER])
    if fails:
        with pytest.raises(openai.InternalServerError):
            await say(client, [USER, call, result, begun])
        await say(client, [USER])
    await say(client, [USER, call, result, begun])
    await close_client(client)
    events = brief(sink, 5 if fails else 3)
    assert [one[0] for one in events].count("Prompt") == 1
    assert {one[2] for one in events} == {"prompt 1"}


@needs("responses")
def test_the_same_words_after_each_response(sink: Sink, server: Loopback) -> None:
    """The same words are a question of their own each time, as they answer to another response."""
    patch_openai(user_id="ada")
    ids = [f"resp_{number}" for number in range(4)]
    server.script(*(json_reply(response_object(Answer(f"To {one}", id=one))) for one in ids))
    asked = ["Tell me a story", "Go on", "Go on", "Go on"]
    with client_of(server, "sync") as client:
        for text, previous in zip(asked, [None, *ids], strict=False):
            chained: Any = {"previous_response_id": previous} if previous else {}
            client.responses.create(model="gpt-4o", input=text, **chained)
    assert brief(sink, 8) == [
        line
        for number, text in enumerate(asked)
        for line in (
            ("Prompt", text, f"prompt {number + 1}", "thread 1"),
            ("Generation", f"To resp_{number}", f"prompt {number + 1}", "thread 1"),
        )
    ]


def test_counted_tool_calls_of_two_questions(sink: Sink, server: Loopback) -> None:
    """Results go on with the question before them, where a host gives all calls the same id."""
    patch_openai()
    counted = Answer(tool_calls=(ToolCall("get_weather", "{}", "call_0"),), usage=None)
    server.script(
        *[json_reply(chat_completion(counted))] * 2, *[json_reply(chat_completion(ANSWER))] * 2
    )
    chat, _ = results_of("call_0")
    with client_of(server, "sync") as client:
        for results in ([], chat):
            for city in ("Lyon", "Nice"):
                messages: list[Any] = [{"role": "user", "content": f"Rain in {city}?"}, *results]
                copy_context().run(
                    client.chat.completions.create, model="gpt-4o", messages=messages
                )
    assert_each_has_its_own(sink)


@needs("responses")
def test_what_a_turn_counts(sink: Sink, server: Loopback) -> None:
    """An answer counts the calls of its whole turn, though an id alone names the one before."""
    patch_openai(user_id="ada")
    asks = Answer(tool_calls=CALLS.tool_calls, id="resp_a")
    server.script(*(json_reply(response_object(one)) for one in (asks, ANSWER)))
    result: Any = {"type": "function_call_output", "call_id": "call_7", "output": "sunny"}
    with client_of(server, "sync") as client:
        client.responses.create(model="gpt-4o", input="Rain?")
        client.responses.create(model="gpt-4o", input=[result], previous_response_id="resp_a")
    answered = told(sink, 3)[-1]
    assert (answered["event"], answered["model_calls"], answered["tool_calls"]) == (
        "Generation",
        2,
        1,
    )
