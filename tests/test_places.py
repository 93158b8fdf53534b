"""Places under one name: which one a question goes on from."""

from __future__ import annotations

from trubrics_instrument._conversations.places import Places
from trubrics_instrument._conversations.trail import History, Trail


def go_on(places: Places, text: str, *, name: int = 1) -> str:
    """Go on from the likeliest place with a question, and return its thread."""
    trail = Trail("ada", History("Hi", tail=("Hello",)), text)
    place = places.likeliest(name, trail, None)
    assert place is not None
    place.go_on(trail.question)
    return place.thread_id


def test_a_thread_stands_at_a_place_once() -> None:
    """However often a conversation comes back to its place, it is there once."""
    places = Places(10)
    for _ in range(20):
        places.note([1], "t-1")
    assert {go_on(places, f"{number}?") for number in range(10)} == {"t-1"}


def test_asked_since_another_waits() -> None:
    """The same question is another answer to it, if it was asked since another place waits."""
    places = Places(10)
    places.note([1], "t-1")
    places.note([1], "t-2")
    assert [go_on(places, text) for text in ("Why?", "How?")] == ["t-2", "t-1"]
    places.note([1], "t-3")
    assert go_on(places, "Why?") == "t-3"
    assert [go_on(places, text) for text in ("Why?", "How?")] == ["t-3", "t-1"]


def test_asked_at_an_older_place() -> None:
    """When a question was asked counts, and not how old its place is."""
    places = Places(10)
    places.note([1, 2], "t-1")
    places.note([1], "t-2")
    assert go_on(places, "Why?", name=2) == "t-1"
    assert [go_on(places, text) for text in ("Why?", "How?")] == ["t-1", "t-2"]


def test_those_that_wait_are_kept() -> None:
    """Places where somebody went on are forgotten before those where nobody did."""
    places = Places(10)
    places.note([1], "t-0")
    for number in range(8):
        places.note([1], f"gone-{number}")
        assert go_on(places, f"{number}?") == f"gone-{number}"
    places.note([1], "t-9")
    assert [go_on(places, text) for text in ("Why?", "How?")] == ["t-9", "t-0"]


def test_more_than_are_kept() -> None:
    """Once some are forgotten, whoever comes when none waits is one of those: somebody new."""
    places = Places(10)
    for number in range(9):
        places.note([1], f"t-{number}")
    assert len({go_on(places, f"{number}?") for number in range(8)}) == 8
    places.note([1], "t-9")
    assert go_on(places, "Here?") == "t-9"
    assert not go_on(places, "There?").startswith("t-")
