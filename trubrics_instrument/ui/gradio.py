"""Gradio's like buttons, for answers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.chat_uis import session
from trubrics_instrument._conversations.trail import number_of
from trubrics_instrument.ui._once import feedback_once

_gradio: Any = import_module("gradio")  # not every type checker has it installed


def on_like(data: Any) -> None:
    """Tell what a user thinks of an answer; for `chatbot.like`.

        chatbot.like(trubrics_instrument.ui.gradio.on_like)

    The answer is the one with these words in this session.
    """
    with shield("telling a feedback"):
        words = number_of(_text_of(data.value))
        told = _runtime.state().turns.answer_with(session().thread_id, words)
        if told is not None:
            feedback_once(told.generation_id, _score(data.liked))


# Gradio looks at the annotation to know what the function wants.
on_like.__annotations__["data"] = _gradio.LikeData


def _score(liked: bool | str) -> int:
    """Return 1 for a thumb up; further buttons have names, and are no thumbs up."""
    return int(liked is True or liked == "Like")


def _text_of(value: Any) -> str:
    """Return the words of the message whose button was pressed: a str, or parts with a text."""
    parts: list[Any] = [value] if isinstance(value, (str, dict)) else list(value)
    texts: list[Any] = [part if isinstance(part, str) else part.get("text") for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str))
