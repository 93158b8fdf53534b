"""What the examples share: a script for a user, the record of what was said, and a tool."""

from __future__ import annotations

from typing import NamedTuple

WEATHER = {"oslo": "12 °C and rain", "lyon": "24 °C and sunny", "porto": "19 °C and windy"}


class Turn(NamedTuple):
    """One question of a user, and the answer that the app showed."""

    user: str
    thread: str
    question: str
    answer: str
    tools: tuple[str, ...] = ()


class Script(NamedTuple):
    """One user, one conversation, and what the user is going to ask."""

    user: str
    thread: str
    questions: tuple[str, ...]


def get_weather(city: str) -> str:
    """Return today's weather in a city."""
    return WEATHER.get(city.lower(), "15 °C and cloudy")
