"""Questions that no model was asked yet: their graph stands still, and goes on in another run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument._memory import Memory
from trubrics_instrument._trail import NO_HISTORY

if TYPE_CHECKING:
    from trubrics_instrument.langchain.question import Question

# They hold texts, so fewer than elsewhere.
_waiting: Memory[Question] = Memory(1_000)


def wait(thread_id: str | None, question: Question | None) -> None:
    """Keep the question of a run that ended without a model: it may have stopped before one."""
    if thread_id and question is not None:
        _waiting.put(thread_id, question._replace(history=NO_HISTORY))


def take(thread_id: str | None) -> Question | None:
    """Return the question that waits in a conversation, if there is one, and forget it."""
    return _waiting.pop(thread_id) if thread_id and len(_waiting) else None
