"""Which conversation an answer belonged to, for requests that go on from that answer."""

from __future__ import annotations

from trubrics_instrument._memory import MAX_REMEMBERED, Memory


class Threads:
    """The threads of the answers that this process has seen last."""

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._by_answer: Memory[str] = Memory(size)

    def of_answer(self, answer_id: str | None) -> str | None:
        """Return the thread of an answer, if this process has seen it."""
        return self._by_answer.get(answer_id) if answer_id else None

    def remember(self, answer_id: str | None, thread_id: str) -> None:
        """Note that an answer belongs to a thread."""
        if answer_id:
            self._by_answer.put(answer_id, thread_id)
