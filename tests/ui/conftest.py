"""Fixtures for the chat UIs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openai_wire import Answer, chat_chunks, chat_completion

from tests.replies import chat_stream, json_reply

if TYPE_CHECKING:
    from tests.loopback import Loopback, Request
    from tests.replies import Reply


@pytest.fixture
def model(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """Give a model that numbers its answers, where the example apps look for one."""

    def reply(request: Request) -> Reply:
        number = len(server.requests)
        answer = Answer(f"Answer {number}.", usage=None, id=f"answer-{number}")
        if request.json.get("stream"):
            return chat_stream(chat_chunks(answer))
        return json_reply(chat_completion(answer))

    server.always(reply)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    return server
