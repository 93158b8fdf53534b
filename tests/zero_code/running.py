"""Running `trubrics-instrument run` as a user does, against servers on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.replies import json_reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Loopback

TIMEOUT_S = 60
RUN = (sys.executable, "-m", "trubrics_instrument.cli", "run")

# An app as anybody would write it; it asks what it is given.
ASK = """
import sys
from openai import OpenAI

with OpenAI(max_retries=0) as client:
    answer = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": sys.argv[1]}]
    )
print(answer.choices[0].message.content, flush=True)
"""
_ANSWER = {
    "id": "answer",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "At nine."},
        }
    ],
}


def environ(server: Loopback, host: str | None, **more: str) -> dict[str, str]:
    """Return a user's environment: a model that answers, and a host to deliver to."""
    server.always(json_reply(_ANSWER))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TRUBRICS_")}
    host_variable = {"TRUBRICS_HOST": host} if host else {}
    own = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.base_url, "TRUBRICS_SPOOL": "off"}
    return {**plain, **own, **host_variable, **more}


def start(
    environment: dict[str, str], *arguments: str, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start `trubrics-instrument run` with these arguments."""
    return subprocess.Popen(
        [*RUN, *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    environment: dict[str, str], *arguments: str, typed: str = "", cwd: Path | None = None
) -> tuple[int, str, str]:
    """Return the exit code, the output and the error output of a run."""
    with start(environment, *arguments, cwd=cwd) as process:
        out, err = process.communicate(typed, timeout=TIMEOUT_S)
    return process.returncode, out, err
