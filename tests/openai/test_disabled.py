"""Switched off, it costs nothing: the app's requests go by as if nobody were there."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest

import trubrics_instrument
from tests.openai.asking import WAYS, Way, ask, asking, client_of, close_client, pieces
from tests.openai.test_matrix import reply_of
from trubrics_instrument import _public, configure, patch_openai, suppress

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from tests.loopback import Loopback
    from tests.sink import Sink

PACKAGE = str(Path(trubrics_instrument.__file__).parent)
# All that runs: the wrapper, and the question whether anything is to be observed.
GATE = {
    *("methods.py late", "wrapper.py wrapper", "wrapper.py _watching"),
    *("shield.py __init__", "shield.py __enter__", "shield.py __exit__"),
    *("_request.py watch", "_runtime.py observing", "_runtime.py state"),
}
CLOSING = {"methods.py <lambda>", "_request.py close"}


@contextmanager
def run_of_ours() -> Generator[set[str]]:
    """Give the names of our functions that run on this thread inside."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and str(path).startswith(PACKAGE):
            seen.add(f"{path.name} {frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(before)


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_nothing_is_read(way: Way, sink: Sink, server: Loopback) -> None:
    """Of our code only the question whether to look runs: no reading, no thread, no event."""
    configure(host=sink.host, enabled=False)
    before = threading.enumerate()
    patch_openai()
    server.script(reply_of(way), reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    await ask(client, way)  # once before, because the SDK imports some modules late
    with run_of_ours() as seen:
        await ask(client, way)
    await close_client(client)
    assert seen - CLOSING == GATE
    new = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not any(name.startswith("trubrics") for name in new)
    assert _public.flush(5)
    assert (sink.requests, _public.stats().accepted) == ([], 0)


@pytest.mark.anyio
@pytest.mark.parametrize("way", [way for way in WAYS if way.streamed], ids=str)
async def test_a_stream_is_the_sdks_own(way: Way, sink: Sink, server: Loopback) -> None:
    """No iterator of ours stands between the app and the pieces of an answer."""
    patch_openai()
    server.script(reply_of(way), path=way.path)
    client = client_of(server, way.mode)
    with suppress():
        async with asking(client, way) as stream:
            raw = getattr(stream, "_raw_stream", stream)
            assert type(raw._iterator).__name__ in {"generator", "async_generator"}
            assert not hasattr(raw, "_trubrics_recording")
            assert [piece async for piece in pieces(stream)]
    await close_client(client)


PROGRAM = """
import sys, threading
import trubrics_instrument
with trubrics_instrument.patch_openai() as patch:
    import openai
    client = openai.OpenAI(base_url=sys.argv[1], api_key="k")
    question = {"role": "user", "content": "Hi"}
    client.chat.completions.create(model="m", messages=[question])
    assert not trubrics_instrument.track("Sign in")
    client.close()
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
print({name for name in ("requests", "sqlite3", "genai_prices") if name in sys.modules})
print(trubrics_instrument.stats().accepted)
"""


def test_by_the_environment(sink: Sink, server: Loopback) -> None:
    """With TRUBRICS_ENABLED=0 there is no thread of ours, and nothing that sends is imported."""
    server.script(reply_of(Way("chat", "whole", "sync")))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.base_url],
        env={"TRUBRICS_HOST": sink.host, "TRUBRICS_ENABLED": "0", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("set()\n0\n", "")
    assert sink.requests == []


def test_switched_on_again(sink: Sink, server: Loopback) -> None:
    """Patched while off, it is on as soon as the app says so."""
    way = Way("chat", "whole", "sync")
    server.always(lambda _: reply_of(way))
    configure(host=sink.host, enabled=False)
    patch_openai()
    with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
        question = {"role": "user", "content": "Hi"}
        for enabled in (False, True, False):
            configure(host=sink.host, enabled=enabled)
            client.chat.completions.create(model="m", messages=[question])  # type: ignore[list-item]
    assert _public.flush(5)
    assert [event["event"] for event in sink.events] == ["Prompt", "Generation"]
