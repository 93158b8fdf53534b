"""Other handlers, which LangChain forgets when a text-completion model starts asynchronously.

Where one handler runs inline, `AsyncCallbackManager.on_llm_start` says nothing of the start to
those that do not; of everything else they are told. Source: langchain-core 0.3.10 to 1.8.3.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trubrics_instrument.langchain.stack import frames_from

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEPTH = 8


def tell_forgotten(own: object, serialized: Any, prompts: Any, about: Mapping[str, Any]) -> None:
    """Have the others told, after those that run inline, as LangChain does where none runs inline.

    Only where all that run inline are ours: what other people's handlers stop stays stopped. A
    LangChain that forgets nobody has a task for each prompt by now.
    """
    start = _start()
    if start is None:
        return
    inline, others = start["inline_handlers"], start["non_inline_handlers"]
    tasks, runs = start["non_inline_tasks"], start["managers"]
    ours = all(type(one) is type(own) for one in inline)
    if others and ours and inline[0] is own and len(tasks) < len(runs):
        # Late: where a patch waits for langchain_core, this module is imported in the midst of it.
        from langchain_core.callbacks.manager import ahandle_event  # noqa: PLC0415

        telling = ahandle_event(others, "on_llm_start", "ignore_llm", serialized, prompts, **about)
        tasks.append(telling)


def _start() -> Mapping[str, Any] | None:
    """Return the names inside the `on_llm_start` that tells us; None if nobody is forgotten."""
    for frame in frames_from(sys._getframe(2), _DEPTH):
        if frame.f_code.co_name == "on_llm_start" and "non_inline_tasks" in frame.f_locals:
            return frame.f_locals
    return None
