"""LangChain: one question, one answer, whatever runs in between.

A callback (`handler.py`) leads by `start.py` to a run, which `runs.py` keeps until its end: one of
a model (`model.py`), of a tool (`tools.py`), or a root run, which is a turn (`turn.py`). What a
turn asks is settled in `asking.py` (read by `question.py`, of whom by `origin.py`), how it ended in
`outcome.py` (read by `reply.py`; of one that was left, `parts.py` knows what it had come to). Where
graphs stop and go on is in `waiting.py`, `interrupts.py` and `written.py`. What no callback tells,
the stack does: `stack.py`, `observed.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument.langchain.patch import patch_langchain, unpatch_langchain

if TYPE_CHECKING:
    from trubrics_instrument.langchain.handler import TrubricsCallbackHandler

__all__ = ["TrubricsCallbackHandler", "patch_langchain", "unpatch_langchain"]


def __getattr__(name: str) -> Any:
    """Import the handler when it is asked for: it needs langchain_core, and the patch does not."""
    if name != "TrubricsCallbackHandler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from trubrics_instrument.langchain.handler import TrubricsCallbackHandler  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "langchain_core":
            raise
        text = f"{name} needs langchain-core: pip install 'trubrics-instrument[langchain]'"
        raise ModuleNotFoundError(text, name=error.name) from error
    return TrubricsCallbackHandler
