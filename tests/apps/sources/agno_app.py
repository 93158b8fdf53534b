"""An agent with a tool and a session in its database: streamed (agno)."""

from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.openai import OpenAIChat


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return "Rain"


agent = Agent(
    model=OpenAIChat(id="gpt-4o-mini"),
    tools=[get_weather],
    instructions="Be brief.",
    db=SqliteDb(db_file="agno.db"),
    session_id="conversation",
    add_history_to_context=True,
)
for question in ("What is the weather in Oslo?", "When do you open?"):
    agent.print_response(question, stream=True)
