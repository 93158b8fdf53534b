"""Whatever a model server answers, and whatever is asked: the app gets what it gets without us."""

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_wire import (
    Answer,
    ToolCall,
    chat_chunks,
    chat_completion,
    completion,
    completion_chunks,
)
from responses_wire import response_events, response_object

from tests.openai.asking import MODES, WAYS, Mode, Way, ask, client_of, close_client, settled
from tests.openai.mutations import JUNK, mutated, streams
from tests.replies import CLOSE, Reply, json_reply, raw_reply
from trubrics_instrument import context, flush, patch_openai

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.loopback import Loopback
    from tests.sink import Sink

Outcome = tuple[str, ...]

TEXT = Answer("It is on time.", more=("Nearly.",))
TOOLS = Answer(tool_calls=(ToolCall("look_up", '{"line": 4}'), ToolCall("ask", id="call_2")))
REFUSAL = Answer(refusal="I cannot say.")
BODIES = {
    "chat": [chat_completion(answer) for answer in (TEXT, TOOLS, REFUSAL)],
    "responses": [response_object(answer) for answer in (TEXT, TOOLS, REFUSAL)],
    "completion": [completion(TEXT)],
}
CHUNKS = {
    "chat": chat_chunks(TEXT, include_usage=True) + chat_chunks(TOOLS),
    "responses": response_events(TEXT) + response_events(TOOLS),
    "completion": completion_chunks(TEXT),
}
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is the tram on time?"}]},
        {"role": "assistant", "tool_calls": [{"id": "call_1", "function": {"name": "look_up"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "late"},
    ],
    "metadata": {"user_id": "ada", "thread_id": "7"},
    "user": "ada",
}
RESPONSES: dict[str, Any] = {
    "model": "gpt-4o",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Is the tram on time?"}]},
        {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "late"},
    ],
    "conversation": {"id": "conv_1"},
    "previous_response_id": "resp_0",
    "prompt": {"id": "pmpt_1", "variables": {"line": "4"}},
}
REQUESTS: dict[str, list[dict[str, Any]]] = {
    "/chat/completions": [CHAT],
    "/responses": [RESPONSES],
    "/completions": [{"model": "gpt-4o", "prompt": ["Once", "upon"]}, {"prompt": [[1, 2], [3]]}],
}
FUZZ = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ENDPOINTS = pytest.mark.parametrize("endpoint", {way.endpoint: way for way in WAYS})


class App:
    """An app whose one client asks the same thing without us, and with us."""

    def __init__(self, server: Loopback, sink: Sink, mode: Mode) -> None:
        self.server = server
        self.sink = sink
        self.client = client_of(server, mode)
        self.loop = asyncio.new_event_loop()
        self._users = itertools.count()

    def compare(self, reply: Reply, call: Callable[[Any], Awaitable[Any]]) -> None:
        """Ask twice; the outcome must be the same, and each question have its end."""
        self.server.always(reply)
        bare = self._outcome(call)
        before = len(self.sink.events)
        with patch_openai(), context(user_id=f"user {next(self._users)}"):
            observed = self._outcome(call)
        assert observed == bare
        assert flush()
        names = [event["event"] for event in self.sink.events[before:]]
        ends = [name for name in names if name != "Prompt"]
        assert ends
        assert names in (["Prompt", *ends], ends)

    def close(self) -> None:
        """Close the client and its loop."""
        self.loop.run_until_complete(close_client(self.client))
        self.loop.close()

    def _outcome(self, call: Callable[[Any], Awaitable[Any]]) -> Outcome:
        try:
            return ("returned", repr(self.loop.run_until_complete(call(self.client))))
        except Exception as error:
            return ("raised", type(error).__name__, str(error))


@pytest.fixture(params=MODES)
def app(request: pytest.FixtureRequest, server: Loopback, sink: Sink) -> Iterator[App]:
    """Give an app of either kind.

    What raises in mid-stream leaves it to the garbage collector to close (openai 1), and httpcore
    1.0 hangs for good when that happens while the same thread holds its pool's lock. So: not then.
    """
    ready = App(server, sink, request.param)
    gc.disable()
    yield ready
    ready.close()
    gc.enable()
    gc.collect()


@ENDPOINTS
@FUZZ
@given(data=st.data())
def test_bodies(endpoint: str, data: st.DataObject, app: App) -> None:
    """A body that makes little sense is the app's affair, and never breaks a reader."""
    way = Way(endpoint, "whole", "sync")
    body = data.draw(mutated(BODIES[endpoint]) | JUNK)
    app.compare(json_reply(body), lambda client: ask(client, way))


@ENDPOINTS
@FUZZ
@given(data=st.data())
def test_streams(endpoint: str, data: st.DataObject, app: App) -> None:
    """Pieces that make little sense, half of an event, or noise between them, neither."""
    way = Way(endpoint, "stream", "sync")
    raw = data.draw(streams(CHUNKS[endpoint]))
    reply = raw_reply(raw, content_type="text/event-stream")
    app.compare(reply, lambda client: ask(client, way))


@ENDPOINTS
@FUZZ
@given(data=st.data())
def test_streams_cut_by_the_network(endpoint: str, data: st.DataObject, app: App) -> None:
    """A stream that ends before its promised length raises in the app as ever."""
    way = Way(endpoint, "stream", "sync")
    raw = data.draw(streams(CHUNKS[endpoint]))
    headers = {"content-type": "text/event-stream", "content-length": str(len(raw) + 9)}
    app.compare(Reply(200, headers, (raw, CLOSE)), lambda client: ask(client, way))


@pytest.mark.parametrize("path", REQUESTS)
@FUZZ
@given(data=st.data())
def test_requests(path: str, data: st.DataObject, app: App) -> None:
    """A question that makes little sense goes out as it is, and never breaks a reader."""
    body = data.draw(mutated(REQUESTS[path]))
    sent = len(app.server.requests)
    app.compare(
        json_reply({"choices": [], "output": []}),
        lambda client: settled(client.post(path, body=body, cast_to=object)),
    )
    assert len({request.body for request in app.server.requests[sent:]}) <= 1
