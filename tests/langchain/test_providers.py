"""Any provider's chat model: its own classes, on a server that speaks its own words.

Each is tested where its package is installed: `make test-versions` has an environment with all.
"""

# The providers' types are unknown where they are not installed.
# pyright: basic

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from openai_wire import Answer, Usage, chat_chunks, chat_completion
from responses_wire import response_events, response_object

from tests.langchain.driving import Mode, assert_nothing_left, close, config, drive, turns_told
from tests.replies import Reply, chat_stream, json_reply, response_stream
from trubrics_instrument import patch_openai

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.loopback import Loopback, Request
    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    # Their clients are never closed by LangChain, and some warn of themselves.
    pytest.mark.filterwarnings("ignore"),
]

QUESTION = "Is the tram on time?"
WORDS = ("Yes, ", "it is.")
ANSWER = "".join(WORDS)
TOKENS = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


class Provider(NamedTuple):
    """A provider: its class, how to make one, what its server says, and what is to be told."""

    module: str
    name: str
    arguments: Callable[[Loopback], dict[str, Any]]
    reply: Callable[[Request], Reply]
    told: Mapping[str, Any]
    modes: Sequence[Mode] = ("invoke", "ainvoke", "stream", "astream")

    def __str__(self) -> str:
        return self.name


def events(lines: Sequence[tuple[str, dict[str, Any]]]) -> Reply:
    """Return a stream of server-sent events with names."""
    steps = [f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in lines]
    return Reply(200, {"content-type": "text/event-stream"}, steps, chunked=True)


def lines(items: Sequence[dict[str, Any]], form: str = "{}\n", kind: str = "x-ndjson") -> Reply:
    """Return a stream of JSON lines, or of events without names."""
    steps = [form.format(json.dumps(item)).encode() for item in items]
    return Reply(200, {"content-type": f"application/{kind}"}, steps, chunked=True)


def openai(request: Request) -> Reply:
    """Answer as OpenAI does, at either of its endpoints."""
    answer = Answer(ANSWER, usage=Usage(3, 2), model="gpt-x-2026")
    streamed = request.json.get("stream")
    if request.path.endswith("/responses"):
        if streamed:
            return response_stream(response_events(answer))
        return json_reply(response_object(answer))
    if streamed:
        return chat_stream(chat_chunks(answer, include_usage=True))
    return json_reply(chat_completion(answer))


def anthropic(request: Request) -> Reply:
    """Answer as Anthropic does."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-2026",
        "content": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "s"},
            {"type": "text", "text": ANSWER},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    if not request.json.get("stream"):
        return json_reply(message)
    start = {**message, "content": [], "stop_reason": None}
    start["usage"] = {"input_tokens": 3, "output_tokens": 0}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in WORDS
    ]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    stream: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": message["usage"]},
        {"type": "message_stop"},
    ]
    return events([(one["type"], one) for one in stream])


def google(request: Request) -> Reply:
    """Answer as Gemini does."""
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}

    def body(text: str, **more: Any) -> dict[str, Any]:
        content = {"role": "model", "parts": [{"text": text}]}
        candidate = {"content": content, "index": 0, **more}
        return {
            "candidates": [candidate],
            "usageMetadata": counts,
            "modelVersion": "gemini-x-001",
            "responseId": "g-1",
        }

    if "stream" not in request.path.lower():
        return json_reply(body(ANSWER, finishReason="STOP"))
    first, last = WORDS
    pieces = [body(first), body(last, finishReason="STOP")]
    return Reply(
        200,
        {"content-type": "text/event-stream"},
        [f"data: {json.dumps(piece)}\r\n\r\n".encode() for piece in pieces],
        chunked=True,
    )


def ollama(request: Request) -> Reply:
    """Answer as Ollama does."""
    head = {"model": request.json["model"], "created_at": "2026-01-01T00:00:00Z"}
    pieces = [
        {**head, "message": {"role": "assistant", "content": word}, "done": False} for word in WORDS
    ]
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}
    return lines([*pieces, {**head, "message": {"role": "assistant", "content": ""}, **end}])


def mistral(request: Request) -> Reply:
    """Answer as Mistral does, which is nearly as OpenAI does."""
    head: dict[str, Any] = {"id": "m-1", "created": 1, "model": "mistral-x-2026"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    if not request.json.get("stream"):
        message = {"role": "assistant", "content": ANSWER}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json_reply(
            {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        )
    pieces: list[dict[str, Any]] = [
        {
            **head,
            "object": "chat.completion.chunk",
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": word},
                    "finish_reason": "stop" if word is WORDS[-1] else None,
                }
            ],
        }
        for word in WORDS
    ]
    pieces[-1]["usage"] = usage
    steps = [f"data: {json.dumps(piece)}\n\n".encode() for piece in pieces]
    return Reply(
        200, {"content-type": "text/event-stream"}, [*steps, b"data: [DONE]\n\n"], chunked=True
    )


def of_openai(told: Mapping[str, Any], **more: Any) -> Provider:
    """Return OpenAI's chat model, at the endpoint that the arguments choose."""
    return Provider(
        "langchain_openai",
        "ChatOpenAI",
        lambda server: {"model": "gpt-x", "api_key": "k", "base_url": server.base_url, **more},
        openai,
        {"model": "gpt-x", "provider": "127.0.0.1", **told},
    )


OPENAI = (
    of_openai({"finish_reason": "stop"}, stream_usage=True),
    of_openai({"response_model": "gpt-x-2026"}, use_responses_api=True),
)
PROVIDERS = (
    *OPENAI,
    Provider(
        "langchain_anthropic",
        "ChatAnthropic",
        lambda server: {"model": "claude-x", "api_key": "k", "base_url": server.url},
        anthropic,
        {"model": "claude-x", "provider": "anthropic", "finish_reason": "end_turn"},
    ),
    Provider(
        "langchain_google_genai",
        "ChatGoogleGenerativeAI",
        lambda server: {"model": "gemini-x", "api_key": "k", "base_url": server.url},
        google,
        {"model": "gemini-x", "provider": "google_genai", "finish_reason": "STOP"},
    ),
    Provider(
        "langchain_ollama",
        "ChatOllama",
        lambda server: {"model": "llama-x", "base_url": server.url},
        ollama,
        {"model": "llama-x", "provider": "ollama", "finish_reason": "stop"},
    ),
    Provider(
        "langchain_mistralai",
        "ChatMistralAI",
        lambda server: {"model": "mistral-x", "api_key": "k", "base_url": server.base_url},
        mistral,
        {"model": "mistral-x", "provider": "mistral", "finish_reason": "stop"},
    ),
)
CASES = [(provider, mode) for provider in PROVIDERS for mode in provider.modes]
CASES_OF_OPENAI = [(provider, mode) for provider in OPENAI for mode in provider.modes]


@pytest.mark.parametrize(("provider", "mode"), CASES, ids=str)
async def test_provider(provider: Provider, mode: Mode, sink: Sink, server: Loopback) -> None:
    """The question, the answer without its reasoning, the model as asked for, and the tokens."""
    await _told_once(provider, mode, sink, server)


@pytest.mark.parametrize(("provider", "mode"), CASES_OF_OPENAI, ids=str)
async def test_patched_client(provider: Provider, mode: Mode, sink: Sink, server: Loopback) -> None:
    """The same, and once, where the client that the model uses is patched too."""
    patch_openai()
    await _told_once(provider, mode, sink, server)


async def _told_once(provider: Provider, mode: Mode, sink: Sink, server: Loopback) -> None:
    module = pytest.importorskip(provider.module)
    server.always(provider.reply)
    kind = getattr(module, provider.name)
    arguments = provider.arguments(server)
    if "use_responses_api" in arguments and "use_responses_api" not in kind.model_fields:
        pytest.skip("langchain-openai before 0.3.9 does not ask the Responses API")
    model = kind(**arguments)
    await drive(mode, model, QUESTION, config())
    if provider in OPENAI:
        await close(model)
    [[asked, answered]] = turns_told(sink)
    assert (asked["event"], asked["$text"]) == ("Prompt", QUESTION)
    assert (answered["event"], answered["$text"]) == ("Generation", ANSWER)
    assert answered["$assistant_id"] == provider.told["model"]
    assert {name: answered.get(name) for name in provider.told} == provider.told
    assert {name: answered.get(name) for name in TOKENS} == TOKENS
    assert_nothing_left()
