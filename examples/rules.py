"""What the stand-in says: a help desk for trams, bikes and weather, by rules alone.

It is no language model and says so. The same conversation always gets the same answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from json_sample import sample
from openai_wire import Answer, Json, ToolCall, Usage, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Message(NamedTuple):
    """One entry of a conversation; the role is system, user, assistant or tool."""

    role: str
    text: str


@dataclass(frozen=True)
class Question:
    """What one request asks of a model, whichever endpoint it came to.

    Attributes:
        messages: The conversation so far, oldest first.
        tools: The JSON schema of each offered function's arguments, by name.
        forced_tool: The function that must be called.
        schema: The JSON schema that the text must fit.
        max_words: Where the text is cut off.
        choices: How many answers are wanted.
    """

    messages: tuple[Message, ...]
    tools: Mapping[str, Json]
    forced_tool: str | None = None
    schema: Json | None = None
    max_words: int | None = None
    choices: int = 1

    @property
    def said(self) -> list[str]:
        """What the user said, oldest first; never empty."""
        return [message.text for message in self.messages if message.role == "user"] or [""]


def answer(question: Question) -> Answer:
    """Answer the question by the rules; its tokens are words."""
    found = _within_limits(_shaped(_answer(question), question), question)
    texts = [found.text, found.refusal, *found.more, *(call.arguments for call in found.tool_calls)]
    asked = sum(len(pieces(message.text)) for message in question.messages)
    return replace(found, usage=Usage(asked, sum(len(pieces(text or "")) for text in texts)))


def _answer(question: Question) -> Answer:
    results = _fresh_tool_results(question)
    if results:
        return Answer(_about_results(results))
    for pattern, rule in _RULES:
        found = rule(question) if pattern.search(question.said[-1]) else None
        if found is not None:
            return found if isinstance(found, Answer) else Answer(found)
    return Answer(FALL_BACK)


def _shaped(found: Answer, question: Question) -> Answer:
    """Give the answer the form that the request demands: a certain tool, or a schema."""
    wanted = question.forced_tool
    if wanted is not None and wanted not in {call.name for call in found.tool_calls}:
        arguments = json.dumps(sample(question.tools[wanted], found.text or ""))
        return Answer(tool_calls=(ToolCall(wanted, arguments),))
    if question.schema is not None and found.text is not None:
        return replace(found, text=json.dumps(sample(question.schema, found.text)))
    return found


def _within_limits(found: Answer, question: Question) -> Answer:
    words = pieces(found.text or "")
    if question.max_words is not None and len(words) > question.max_words:
        found = replace(
            found, text="".join(words[: question.max_words]).rstrip(), finish_reason="length"
        )
    return replace(found, more=(found.text or "",) * (question.choices - 1))


def _fresh_tool_results(question: Question) -> list[str]:
    results: list[str] = []
    for message in reversed(question.messages):
        if message.role != "tool":
            break
        results.insert(0, message.text)
    return results


def _about_results(results: list[str]) -> str:
    facts = " ".join(_as_sentence(result) for result in results)
    wet = re.search(r"\b(rain|snow|storm)", facts, re.IGNORECASE)
    advice = "Better take the tram." if wet else "A good day for a bike."
    weather = wet or re.search(r"°|\b(sun|cloud|clear|wind)", facts, re.IGNORECASE)
    return f"{facts} {advice}" if weather else facts


def _as_sentence(result: str) -> str:
    try:
        value: object = json.loads(result)
    except ValueError:
        return f"I looked it up: {result.rstrip('.')}."
    if not isinstance(value, dict):
        return f"I looked it up: {value}."
    facts = cast("dict[str, object]", value)
    return "I looked it up: " + ", ".join(f"{key} {fact}" for key, fact in facts.items()) + "."


def _weather(question: Question) -> Answer | str | None:
    cities = _cities(question.said[-1])
    if not cities:
        return "For which city?"
    tool = next((name for name in question.tools if "weather" in name), None)
    if tool is None:
        return f"I cannot see the weather in {' and '.join(cities)} without a weather tool."
    return _calls(question, tool, cities)


def _weather_again(question: Question) -> Answer | str | None:
    """Read a bare "And in Oslo?" as the question before it, for another city."""
    about_weather = len(question.said) > 1 and _WEATHER.search(question.said[-2])
    return _weather(question) if about_weather and _cities(question.said[-1]) else None


def _cities(text: str) -> list[str]:
    names = _CITIES.search(text)
    return re.split(r",\s*|\s+and\s+", names[1]) if names else []


def _ticket(question: Question) -> Answer | str | None:
    number = _TICKET_NUMBER.search(question.said[-1])
    if number is None:
        return "Gladly. What is the number of your ticket?"
    tool = next((name for name in question.tools if "ticket" in name or "order" in name), None)
    if tool is not None:
        return _calls(question, tool, [number[1]])
    states = ("is being checked", "is paid and valid", "was refunded")
    return f"Ticket {number[1]} {states[int(number[1]) % len(states)]}."


def _ticket_number_alone(question: Question) -> Answer | str | None:
    """Read a number as the answer to "What is the number of your ticket?"."""
    before = [message.text for message in question.messages if message.role == "assistant"][-1:]
    return _ticket(question) if before and "number of your ticket" in before[0] else None


def _calls(question: Question, tool: str, values: list[str]) -> Answer:
    """Call the tool once for each value, under the name of its first argument."""
    argument = next(iter(question.tools[tool].get("properties", {})), "value")
    # Numbered over the conversation, so that no two calls in it share an id.
    first = len(question.messages)
    return Answer(
        tool_calls=tuple(
            ToolCall(tool, json.dumps({argument: value}), f"call_{first + index}")
            for index, value in enumerate(values)
        )
    )


def _sum(question: Question) -> str | None:
    found = _SUM.search(question.said[-1])
    if found is None:
        return None
    left, operator, right = float(found[1]), found[2], float(found[3])
    if operator == "/":
        return f"That makes {left / right:g}." if right else "Nothing can be divided by zero."
    results = {"+": left + right, "-": left - right}
    return f"That makes {results.get(operator, left * right):g}."


def _greeting(question: Question) -> str:
    name = _name(question)
    return f"Hello{f', {name}' if name else ''}! How can I help you in Linden?"


def _recall_name(question: Question) -> str:
    name = _name(question)
    return f"You are {name}." if name else "You have not told me yet."


def _goodbye(question: Question) -> str:
    name = _name(question)
    farewell = f"Have a good trip{f', {name}' if name else ''}!"
    thanked = "thank" in question.said[-1].lower()
    return f"You are welcome. {farewell}" if thanked else farewell


def _name(question: Question) -> str | None:
    """Return the name that the user gave last, anywhere in the conversation."""
    names = [found[1] for text in question.said for found in _NAME.finditer(text)]
    return names[-1] if names else None


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})", re.IGNORECASE)


FALL_BACK = (
    "I am a small rule-based stand-in for a language model. "
    "I know about opening hours, fares, bikes, tickets, the weather and sums."
)
_NAME = re.compile(r"\b(?i:my name is|i am|i'm|call me)\s+([A-Z][\w'-]+)")
_CITY = r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)*"
_CITIES = re.compile(rf"\b(?i:in|for)\s+({_CITY}(?:(?:,| and) {_CITY})*)")
_TICKET_NUMBER = re.compile(r"\b(?:LT-?)?(\d{3,8})\b")
_SUM = re.compile(r"(-?\d+(?:\.\d+)?)\s*([-+*x/])\s*(-?\d+(?:\.\d+)?)")
_WEATHER = _pattern("weather|rain|umbrella|temperature|forecast")

_RULES: tuple[tuple[re.Pattern[str], Callable[[Question], Answer | str | None]], ...] = (
    (
        _pattern("without paying|without a ticket|fare dodg"),
        lambda _: Answer(refusal="I cannot help with riding without a ticket."),
    ),
    (_WEATHER, _weather),
    (_pattern("ticket|order|refund"), _ticket),
    (_TICKET_NUMBER, _ticket_number_alone),
    (_pattern("open|opening|hours"), lambda _: "The desk is open from 7:00 to 20:00, every day."),
    (_pattern("fare|price|cost|how much is a"), lambda _: "A ride is 2.40, a day ticket 6.00."),
    (_pattern("bikes?|cycl"), lambda _: "There are 14 bikes at the station, the first hour free."),
    (_pattern("tram|line|stop"), lambda _: "Trams run every 8 minutes, line 2 to the harbour."),
    (_SUM, _sum),
    (_pattern("what is my name|what's my name|who am i"), _recall_name),
    (_CITIES, _weather_again),
    (_pattern("thanks|thank you|bye|goodbye"), _goodbye),
    (_pattern("hello|hi|hey|good (?:morning|day|evening)|my name is"), _greeting),
)
