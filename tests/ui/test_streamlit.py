"""Streamlit: user, conversation and feedback, in a script that reruns at each click."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.told import told
from trubrics_instrument import flush

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

pytest.importorskip("streamlit", reason="not installed here: make test-versions ARGS=ui")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:streamlit")

APP = Path(__file__).parents[2] / "examples" / "streamlit_chatbot.py"


def start() -> Any:
    """Return the example app, opened by somebody."""
    testing: Any = import_module("streamlit.testing.v1")
    return testing.AppTest.from_file(str(APP), default_timeout=20).run()


def test_somebody_who_signed_in(model: Loopback, sink: Sink) -> None:
    """The signed-in user is who asks."""
    app = start()
    app.user = {"is_logged_in": True, "sub": "ada", "email": "ada@example.org"}
    app.chat_input[0].set_value("Hi").run()
    app.run()
    assert flush()
    assert [event["user_id"] for event in told(sink, 2)] == ["ada", "ada"]
    assert len(sink.events) == 2


def test_the_example(model: Loopback, sink: Sink) -> None:
    """A session is a conversation, and each choice of a thumb is told once, whatever reruns."""
    app = start()
    app.chat_input[0].set_value("Hi").run()
    app.chat_input[0].set_value("And now?").run()
    first, second = app.feedback
    first.set_value(1).run()
    app.feedback[0].set_value(0).run()
    for _ in range(2):
        app.run()
    assert not app.exception
    assert flush()
    events = told(sink, 6)
    assert len(sink.events) == 6
    assert second.value is None
    assert [(one["event"], one.get("$text"), one.get("score")) for one in events] == [
        ("Prompt", "Hi", None),
        ("Generation", "Answer 1.", None),
        ("Prompt", "And now?", None),
        ("Generation", "Answer 2.", None),
        ("Feedback", None, 1),
        ("Feedback", None, 0),
    ]
    assert {one["$thread_id"] for one in events} == {"thread 1"}
    assert {one["user_id"] for one in events} == {"anon 1"}
    assert {one["$generation_id"] for one in events[4:]} == {"answer-1"}
    assert not any("thread_inferred" in one for one in events)
