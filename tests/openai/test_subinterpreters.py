"""Several interpreters in one process, as mod_wsgi and `concurrent.interpreters` run them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from openai_wire import chat_completion

from tests.replies import json_reply

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

INSIDE = """
import sys, warnings
warnings.simplefilter("ignore")  # of dependencies whose own extensions are refused here
def ask():
    try:
        import openai
        with openai.OpenAI(api_key="k", base_url="BASE_URL") as client:
            question = {"role": "user", "content": "Hi"}
            answer = client.chat.completions.create(model="m", messages=[question])
            return answer.choices[0].message.content
    except Exception as error:  # the SDK's extensions may be refused, and its subprocesses
        return type(error).__name__
import trubrics_instrument
patch = trubrics_instrument.patch_openai(user_id="ada")
assert patch.active
trubrics_instrument.track("Sign in", user_id="ada")
assert trubrics_instrument.flush(20)
assert trubrics_instrument.stats().faults == {}, trubrics_instrument.stats().faults
print(ask())
trubrics_instrument.track("Sign out", user_id="ada")
patch.undo()
print(ask())
LAST
print("ended well")
"""
PROGRAM = """
import sys
try:
    import _xxsubinterpreters as interpreters
    create = lambda kind: interpreters.create(isolated=kind == "isolated")
    run = interpreters.run_string
except ImportError:
    import _interpreters as interpreters
    create, run = interpreters.create, interpreters.exec
inner = create(sys.argv[1])
failure = run(inner, sys.argv[2])
interpreters.destroy(inner)
print(failure or "destroyed")
"""


def run(program: str, kind: str, inside: str, sink: Sink) -> subprocess.CompletedProcess[str]:
    """Run a program that runs `inside` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, kind, inside],
        env={"TRUBRICS_HOST": sink.host, "TRUBRICS_SPOOL": "off", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_in_a_subinterpreter(kind: str, sink: Sink, server: Loopback) -> None:
    """Patching and tracking work there, and openai does, or fails, as it does without a patch."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    # The old kind cannot be destroyed while it has threads, whosever they are.
    last = "trubrics_instrument.shutdown(20)" if kind == "legacy" else ""
    inside = INSIDE.replace("LAST", last).replace("BASE_URL", server.base_url)
    if run(PROGRAM, kind, "import ssl", sink).returncode:
        pytest.skip("this Python crashes with its own ssl in an interpreter of this kind")
    ended = run(PROGRAM, kind, inside, sink)
    assert ended.returncode == 0, ended.stderr
    patched, undone, *rest = ended.stdout.splitlines() or ["", ended.stdout]
    assert patched == undone
    assert rest == ["ended well", "destroyed"]
    conversation = ["Prompt", "Generation"] if patched == "Hello" else []
    assert [event["event"] for event in sink.events] == ["Sign in", *conversation, "Sign out"]
    assert ended.stderr == ""


def test_patched_outside(sink: Sink) -> None:
    """A patched process may make interpreters, and its own questions go on being seen."""
    program = (
        f"import trubrics_instrument as t\nt.patch_openai()\nt.track('Before')\n{PROGRAM}\n"
        "t.track('After')\nassert t.flush(20)"
    )
    ended = run(program, "isolated", "import trubrics_instrument", sink)
    assert (ended.stdout, ended.stderr) == ("destroyed\n", "")
    assert [event["event"] for event in sink.wait_for(2)] == ["Before", "After"]
