"""Modules that are loaded again, and those that go when the process ends: no harm is done."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from openai_wire import chat_completion

from tests.replies import json_reply

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

PROGRAM = """
import importlib, sys
import openai, openai.resources.chat.completions
import trubrics_instrument

def ask(text):
    with openai.OpenAI(base_url={base_url!r}, api_key="k") as client:
        old_answer = old_client.chat.completions.create(model="m", messages=[
            {{"role": "user", "content": text + ", old client"}}])
        answer = client.chat.completions.create(model="m", messages=[
            {{"role": "user", "content": text}}])
        assert answer.choices[0].message.content == "Hello"
        assert old_answer.choices[0].message.content == "Hello"

def reload(*names):
    for name in names:
        importlib.reload(sys.modules[name])

def ours():
    return [name for name in sys.modules if name.partition(".")[0] == "trubrics_instrument"]

def forget(package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]

trubrics_instrument.patch_openai()
old_client = openai.OpenAI(base_url={base_url!r}, api_key="k")
ask("patched")
trubrics_instrument.flush(10)  # a sender whose module is loaded anew may lose what it holds
{reload}
import openai, trubrics_instrument
ask("loaded again")
trubrics_instrument.patch_openai()
ask("patched again")
trubrics_instrument.unpatch_openai()
ask("taken off")
old_client.close()
"""
ONCE = {
    "the SDK": "reload('openai')",
    "a resource": "reload('openai.resources.chat.completions', 'openai.resources.chat')",
    "the SDK's client": "reload('openai._base_client', 'openai._client', 'openai')",
    "the SDK, from nothing": "forget('openai')",
    "our package": "reload('trubrics_instrument')",
    "our provider": "reload(*[name for name in ours() if 'providers' in name])",
    "our shield": "reload('trubrics_instrument._base.shield')",
    "our calls": "reload('trubrics_instrument._observing.call')",
    "all of ours": "reload(*ours())",
    "all of ours, from nothing": "forget('trubrics_instrument')",
}
# What a reload makes anew knows nothing of the patch, until it is patched.
NOT_SEEN = {
    "the SDK's client": {"loaded again"},
    "the SDK, from nothing": {"loaded again"},
    "all of ours": {"loaded again", "loaded again, old client"},
}


@pytest.mark.parametrize("what", ONCE)
def test_loaded_again(what: str, sink: Sink, server: Loopback) -> None:
    """Whatever is loaded again, the app gets its answers; a patch sees all, once; undone, none."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(base_url=server.base_url, reload=ONCE[what])],
        env={"TRUBRICS_HOST": sink.host, "TRUBRICS_SPOOL": "off", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ("KeyError" in ended.stderr) == (what == "all of ours")
    steps = ("patched", "loaded again", "patched again")
    asked = {one for step in steps for one in (step, f"{step}, old client")}
    seen = asked - NOT_SEEN.get(what, set())
    told = Counter(
        event["properties"]["$text"] for event in sink.events if event["event"] == "Prompt"
    )
    assert told == dict.fromkeys(seen, 1)
    ends = [event for event in sink.events if event["event"] == "Generation"]
    assert len(ends) == len(seen)


AT_THE_END = """
import gc, sys
import openai, trubrics_instrument

class Last:
    def __del__(self, client=openai.OpenAI, sys=sys, stats=trubrics_instrument.stats):
        del client.request
        print(sys.is_finalizing(), "request" in vars(client), stats().faults)

trubrics_instrument.patch_openai()
gc.collect()
gc.disable()
last = Last()
last.circle = last
del last
"""


def test_thrown_away_when_the_process_ends() -> None:
    """Whoever takes our wrapper off while the interpreter is taken down, it is not put on again."""
    ended = subprocess.run(
        [sys.executable, "-c", AT_THE_END],
        env={"TRUBRICS_SPOOL": "off", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("True False {}\n", "")
