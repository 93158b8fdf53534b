"""Chainlit's feedback buttons, for answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._feedback import id_of
from trubrics_instrument.ui._once import feedback_once

if TYPE_CHECKING:
    from trubrics_instrument._base.memory import Memory


def link(message: Any, answer: object) -> None:
    """Say which answer a `cl.Message` shows, so that its buttons are about that answer.

    Args:
        message: The message, before or after it is sent.
        answer: An OpenAI response, a LangChain message, or its id.

    Raises:
        ValueError: The answer has no id.
    """
    _answers().put(str(message.id), id_of(answer))


async def on_feedback(given: Any) -> None:
    """Tell what a user thinks of an answer; for `cl.on_feedback`.

        cl.on_feedback(trubrics_instrument.ui.chainlit.on_feedback)

    A message that was not linked to an answer is told under its own id.

    Args:
        given: Chainlit's `Feedback`.
    """
    with shield("telling a feedback"):
        message_id = str(given.forId)
        feedback_once(_answers().get(message_id) or message_id, given.value, given.comment or None)


def _answers() -> Memory[str]:
    """Return which answers the messages show."""
    return _runtime.memory("messages of Chainlit")
