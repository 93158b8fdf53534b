"""A process that ends, or forks, while an answer comes: the answer has one end all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, chat_chunks, chat_completion
from responses_wire import response_events, response_object

from tests.openai.asking import in_this_sdk, needs
from tests.openai.websockets import play, websocket_server
from tests.replies import chat_stream, json_reply, response_stream

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

PROGRAM = """
import asyncio, atexit, gc, os, sys, threading
import concurrent.futures.thread  # which openai 2 may first import at the end, when it is too late
import openai
import trubrics_instrument

def ask(**more):
    return client.chat.completions.create(
        model="m", messages=[{{"role": "user", "content": "Hi"}}], **more)

client = openai.OpenAI(base_url={base_url!r}, api_key="k", max_retries=0)
{before}
trubrics_instrument.patch_openai()
{body}
print("done")
"""
STREAM = "stream = ask(stream=True); next(stream); next(stream)"
ASYNC = """
async def begin():
    global stream
    other = openai.AsyncOpenAI(base_url={base_url!r}, api_key="k")
    stream = await other.chat.completions.create(
        model="m", messages=[{{"role": "user", "content": "Hi"}}], stream=True)
    await stream.__anext__(); await stream.__anext__()

asyncio.run(begin())
"""
CYCLE = """
class Asks:
    def __del__(self):
        assert ask().choices[0].message.content == "Hello"

gc.disable()  # it is to be collected when all is over, and not by chance before
one = Asks(); one.itself = one; del one
"""
RAW = """
manager = client.chat.completions.with_streaming_response.create(
    model="m", messages=[{"role": "user", "content": "Hi"}])
response = manager.__enter__()
response.read()
"""
OTHERS = """
import weakref

class Other: pass

other = Other()
weakref.finalize(other, int)
"""
MORE = """
from trubrics_instrument._base.exit import end_at_exit

class Ended:
    def leave(self): pass

def begin_more():
    while True:
        one = Ended(); end_at_exit(one); ended.append(one)

class Broken(Ended):
    def leave(self): raise LookupError("a bug of ours")

broken = [Broken() for _ in range(100)]
for one in broken: end_at_exit(one)
ended = []
threads = [threading.Thread(target=begin_more, daemon=True) for _ in range(1)]
for thread in threads: thread.start()
while len(ended) < 20_000: threads[0].join(0.01)
sys.setswitchinterval(1e-5)
"""
FIRST = ("Generation", "One ", "incomplete")
WHOLE = ("Generation", "Hello", "ok")


def heard_of(program: str, sink: Sink) -> list[tuple[str, Any, Any]]:
    """Run a program, and return what is told besides the Prompts."""
    environment = {"TRUBRICS_HOST": sink.host, "TRUBRICS_SPOOL": "off", "PYTHONPATH": "."}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.stdout == "done\n"
    # A stream that is left behind has its own troubles, without us too: asyncio says something of
    # an asynchronous one, and Python 3.13.0 crashes over a global one when all is over.
    assert "trubrics" not in ended.stderr
    return [
        (event["event"], event["properties"].get("$text"), event["properties"].get("status"))
        for event in sink.events
        if event["event"] != "Prompt"
    ]


@pytest.mark.parametrize(
    ("before", "body", "expected"),
    [
        ("", STREAM, [FIRST]),
        ("", f"{STREAM}; held = [stream]; held.append(held); del stream, held", [FIRST]),
        ("", f"{STREAM}; stream.close()", [FIRST]),
        ("", ASYNC, [FIRST]),
        ("", f"{STREAM}{MORE}", [FIRST]),
        ("", RAW, [WHOLE]),
        (OTHERS, RAW, [WHOLE]),
        ("", "atexit.register(ask)", [WHOLE]),
        ("atexit.register(ask)", "", []),
        ("", "threading.Timer(0.05, ask).start()", [WHOLE]),
        ("", CYCLE, []),
        ("", f"{CYCLE}gc.collect()", [WHOLE]),
    ],
    ids=[
        *("a stream", "a dropped stream", "a closed stream", "an asynchronous stream"),
        *("a stream, and others that begin all the time",),
        *("a raw response", "a raw response, and finalizers of others"),
        *("asked at exit", "asked at exit, after the sender's", "a thread"),
        *("asked when all is gone", "asked by the garbage collector"),
    ],
)
def test_the_end_of_a_process(
    before: str, body: str, expected: list[Any], sink: Sink, server: Loopback
) -> None:
    """What is open then ends then; who asks later gets an answer, and no event tells of it."""
    server.always(
        lambda request: (
            chat_stream(chat_chunks("One two three"))
            if request.json.get("stream")
            else json_reply(chat_completion("Hello"))
        )
    )
    body = body.format(base_url=server.base_url) if body == ASYNC else body
    program = PROGRAM.format(base_url=server.base_url, before=before, body=body)
    assert heard_of(program, sink) == expected


IN_THE_BACKGROUND = """
response = client.responses.create(model="m", input="Hi", background=True{more})
{read}
"""
OPEN = "next(pieces := iter(response)); [next(pieces) for _ in range(5)]"
LEFT = f"{OPEN}; response.close()"


@needs("responses")
@pytest.mark.parametrize("forks", [False, True])
@pytest.mark.parametrize("streams", ["", LEFT, OPEN], ids=["whole", "left", "open"])
def test_work_in_the_background(forks: bool, streams: str, sink: Sink, server: Loopback) -> None:
    """An answer that the app never comes back for ends with the process that asked, and once."""
    queued = response_object(Answer("", id="resp_1"), status="queued")
    events = response_events(Answer("One two three", id="resp_1"))
    server.always(lambda _: response_stream(events[:6]) if streams else json_reply(queued))
    body = IN_THE_BACKGROUND.format(more=", stream=True" if streams else "", read=streams)
    if forks:
        body += "child = os.fork()\nif not child: sys.exit()\nos.waitpid(child, 0)\n"
    program = PROGRAM.format(base_url=server.base_url, before="", body=body)
    text = "One two " if streams else None
    assert heard_of(program, sink) == [("Generation", text, "incomplete")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_while_a_stream_is_read(sink: Sink, server: Loopback) -> None:
    """The child drops its copy of the stream and ends: the stream goes on in the parent."""
    server.always(lambda _: chat_stream(chat_chunks("One two three")))
    fork = """
child = os.fork()
if not child:
    del stream; gc.collect(); trubrics_instrument.flush(5); os._exit(0)
os.waitpid(child, 0)
list(stream)
"""
    program = PROGRAM.format(base_url=server.base_url, before="", body=STREAM + fork)
    assert heard_of(program, sink) == [("Generation", "One two three", "ok")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_while_the_app_has_a_raw_response(sink: Sink, server: Loopback) -> None:
    """The child lets go of its copy: what the parent then reads is told, and once."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    fork = """
child = os.fork()
if not child:
    del manager, response; gc.collect(); trubrics_instrument.flush(5); os._exit(0)
os.waitpid(child, 0)
del manager, response; gc.collect()
"""
    program = PROGRAM.format(base_url=server.base_url, before="", body=RAW + fork)
    assert heard_of(program, sink) == [WHOLE]


@pytest.mark.skipif(
    not in_this_sdk("responses.connect"), reason="this openai has no Responses over a WebSocket"
)
def test_a_websocket(sink: Sink) -> None:
    """A question over a WebSocket that waits for its answer ends with the process."""
    body = """
connection = client.responses.connect().enter()
connection.send({"type": "response.create", "model": "m", "input": "one two"})
for _ in range(5):
    connection.recv()
"""
    with websocket_server(play(cut_after=5)) as url:
        base_url = url.replace("ws", "http", 1)
        program = PROGRAM.format(base_url=base_url, before="", body=body)
        program = "import warnings; warnings.simplefilter('ignore')\n" + program
        assert heard_of(program, sink) == [("Generation", "ONE ", "incomplete")]
