"""The assistant of AutoGen's own quickstart, with a tool, asked twice: streamed."""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.ui import Console
from autogen_ext.models.openai import OpenAIChatCompletionClient


async def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return "Rain"


async def main():
    """Ask one question after the other."""
    model_client = OpenAIChatCompletionClient(model="gpt-4o-mini")
    agent = AssistantAgent(
        name="weather_agent",
        model_client=model_client,
        tools=[get_weather],
        system_message="Be brief.",
        reflect_on_tool_use=True,
        model_client_stream=True,
    )
    for question in ("What is the weather in Oslo?", "When do you open?"):
        await Console(agent.run_stream(task=question))
    await model_client.close()


asyncio.run(main())
