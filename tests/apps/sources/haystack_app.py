"""An agent with a tool, and a second question with its messages (haystack-ai)."""

from typing import Annotated

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool


@tool
def get_weather(city: Annotated[str, "the city"]) -> str:
    """Return the weather in a city."""
    return "Rain"


agent = Agent(
    chat_generator=OpenAIChatGenerator(model="gpt-4o-mini"),
    tools=[get_weather],
    system_prompt="Be brief.",
)
messages = []
for question in ("What is the weather in Oslo?", "When do you open?"):
    result = agent.run(messages=[*messages, ChatMessage.from_user(question)])
    messages = result["messages"]
    print(result["last_message"].text)
