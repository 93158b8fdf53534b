"""`track()`: an event of the app's own, from whoever is there, and never at the app's expense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, chat_completion

from tests.openai.asking import client_of
from tests.replies import json_reply
from trubrics_instrument import configure, context, patch_openai, stats, track
from trubrics_instrument._context.scope import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.loopback import Loopback
    from tests.sink import Sink


def ask(server: Loopback, **fields: Any) -> None:
    """Ask a model."""
    server.script(json_reply(chat_completion(Answer("Hello"))))
    with client_of(server, "sync") as client:
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], **fields
        )


def who_and_where(event: dict[str, Any]) -> tuple[str, str | None, bool]:
    """Return whose an event is, in which conversation, and whether that is a stranger."""
    own = event["properties"]
    return event["user_id"], own.get("$thread_id"), own.get("anonymous", False)


@pytest.mark.parametrize("around", [context, Request], ids=["block", "request"])
@pytest.mark.parametrize("fields", [{}, {"user": "ada"}], ids=["a stranger", "ada"])
def test_after_a_question(
    around: Callable[[], AbstractContextManager[object]],
    fields: dict[str, Any],
    server: Loopback,
    sink: Sink,
) -> None:
    """In the block or request of a question it is told of who asked, in the same conversation."""
    with patch_openai(), around():
        ask(server, **fields)
        track("Escalated")
    prompt, _, escalated = sink.wait_for(3)
    assert escalated["event"] == "Escalated"
    assert who_and_where(escalated) == who_and_where(prompt)


def test_after_somebodys_question(server: Loopback, sink: Sink) -> None:
    """Outside of a block or request, the question before may be anybody's."""
    with patch_openai():
        ask(server)
        track("Escalated")
    *_, escalated = sink.wait_for(3)
    assert "$thread_id" not in escalated["properties"]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"user_id": "ada"}, "talk-1"),
        ({"user_id": "bob"}, None),
        ({"properties": {"$thread_id": "talk-2"}}, "talk-2"),
        ({"properties": {"$thread_id": "talk-1"}}, "talk-1"),
    ],
    ids=["who asked", "somebody else", "another place", "the same place"],
)
def test_of_somebody(
    given: dict[str, Any], where: str | None, server: Loopback, sink: Sink
) -> None:
    """What is given says more than the question, which only completes what fits to it."""
    with patch_openai(), context():
        ask(server, user="ada", extra_body={"metadata": {"thread_id": "talk-1"}})
        track("Escalated", **given)
    escalated = sink.wait_for(3)[-1]
    known = where == "talk-1" or "user_id" in given
    stranger = escalated["user_id"].startswith("anon-")
    assert (stranger, escalated["properties"].get("$thread_id")) == (not known, where)


def test_in_a_conversation(sink: Sink) -> None:
    """A stranger is the one of the conversation, whichever way that is named."""
    with context(thread_id="talk-1"):
        track("One")
    track("Two", {"$thread_id": "talk-1"})
    one, two = map(who_and_where, sink.wait_for(2))
    assert one == two
    assert one[1:] == ("talk-1", True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((None,), "an event must have a name"),
        (("",), "an event must have a name"),
        (("Sign up", ["plan"]), "properties must be a dict, not list"),
    ],
    ids=["nothing", "no name", "a list"],
)
def test_called_in_vain(
    arguments: tuple[Any, ...], why: str, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of the app's costs it its event, is counted, and is named once."""
    configure(host=sink.host)
    assert not track(*arguments)
    assert not track(*arguments)
    assert stats().dropped == {"invalid": 2}
    assert stats().faults == {}
    assert caplog.messages == [f"Trubrics: track() was called in vain: {why}."]


def test_a_time_that_is_none(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """A text is no moment, whatever it says."""
    configure(host=sink.host)
    moment: Any = "2026-12-01T10:00:00Z"
    assert not track("Sign up", timestamp=moment)
    assert caplog.messages == [
        "Trubrics: track() was called in vain: timestamp must be a datetime, not str."
    ]
