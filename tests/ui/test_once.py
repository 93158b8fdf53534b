"""What the widgets of chat UIs remember: as much as one process does, or one test."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from trubrics_instrument.testing import Events, capture
from trubrics_instrument.ui import chainlit
from trubrics_instrument.ui._once import feedback_once


def told(events: Events) -> list[tuple[str, str | None, object]]:
    """Return which answers were rated, and how."""
    return [(one.event, one.generation_id, one.get("score")) for one in events]


def test_each_test_tells_its_feedback() -> None:
    """What was told in one test is told in the next one too, and once in each."""
    with capture() as events:
        said = [feedback_once("answer-1", score) for score in (1, 1, 0)]
    with capture() as later:
        assert feedback_once("answer-1", 0)
    assert said == [True, False, True]
    assert told(events) == [("Feedback", "answer-1", 1), ("Feedback", "answer-1", 0)]
    assert told(later) == [("Feedback", "answer-1", 0)]


def test_each_test_has_its_messages() -> None:
    """Which answer a message shows is known in the test that said so, and not in the next one."""
    thumb = SimpleNamespace(forId="message-1", value=1, comment=None)
    with capture() as events:
        chainlit.link(SimpleNamespace(id="message-1"), "answer-1")
        asyncio.run(chainlit.on_feedback(thumb))
    with capture() as later:
        asyncio.run(chainlit.on_feedback(thumb))
    assert told(events) == [("Feedback", "answer-1", 1)]
    assert told(later) == [("Feedback", "message-1", 1)]
