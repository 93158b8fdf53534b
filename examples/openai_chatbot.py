"""A chatbot on the OpenAI client: streamed, several turns, with a tool. Nothing in it tracks.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... python examples/openai_chatbot.py
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from conversation import Script, Turn, get_weather
from openai import OpenAI

import trubrics_instrument

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = "You are the help desk of a small city: trams, bikes and the weather. Be brief."
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Today's weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def chat(client: OpenAI, model: str, script: Script) -> Iterator[Turn]:
    """Have a conversation; each question is answered before the next one is asked."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    for question in script.questions:
        messages.append({"role": "user", "content": question})
        with trubrics_instrument.context(user_id=script.user, thread_id=script.thread):
            tools = _work(client, model, messages)
        answer = messages[-1]["content"]
        yield Turn(script.user, script.thread, question, answer, tuple(tools))


def _work(client: OpenAI, model: str, messages: list[Any]) -> list[str]:
    """Answer the last question, with as many tools as it takes; return their names."""
    tools: list[str] = []
    while calls := _answer(client, model, messages):
        for call in calls:
            arguments = json.loads(call["function"]["arguments"])
            result = {"tool_call_id": call["id"], "content": get_weather(**arguments)}
            messages.append({"role": "tool", **result})
            tools.append(call["function"]["name"])
    return tools


def _answer(client: OpenAI, model: str, messages: list[Any]) -> list[Any]:
    """Add the model's next message to the conversation; return the tools that it calls."""
    text = ""
    calls: list[Any] = []
    for chunk in client.chat.completions.create(
        model=model, messages=messages, tools=TOOLS, stream=True
    ):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for part in delta.tool_calls or []:
            if part.id:
                function = {"name": "", "arguments": ""}
                calls.append({"id": part.id, "type": "function", "function": function})
            if part.function:
                calls[-1]["function"]["name"] += part.function.name or ""
                calls[-1]["function"]["arguments"] += part.function.arguments or ""
    message = {"role": "assistant", "content": text or None}
    messages.append({**message, "tool_calls": calls} if calls else message)
    return calls


def main() -> None:
    """Talk to OpenAI as one user."""
    trubrics_instrument.patch_openai()
    script = Script("ada", "ada-1", ("Hi, my name is Ada.", "How is the weather in Oslo?"))
    for turn in chat(OpenAI(), "gpt-4o-mini", script):
        print(f"{turn.user}: {turn.question}\n  bot: {turn.answer}")


if __name__ == "__main__":
    main()
