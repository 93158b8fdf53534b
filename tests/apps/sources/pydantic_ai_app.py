"""An agent with a tool, and a second question with its history (pydantic-ai)."""

from pydantic_ai import Agent

agent = Agent("openai-chat:gpt-4o-mini", instructions="Be brief.")


@agent.tool_plain
def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return "Rain"


history = None
for question in ("What is the weather in Oslo?", "When do you open?"):
    result = agent.run_sync(question, message_history=history)
    history = result.all_messages()
    print(result.output)
