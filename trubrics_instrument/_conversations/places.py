"""Where conversations stood after their last answers, until somebody goes on from there."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from trubrics_instrument._base.memory import Memory
from trubrics_instrument._base.uuids import random_uuid

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument._conversations.trail import Trail
    from trubrics_instrument._conversations.turns import Turn

_ALIKE_KEPT = 8
_moments = count()


class Place:
    """Where a conversation stood after an answer, until somebody goes on from there.

    Attributes:
        alone: Whether this process knows of no other place with the same last answer.
        asked: The number of the question with which the conversation went on; None if it waits.
        since: When that was, or since when it waits; greater is later.
        then: What follows once somebody goes on from here.
        turn: The turn of the answer, if that calls a tool of the app's, and so does not end it.
    """

    __slots__ = ("alone", "asked", "since", "then", "thread_id", "turn")

    def __init__(self, thread_id: str, *, alone: bool = False) -> None:
        self.thread_id = thread_id
        self.alone = alone
        self.asked: int | None = None
        self.then: Callable[[], None] | None = None
        self.turn: Turn | None = None
        self.since = next(_moments)

    def go_on(self, question: int) -> None:
        """Note that somebody goes on from here, with a question."""
        self.asked = question
        self.since = next(_moments)
        if self.then is not None:
            self.then()


# Stands before the places of a name if there were too many of them.
_FORGOTTEN = Place("")
_FORGOTTEN.go_on(0)


class Places:
    """The places that this process has seen last, by the names under which they are asked for."""

    def __init__(self, size: int) -> None:
        self._places: Memory[tuple[Place, ...]] = Memory(size)

    def note(self, names: list[int], thread_id: str) -> Place:
        """Note that a thread stands at a place with these names, the last answer's first."""
        places = self._places
        known = [places.get(name) for name in names]
        place = Place(thread_id, alone=known[0] is None)
        for name, alike in zip(names, known, strict=True):
            places.put(name, (place,) if alike is None else _beside(alike, place))
        return place

    def alone(self, name: int) -> Place | None:
        """Return the place under the name of a last answer, if no other was ever under it."""
        places = self._places.get(name)
        return places[-1] if places is not None and places[-1].alone else None

    def likeliest(self, name: int, trail: Trail, elsewhere: str | None) -> Place | None:
        """Return the place under a name from which a question goes on; None if there is none.

        The thread that stands there in another process counts as the latest one here.
        """
        places = self._places.get(name) or ()
        if elsewhere and all(place.thread_id != elsewhere for place in places):
            places = _beside(places, Place(elsewhere))
            self._places.put(name, places)
        return _likeliest(places, trail) if places else None


def _beside(alike: tuple[Place, ...], place: Place) -> tuple[Place, ...]:
    """Return the places under a name, and a new one; those that still wait are kept for longest."""
    others = [one for one in alike if one.thread_id != place.thread_id]
    if len(others) < _ALIKE_KEPT:
        return (*others, place)
    waiting = [one for one in others if one.asked is None]
    kept = (*waiting, place)[-_ALIKE_KEPT:]
    some_forgotten = others[0] is _FORGOTTEN or len(waiting) >= _ALIKE_KEPT
    return (_FORGOTTEN, *kept) if some_forgotten else kept


def _likeliest(places: tuple[Place, ...], trail: Trail) -> Place:
    """Return the place from which a question goes on: the latest that waits for one.

    What a known user asked at another place, since that one waits, is asked there again. Where none
    waits, the last one goes on another way (an edit); unless there were too many to keep: then it
    is one of those, whose thread nobody knows any more.
    """
    waiting = next((place for place in reversed(places) if place.asked is None), None)
    if trail.asker:
        since = waiting.since if waiting else -1
        for place in reversed(places):
            if place.asked == trail.question and place.since > since:
                return place
    if waiting is None and places[0] is _FORGOTTEN:
        return Place(random_uuid())
    return waiting or places[-1]
