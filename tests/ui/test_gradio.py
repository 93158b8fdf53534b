"""Gradio: two people in one app, and their thumbs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.told import told
from tests.ui.children import run_child

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.skipif(
    find_spec("gradio") is None, reason="not installed here: make test-versions ARGS=ui"
)

TWO_USERS = """
import gradio_chatbot
import requests
from gradio_client import Client
app = gradio_chatbot.build()
_, url, _ = app.launch(
    prevent_thread_lock=True, quiet=True, auth=[("ada", "a"), ("bob", "b")], ssr_mode=False
)
for name in ("ada", "bob"):
    client = Client(url, auth=(name, name[0]), verbose=False)
    text = client.predict(f"I am {name}", api_name="/chat")
    for _ in range(2):
        thumb = {"index": 1, "value": [{"type": "text", "text": text}], "liked": name == "ada"}
        body = {"data": [], "event_data": thumb, "session_hash": client.session_hash}
        address, cookies = f"{url}gradio_api/run/like", dict(client.cookies)
        requests.post(address, json=body, cookies=cookies, timeout=20).raise_for_status()
app.close(verbose=False)
"""
THUMBS = """
import gradio
import trubrics_instrument
from gradio.context import LocalContext
from gradio_chatbot import build, respond
from trubrics_instrument.ui.gradio import on_like
build()
LocalContext.request.set(gradio.Request(username="ada", session_hash="session-1"))
*_, text = respond("Hi", [])
for words, liked in ((text, True), (text, True), (text, False), ("Other words", True)):
    value = [{"type": "text", "text": words}]
    on_like(gradio.LikeData(None, {"index": 1, "value": value, "liked": liked}))
"""


def test_two_users(model: Loopback, sink: Sink, tmp_path: Path) -> None:
    """Each signed-in user is told in a conversation of their own, and what they think, once."""
    run_child(TWO_USERS, sink, tmp_path)
    events = told(sink, 6)
    assert len(sink.events) == 6
    assert [
        (one["event"], one["user_id"], one["$thread_id"], one.get("$generation_id"))
        for one in events
    ] == [
        ("Prompt", "ada", "thread 1", None),
        ("Generation", "ada", "thread 1", "answer-1"),
        ("Feedback", "ada", "thread 1", "answer-1"),
        ("Prompt", "bob", "thread 2", None),
        ("Generation", "bob", "thread 2", "answer-2"),
        ("Feedback", "bob", "thread 2", "answer-2"),
    ]
    assert [one["score"] for one in events if one["event"] == "Feedback"] == [1, 0]
    assert not any("thread_inferred" in one for one in events)


def test_thumbs(model: Loopback, sink: Sink, tmp_path: Path) -> None:
    """A thumb is about the answer with these words in this session; each choice is told once."""
    run_child(THUMBS, sink, tmp_path)
    events = told(sink, 4)
    assert len(sink.events) == 4
    assert [(one["event"], one["user_id"], one.get("score")) for one in events] == [
        ("Prompt", "ada", None),
        ("Generation", "ada", None),
        ("Feedback", "ada", 1),
        ("Feedback", "ada", 0),
    ]
    assert len({one["$generation_id"] for one in events[1:]}) == 1
    assert {event["properties"]["$thread_id"] for event in sink.events} == {"session-1"}
