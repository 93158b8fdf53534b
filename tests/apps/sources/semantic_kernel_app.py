"""An agent with a plugin, and a second question on its thread (semantic-kernel)."""

import asyncio

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function


class WeatherPlugin:
    """What the agent can look up."""

    @kernel_function(description="Return the weather in a city.")
    def get_weather(self, city: str) -> str:
        """Return the weather in a city."""
        return "Rain"


async def main():
    """Ask one question after the other."""
    agent = ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id="gpt-4o-mini"),
        name="HelpDesk",
        instructions="Be brief.",
        plugins=[WeatherPlugin()],
    )
    thread = None
    for question in ("What is the weather in Oslo?", "When do you open?"):
        response = await agent.get_response(messages=question, thread=thread)
        thread = response.thread
        print(response)


asyncio.run(main())
