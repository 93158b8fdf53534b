"""A chatbot as most apps have it: it keeps its messages, and resends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai_wire import Answer, chat_completion

from tests.openai.asking import client_of
from tests.replies import json_reply

if TYPE_CHECKING:
    from tests.loopback import Loopback


class Bot:
    """A chatbot that keeps its messages, and resends the last `window` of them."""

    def __init__(self, server: Loopback, window: int = 100) -> None:
        self.client = client_of(server, "sync")
        self.messages: list[Any] = []
        self._server = server
        self._window = window

    def ask(self, question: str, answer: str) -> None:
        """Ask, and get this answer."""
        self.messages.append({"role": "user", "content": question})
        self.again(answer)

    def again(self, answer: str) -> None:
        """Ask the last question again, and get this answer."""
        self._server.script(json_reply(chat_completion(Answer(f"{answer}\n", usage=None))))
        system = {"role": "system", "content": "Be brief."}
        self.client.chat.completions.create(
            model="m", messages=[system, *self.messages[-self._window :]]
        )
        self.messages.append({"role": "assistant", "content": answer})

    def forget(self, messages: int) -> None:
        """Take the last messages back, as an edit or another answer does."""
        del self.messages[-messages:]
