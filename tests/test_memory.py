"""The memory of turns and threads: bounded, and safe without a lock."""

from __future__ import annotations

import pytest

from tests.interleaving import meanwhile
from trubrics_instrument._base import memory as room
from trubrics_instrument._base.memory import Memory
from trubrics_instrument._conversations.threads import Threads
from trubrics_instrument._conversations.trail import History, Trail, number_of
from trubrics_instrument._conversations.turns import RetryKey, Told, Turns, new_turn

STEPS = pytest.mark.parametrize("step", range(12))


def test_it_forgets_what_was_used_least_recently() -> None:
    """There are never more entries than its size; what is asked for, or noted again, stays."""
    memory: Memory[int] = Memory(3)
    for number in range(3):
        memory.put(number, number)
    assert memory.get(0) == 0
    memory.put(1, 10)
    memory.put(3, 3)
    assert [memory.get(key) for key in (0, 1, 2, 3)] == [0, 10, None, 3]
    assert memory.latest() == [3, 10, 0]
    assert (memory.first(0, 7), memory.first(4, 4)) == (0, 4)
    assert memory.latest() == [4, 0, 3]


@STEPS
def test_forgotten_meanwhile(step: int) -> None:
    """What another thread forgets in the middle of a look-up or a note raises nothing."""
    memory: Memory[int] = Memory(1)
    memory.put("k", 1)
    with meanwhile(room, step, memory.clear):
        assert memory.get("k") in {1, None}
    memory.put("k", 1)
    with meanwhile(room, step, memory.clear):
        memory.put("j", 2)
    memory.put("k", 3)
    assert memory.latest() == [3]


@STEPS
def test_the_first_counts(step: int) -> None:
    """Of two threads that note the same key at once, both get what the first one noted."""
    memory: Memory[str] = Memory()
    other: list[str] = []
    with meanwhile(room, step, lambda: other.append(memory.first("k", "the other's"))):
        mine = memory.first("k", "mine")
    assert memory.get("k") == mine
    assert other in ([mine], [])


def test_turns_are_bounded() -> None:
    """Turns, failures and answers: each forgets the oldest."""
    turns = Turns(10)
    for number in range(100):
        turns.remember(new_turn(), number)
        turns.fail(new_turn(), RetryKey(None, number, 0))
        turns.remember_answer(Told(str(number), "ada", "t"), str(number))
    sizes = [len(one) for one in (turns._open, turns._failed, turns._answers)]
    assert sizes == [10, 10, 10]
    assert turns.answer("99") is not None
    assert turns.answer("9") is None


def test_threads_are_bounded() -> None:
    """Places, openings and what begins no conversation: a conversation in use stays."""
    threads = Threads(10)
    kept = Trail("ada", History("Hi", begins=False, tail=("Hi", "Hello")), "And now?")
    asked = Trail("ada", History("Hi", begins=True), "Hi")
    threads.answered(asked.names_after(number_of("Hello")), "t", share=False)
    for number in range(100):
        text = f"Question {number}"
        begun = Trail("ada", History(text, begins=True), text)
        names = begun.names_after(number_of(f"Answer {number}"))
        threads.answered(names, threads.open(begun), share=False)
        strange = Trail("ada", History(text, begins=False, tail=(f"Example {number}",)), "Next")
        threads.open(strange)
        place = threads.find(kept)
        assert place is not None
        assert place.thread_id == "t"
    sizes = [len(one) for one in (threads._places._places, threads._openings, threads._unanswered)]
    assert sizes == [30, 10, 10]
