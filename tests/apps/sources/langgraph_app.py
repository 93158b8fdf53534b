"""An agent with a tool, for the LangGraph server."""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return "Rain"


graph = create_agent(ChatOpenAI(model="gpt-4o-mini"), tools=[get_weather])
