"""The stand-in's rules lead a conversation."""

from __future__ import annotations

from typing import Any

import pytest
from json_sample import sample
from openai_wire import Answer, ToolCall
from rules import FALL_BACK, Message, Question, answer


def _talk(*said: str, tools: dict[str, Any] | None = None) -> list[Answer]:
    """Say these things one after the other, and return the answers."""
    messages: list[Message] = []
    answers: list[Answer] = []
    for text in said:
        messages.append(Message("user", text))
        answers.append(answer(Question(tuple(messages), tools or {})))
        messages.append(Message("assistant", answers[-1].text or ""))
    return answers


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            ["Bye", "Hello", "My name is Ada", "Who am I?", "Thanks, bye"],
            [
                "Have a good trip!",
                "Hello! How can I help you in Linden?",
                "Hello, Ada! How can I help you in Linden?",
                "You are Ada.",
                "You are welcome. Have a good trip, Ada!",
            ],
        ),
        (
            ["Where is my ticket?", "LT-1042", "And ticket 7000?"],
            [
                "Gladly. What is the number of your ticket?",
                "Ticket 1042 is paid and valid.",
                "Ticket 7000 is paid and valid.",
            ],
        ),
        (
            ["Will it rain?", "Who am I?"],
            ["For which city?", "You have not told me yet."],
        ),
        (
            ["What is 12 * 7?", "And 1 / 0?", "10 / 4", "3 - 5", "2.5 + 1"],
            [
                "That makes 84.",
                "Nothing can be divided by zero.",
                "That makes 2.5.",
                "That makes -2.",
                "That makes 3.5.",
            ],
        ),
        (
            ["What does a ride cost?", "Are there bikes?", "Which tram goes to the harbour?"],
            [
                "A ride is 2.40, a day ticket 6.00.",
                "There are 14 bikes at the station, the first hour free.",
                "Trams run every 8 minutes, line 2 to the harbour.",
            ],
        ),
        (
            ["Weather in Rome, please"],
            ["I cannot see the weather in Rome without a weather tool."],
        ),
        (
            ["Write me a poem"],
            [FALL_BACK],
        ),
    ],
)
def test_conversation(said: list[str], expected: list[str]) -> None:
    """Each answer follows from what was said, now and before."""
    assert [answered.text for answered in _talk(*said)] == expected


def test_follow_up() -> None:
    """A bare city after a question about the weather is a question about the weather."""
    tools = {"get_weather": {"properties": {"place": {"type": "string"}}}}
    first, second = _talk("Umbrella in Rome?", "And in Oslo?", tools=tools)
    assert first.tool_calls == (ToolCall("get_weather", '{"place": "Rome"}', "call_1"),)
    assert second.tool_calls == (ToolCall("get_weather", '{"place": "Oslo"}', "call_3"),)


def test_ticket_tool() -> None:
    """A ticket is looked up with the app's own tool where there is one."""
    (answered,) = _talk("Order 555?", tools={"find_order": {"properties": {"number": {}}}})
    assert answered.tool_calls == (ToolCall("find_order", '{"number": "555"}', "call_1"),)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "text"),
        ({"type": ["string", "null"]}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 3}, 3),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "number", "exclusiveMinimum": 5}, 6),
        ({"type": "number", "maximum": -5}, -5),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        (
            {
                "$ref": "#/$defs/Node",
                "$defs": {
                    "Node": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                        },
                    }
                },
            },
            {"name": "text", "next": None},
        ),
    ],
)
def test_sample(schema: dict[str, Any], expected: object) -> None:
    """A sample is the smallest value that fits the schema."""
    assert sample(schema, "text") == expected
