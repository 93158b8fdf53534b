"""An agent with a tool, and a second question in its session (openai-agents)."""

from agents import Agent, Runner, SQLiteSession, function_tool, set_tracing_disabled

set_tracing_disabled(disabled=True)


@function_tool
def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return "Rain"


agent = Agent(name="Help desk", instructions="Be brief.", model="gpt-4o-mini", tools=[get_weather])
session = SQLiteSession("conversation")
for question in ("What is the weather in Oslo?", "When do you open?"):
    print(Runner.run_sync(agent, question, session=session).final_output)
