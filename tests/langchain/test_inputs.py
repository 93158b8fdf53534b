"""What a run is given may be of any kind."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("langchain_core")

from trubrics_instrument.langchain.question import question_of


@dataclass
class State:
    """A graph's state, as a dataclass."""

    question: str
    hits: int = 0


@dataclass
class Slotted:
    """The same with slots, as LangGraph's own values are: `vars()` of it raises."""

    __slots__ = ("hits", "question")
    question: str
    hits: int


@pytest.mark.parametrize("given", [State("When?"), Slotted("When?", 0), {"a": Slotted("When?", 0)}])
def test_a_dataclass_is_read_by_its_fields_with_slots_and_without(given: object) -> None:
    """What the user typed is found in each; a value that says nothing is no fault."""
    question = question_of(given)
    expected = None if isinstance(given, dict) else "When?"
    assert (question.text if question else None) == expected
