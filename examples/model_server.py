"""A small OpenAI-compatible model server on 127.0.0.1, for demos and tests without a network.

It has no model: `rules.py` answers, and says so. Chat completions and Responses, whole and
streamed, with tool calls, structured output and usage (in words):

    python examples/model_server.py --port 8783
    OPENAI_BASE_URL=http://127.0.0.1:8783/v1 OPENAI_API_KEY=any python your_app.py

or, inside a program:

    with running() as server:
        client = OpenAI(base_url=server.base_url, api_key="any")

Any key will do, but there must be one. Any name of a model will do too, whatever an app's default
is; those listed are `MODELS`. "rate-limited" answers 429, and "no-such-model" 404.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import uvicorn
from model_requests import as_messages, or_empty, read_chat, read_items, read_response
from openai_wire import SSE_DONE, Answer, Json, chat_chunks, chat_completion, error_body, sse
from responses_wire import response_events, response_object
from rules import Message, Question, answer
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from starlette.requests import Request

MODELS: tuple[str, ...] = ("stand-in-mini", "stand-in-large")
# What a response repeats of its request.
_ECHOED = ("previous_response_id", "instructions", "metadata", "tools", "tool_choice", "text")


class RefusedError(Exception):
    """The request gets an error answer, as OpenAI words it."""

    def __init__(self, status: int, message: str, *, kind: str = "", code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, kind=kind or "invalid_request_error", code=code)


class ModelServer:
    """The endpoints, and the responses that a later request may refer to."""

    def __init__(self, word_delay_s: float, kept_responses: int) -> None:
        self.closing = False
        self._word_delay_s = word_delay_s
        self._kept_responses = kept_responses
        self._kept: OrderedDict[str, tuple[Json, tuple[Message, ...]]] = OrderedDict()
        self.app = Starlette(
            routes=[
                Route("/v1/models", _guarded(self.list_models), methods=["GET"]),
                Route("/v1/chat/completions", _guarded(self.create_chat), methods=["POST"]),
                Route("/v1/responses", _guarded(self.create_response), methods=["POST"]),
                Route("/v1/responses/{id}", _guarded(self.get_response), methods=["GET"]),
            ],
            exception_handlers={RefusedError: _refuse},
        )

    async def list_models(self, _: Request) -> Response:
        """Answer GET /models."""
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "examples"} for name in MODELS
        ]
        return JSONResponse({"object": "list", "data": models})

    async def create_chat(self, request: Request) -> Response:
        """Answer POST /chat/completions."""
        body = await _read_body(request)
        answered = _stamped(answer(_read(lambda: read_chat(body))), body, "chatcmpl-")
        if not body.get("stream"):
            return JSONResponse(chat_completion(answered))
        include_usage = bool(or_empty(body.get("stream_options")).get("include_usage"))
        chunks = chat_chunks(answered, include_usage=include_usage)
        return self._stream([*(sse(chunk) for chunk in chunks), SSE_DONE])

    async def create_response(self, request: Request) -> Response:
        """Answer POST /responses; one in the background is done when it is asked for again."""
        body = await _read_body(request)
        before = self._before(body.get("previous_response_id"))
        answered = _stamped(answer(_read(lambda: read_response(body, before))), body, "resp_")
        fields = {name: body[name] for name in _ECHOED if body.get(name) is not None}
        fields["background"] = bool(body.get("background"))
        whole = response_object(answered, **fields)
        if body.get("store") is not False:
            history = (*before, *read_items(body["input"]), *as_messages(answered))
            self._keep(whole, history)
        if body.get("stream"):
            return self._stream([sse(event) for event in response_events(answered, **fields)])
        if body.get("background"):
            return JSONResponse(response_object(answered, **fields, status="queued"))
        return JSONResponse(whole)

    async def get_response(self, request: Request) -> Response:
        """Answer GET /responses/{id}."""
        wanted = request.path_params["id"]
        if wanted not in self._kept:
            raise RefusedError(404, f"Response with id '{wanted}' not found.")
        return JSONResponse(self._kept[wanted][0])

    def _before(self, previous_id: str | None) -> tuple[Message, ...]:
        if previous_id is None:
            return ()
        if previous_id not in self._kept:
            message = f"Previous response with id '{previous_id}' not found."
            raise RefusedError(400, message, code="previous_response_not_found")
        return self._kept[previous_id][1]

    def _keep(self, whole: Json, history: tuple[Message, ...]) -> None:
        self._kept[whole["id"]] = (whole, history)
        if len(self._kept) > self._kept_responses:
            self._kept.popitem(last=False)

    def _stream(self, events: list[bytes]) -> Response:
        async def paced() -> AsyncIterator[bytes]:
            for event in events:
                await asyncio.sleep(self._word_delay_s)
                if self.closing:
                    return
                yield event

        return StreamingResponse(paced(), media_type="text/event-stream")


@dataclass(frozen=True)
class Running:
    """A server that answers at `base_url`."""

    base_url: str


@contextlib.contextmanager
def running(
    port: int = 0, *, word_delay_s: float = 0.0, kept_responses: int = 1_000
) -> Generator[Running, None, None]:
    """Serve from a thread for the length of the block; port 0 takes a free one.

    Args:
        port: Where to listen on 127.0.0.1.
        word_delay_s: The pause before each event of a stream, to look like a model at work.
        kept_responses: How many responses a later request may refer to; the oldest go first.
    """
    # Listening starts here: a client that comes before the thread is ready waits in the backlog.
    with socket.create_server(("127.0.0.1", port)) as listener:
        models = ModelServer(word_delay_s, kept_responses)
        server = uvicorn.Server(_config(models))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="model-server", daemon=True
        )
        thread.start()
        try:
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        finally:
            models.closing = True
            server.should_exit = True
            thread.join(5.0)


def _config(models: ModelServer) -> uvicorn.Config:
    return uvicorn.Config(
        models.app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )


def _guarded(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RefusedError(401, "You didn't provide an API key.", code="invalid_api_key")
        return await endpoint(request)

    return guarded


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = {"retry-after": "1"} if error.status == HTTPStatus.TOO_MANY_REQUESTS else None
    return JSONResponse(error.body, error.status, headers)


async def _read_body(request: Request) -> Json:
    try:
        body: object = await request.json()
    except json.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(400, "We could not parse the JSON body of your request.")
    body = cast("Json", body)
    model = body.get("model")
    if not model:
        raise RefusedError(400, "you must provide a model parameter")
    if model == "rate-limited":
        raise RefusedError(429, "Rate limit reached.", kind="requests", code="rate_limit_exceeded")
    if model == "no-such-model":
        raise RefusedError(404, f"The model `{model}` does not exist.", code="model_not_found")
    return body


def _read(read: Callable[[], Question]) -> Question:
    try:
        return read()
    except (KeyError, TypeError, AttributeError) as fault:
        raise RefusedError(400, f"The request is not understood: {fault!r}.") from fault


def _stamped(answered: Answer, body: Json, prefix: str) -> Answer:
    answer_id = f"{prefix}{uuid.uuid4().hex}"
    return replace(answered, id=answer_id, model=body["model"], created_s=int(time.time()))


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A rule-based, OpenAI-compatible model server.")
    parser.add_argument("--port", type=int, default=8783, help="0 takes a free one")
    parser.add_argument("--word-delay", type=float, default=0.03, metavar="SECONDS")
    arguments = parser.parse_args()
    try:
        with running(arguments.port, word_delay_s=arguments.word_delay) as server:
            print(f"Models at {server.base_url}, whatever they are called. Ctrl-C ends.")
            print("To ask them, in another terminal:")
            print(f"  export OPENAI_BASE_URL={server.base_url} OPENAI_API_KEY=any", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    except OSError as error:
        sys.exit(f"Port {arguments.port} cannot be used: {error}")


if __name__ == "__main__":
    main()
