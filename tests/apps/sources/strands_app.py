"""An agent with a tool, asked twice: streamed, and printed by itself (strands-agents)."""

from strands import Agent, tool
from strands.models.openai import OpenAIModel


@tool
def get_weather(city: str) -> str:
    """Return the weather in a city.

    Args:
        city: The city.
    """
    return "Rain"


agent = Agent(
    model=OpenAIModel(model_id="gpt-4o-mini"), tools=[get_weather], system_prompt="Be brief."
)
for question in ("What is the weather in Oslo?", "When do you open?"):
    agent(question)
