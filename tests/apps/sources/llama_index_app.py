"""An agent with a tool, and a second question with its memory: streamed (llama-index)."""

import asyncio

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import Memory
from llama_index.llms.openai import OpenAI


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return "Rain"


async def main():
    """Ask one question after the other."""
    agent = FunctionAgent(
        tools=[get_weather], llm=OpenAI(model="gpt-4o-mini"), system_prompt="Be brief."
    )
    memory = Memory.from_defaults(session_id="conversation", token_limit=40000)
    for question in ("What is the weather in Oslo?", "When do you open?"):
        print(await agent.run(user_msg=question, memory=memory))


asyncio.run(main())
