"""Streamlit's feedback widget, for an answer."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from trubrics_instrument._base.shield import shield
from trubrics_instrument._feedback import id_of
from trubrics_instrument.ui._once import feedback_once

_streamlit: Any = import_module("streamlit")  # not every type checker has it installed


def feedback(
    target: object, *, options: Literal["thumbs", "faces", "stars"] = "thumbs", **widget: Any
) -> int | None:
    """Show `st.feedback` for an answer, and tell what the user chooses, once.

    Scripts may rerun as often as they like; a choice that the user changes is told again.

    Args:
        target: The answer: an OpenAI response, a LangChain message, or its id.
        options: As in `st.feedback`. Thumbs give a score of 0 or 1, faces and stars 1 to 5.
        widget: What `st.feedback` takes besides.

    Returns:
        What `st.feedback` returns: the index of the choice, or None.

    Raises:
        ValueError: The target has no id.
    """
    generation_id = id_of(target)
    widget.setdefault("key", f"trubrics-feedback-{generation_id}")
    chosen: int | None = _streamlit.feedback(options, **widget)
    if chosen is not None:
        with shield("telling a feedback"):
            feedback_once(generation_id, chosen if options == "thumbs" else chosen + 1)
    return chosen
