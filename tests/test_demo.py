"""`make demo` shows real conversations, and says so only when all of them arrived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import demo
import pytest
from conversation import Turn

from tests.strict import STRICT_PYTHON

DEMO = Path(demo.__file__)
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("OPENAI_", "TRUBRICS_"))
}


def test_once() -> None:
    """All that the six users and their chatbots said is in the collector, and nothing else.

    A proxy of the environment's, which reaches nobody here, changes nothing.
    """
    nobody = "http://127.0.0.1:9"
    done = subprocess.run(
        [*STRICT_PYTHON, str(DEMO), "--once"],
        env={**ENVIRONMENT, "http_proxy": nobody, "HTTP_PROXY": nobody},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Exactly what was said: 19 questions, 42 events." in done.stdout
    assert not done.stderr


def test_ctrl_c_ends_it() -> None:
    """It keeps the page open until Ctrl-C, and then ends well."""
    with subprocess.Popen(
        [sys.executable, str(DEMO)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C ends" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


TURN = Turn("ada", "t-1", "Hi", "Hello", ("get_weather",))
ROWS = [
    demo.Row("ada", "t-1", "Prompt", "", "Hi"),
    demo.Row("ada", "t-1", "Tool call", "m", "get_weather"),
    demo.Row("ada", "t-1", "Generation", "m", "Hello"),
]


@pytest.mark.parametrize(
    ("rows", "complete"),
    [
        (ROWS, True),
        (ROWS[:2], False),
        ([*ROWS, ROWS[2]], False),
        ([ROWS[1], ROWS[0], ROWS[2]], False),
        ([ROWS[0]._replace(user="bob"), *ROWS[1:]], False),
        ([ROWS[0]._replace(thread="t-2"), *ROWS[1:]], False),
        ([*ROWS[:2], ROWS[2]._replace(text="Something else")], False),
    ],
    ids=["all", "one lost", "one twice", "order", "user", "thread", "text"],
)
def test_the_check(
    rows: list[demo.Row], complete: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's own check sees what is lost, doubled, moved or changed."""
    assert demo._check([TURN], rows) is complete
    assert ("Not what was said" in capsys.readouterr().out) is not complete
