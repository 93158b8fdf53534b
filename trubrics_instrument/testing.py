"""For the tests of an app: what it would send, as plain values, with no network and no disk."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast, overload

from trubrics_instrument import _events, _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._context import scope
from trubrics_instrument._delivery import Skip

_SHOWN = ("user_id", "thread_id", "assistant_id", "text")
_SHOWN_CHARS = 60


class Captured(NamedTuple):
    """One event as it would arrive in Trubrics; what is absent is None.

    Attributes:
        event: Its name, such as "Prompt" or "Generation".
        user_id: Who it happened to.
        text: What was said (`$text`), redacted and cut as configured.
        thread_id: The conversation (`$thread_id`).
        assistant_id: The assistant (`$assistant_id`).
        prompt_id: The user's message (`$prompt_id`).
        generation_id: The assistant's message (`$generation_id`).
        timestamp: When, as it is sent: UTC, ISO 8601.
        properties: All other properties, without those of delivery (`source`, `event_id`).
    """

    event: str
    user_id: str
    text: str | None
    thread_id: str | None
    assistant_id: str | None
    prompt_id: str | None
    generation_id: str | None
    timestamp: str
    properties: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """Return a field or a property by its name, None if it is absent."""
        return getattr(self, name) if name in self._fields else self.properties.get(name)


class Events(Sequence[Captured]):
    """What was captured so far, in order; it grows while the app runs."""

    def __init__(self) -> None:
        self._taken: list[Captured] = []
        self._news = threading.Condition()

    @overload
    def __getitem__(self, index: int) -> Captured: ...
    @overload
    def __getitem__(self, index: slice) -> list[Captured]: ...
    def __getitem__(self, index: int | slice) -> Captured | list[Captured]:
        return self._taken[index]

    def __len__(self) -> int:
        return len(self._taken)

    def __repr__(self) -> str:
        return f"<{_listed(self._taken)}>"

    def named(self, event: str) -> list[Captured]:
        """Return the events of this name."""
        return [one for one in self._taken if one.event == event]

    def turns(self) -> list[tuple[str | None, str | None]]:
        """Return what was asked and what was answered, one pair for each answer.

        A question that was not answered is paired with None.
        """
        told = [one for one in self._taken if "score" not in one.properties]  # no feedback
        of_turns = [(one.prompt_id, one) for one in told if one.prompt_id]
        asked = {turn: one.text for turn, one in of_turns if not one.assistant_id}
        answers = [(turn, one.text) for turn, one in of_turns if one.generation_id]
        answered = {turn for turn, _ in answers}
        open_turns = [(turn, None) for turn in asked if turn not in answered]
        return [(asked.get(turn), text) for turn, text in answers + open_turns]

    def one(self, event: str, /, **expected: object) -> Captured:
        """Return the only event of this name with these fields and properties.

        Raises:
            AssertionError: There is none, or there are several; it says which there are, and in
                what the nearest ones differ.
        """
        found = self._matching(event, expected)
        if len(found) == 1:
            return found[0]
        wanted = _described(event, expected)
        if found:
            raise AssertionError(f"{len(found)} events are {wanted}, not one:\n{_lines(found)}")
        raise AssertionError(f"no event is {wanted}: {self._instead(event, expected)}")

    def none(self, event: str, /, **unwanted: object) -> None:
        """See that there is no event of this name with these fields and properties.

        Raises:
            AssertionError: There is one; it is shown.
        """
        found = self._matching(event, unwanted)
        if found:
            wanted = _described(event, unwanted)
            raise AssertionError(f"no event was to be {wanted}, but there is\n{_lines(found)}")

    def wait_for(self, count: int, timeout_s: float = 5.0) -> list[Captured]:
        """Return the events as soon as there are `count`: an app may answer in the background.

        Raises:
            AssertionError: There are fewer when the time is over.
        """
        with self._news:
            if self._news.wait_for(lambda: len(self._taken) >= count, timeout_s):
                return list(self._taken)
        raise AssertionError(f"after {timeout_s} s, of {count} expected: {_listed(self._taken)}")

    def put(self, item: object) -> bool:
        """Take an event in place of the sender."""
        with shield("preparing an event for a test"):
            made = _runtime.prepared(item, "")
            if not isinstance(made, Skip):
                one = _captured(cast("_events.WireEvent", made.body))
                with self._news:
                    self._taken.append(one)
                    self._news.notify_all()
        return True

    def _matching(self, event: str, expected: Mapping[str, object]) -> list[Captured]:
        return [one for one in self.named(event) if not _differences(one, expected)]

    def _instead(self, event: str, expected: Mapping[str, object]) -> str:
        named = self.named(event)
        if not named:
            return _listed(self._taken)
        near = min(named, key=lambda one: len(_differences(one, expected)))
        differs = "\n".join(f"  {line}" for line in _differences(near, expected))
        return f"the nearest {event} differs in\n{differs}\nAmong {_listed(self._taken)}"


@contextmanager
def capture() -> Generator[Events, None, None]:
    """Give the events that the app would send while the block runs; none leaves the process.

    They went through the configured redaction, names and `before_send`. `TRUBRICS_ENABLED=0` and a
    sample rate do not count here, and neither does a key or a host. At its start nobody is
    identified, and no conversation is known.
    """
    events = Events()
    with _runtime.standing_in(events), scope.Request():
        yield events


def _captured(wire: _events.WireEvent) -> Captured:
    """Return a wire event with its fields told from its properties."""
    rest: dict[str, Any] = {
        key: value for key, value in wire["properties"].items() if key not in _events.OF_DELIVERY
    }
    return Captured(
        event=wire["event"],
        user_id=wire["user_id"],
        text=rest.pop("$text", None),
        thread_id=rest.pop("$thread_id", None),
        assistant_id=rest.pop("$assistant_id", None),
        prompt_id=rest.pop("$prompt_id", None),
        generation_id=rest.pop("$generation_id", None),
        timestamp=wire["timestamp"],
        properties=rest,
    )


def _differences(one: Captured, expected: Mapping[str, object]) -> list[str]:
    return [
        f"{name}: expected {value!r}, is {one.get(name)!r}"
        for name, value in expected.items()
        if one.get(name) != value
    ]


def _described(event: str, expected: Mapping[str, object]) -> str:
    told = ", ".join(f"{name}={value!r}" for name, value in expected.items())
    return f"{event!r} with {told}" if told else repr(event)


def _listed(events: Sequence[Captured]) -> str:
    if events:
        return f"{len(events)} captured:\n{_lines(events)}"
    patches = _runtime.state().patches
    active = sorted(name for name, patch in patches.items() if patch.active)
    return (
        "nothing was captured. "
        f"Patched: {', '.join(active) or 'nothing (patch_openai(), or a TrubricsCallbackHandler)'}."
        " Did the app ask inside of capture(), and outside of suppress()?"
    )


def _lines(events: Sequence[Captured]) -> str:
    return "\n".join(f"  {one.event}: {_shown(one)}" for one in events)


def _shown(one: Captured) -> str:
    values = {name: one.get(name) for name in _SHOWN}
    return ", ".join(f"{name}={_cut(value)}" for name, value in values.items() if value)


def _cut(value: str) -> str:
    return repr(value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}…")
