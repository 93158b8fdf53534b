"""A chatbot on the Responses API, asynchronous; OpenAI keeps the history. Nothing in it tracks.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... python examples/responses_chatbot.py
"""

from __future__ import annotations

import asyncio

from conversation import Script, Turn
from openai import AsyncOpenAI

import trubrics_instrument

SYSTEM = "You are the help desk of a small city: trams, bikes and the weather. Be brief."


async def chat(client: AsyncOpenAI, model: str, script: Script) -> list[Turn]:
    """Have a conversation; each question goes on from the answer before it."""
    turns: list[Turn] = []
    previous: str | None = None
    async with trubrics_instrument.context(user_id=script.user, thread_id=script.thread):
        for question in script.questions:
            answer = await client.responses.create(
                model=model, instructions=SYSTEM, input=question, previous_response_id=previous
            )
            previous = answer.id
            turns.append(Turn(script.user, script.thread, question, answer.output_text))
    return turns


def main() -> None:
    """Talk to OpenAI as one user."""
    trubrics_instrument.patch_openai()
    script = Script("dan", "dan-1", ("Good morning!", "When do you open?"))
    for turn in asyncio.run(chat(AsyncOpenAI(), "gpt-4o-mini", script)):
        print(f"{turn.user}: {turn.question}\n  bot: {turn.answer}")


if __name__ == "__main__":
    main()
