"""Chainlit: its user, its thread, and its feedback buttons."""

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
    find_spec("chainlit") is None, reason="not installed here: make test-versions ARGS=ui"
)

ONE_USER = """
import asyncio
import chainlit as cl
import chainlit_chatbot
from chainlit.config import config
from chainlit.context import init_http_context
from chainlit.types import Feedback

async def talk():
    init_http_context(user=cl.User(identifier="ada"), thread_id="thread-of-ada")
    question = cl.Message("Hi")
    await question.send()
    await config.code.on_message(question)
    *_, reply = cl.chat_context.get()
    for _ in range(2):
        await config.code.on_feedback(Feedback(forId=reply.id, value=1, comment="Nice"))

asyncio.run(talk())
"""


def test_the_example(model: Loopback, sink: Sink, tmp_path: Path) -> None:
    """Its user and thread are told, and a thumb is about the answer that its message shows."""
    run_child(ONE_USER, sink, tmp_path)
    events = told(sink, 3)
    assert len(sink.events) == 3
    assert [(one["event"], one["user_id"], one["$text"]) for one in events] == [
        ("Prompt", "ada", "Hi"),
        ("Generation", "ada", "Answer 1."),
        ("Feedback", "ada", "Nice"),
    ]
    assert {event["properties"]["$thread_id"] for event in sink.events} == {"thread-of-ada"}
    assert events[2]["$generation_id"] == "answer-1"
