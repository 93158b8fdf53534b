"""A feedback told once, however often a UI says it."""

from __future__ import annotations

from trubrics_instrument import _runtime
from trubrics_instrument._feedback import feedback, id_of


def feedback_once(target: object, score: float, comment: str | None = None) -> bool:
    """Tell a feedback unless it was told before; one that the user has changed is told again.

    A script that reruns says it each time, and a widget says it again when its comment comes.
    """
    generation_id, told = id_of(target), _runtime.memory("feedback of chat UIs")
    if told.get(generation_id) == (score, comment):
        return False
    told.put(generation_id, (score, comment))
    return feedback(generation_id, score, comment=comment)
