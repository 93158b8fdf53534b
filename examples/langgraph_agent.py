"""A LangGraph agent with a tool and a checkpointer. One callback handler, nothing else tracks.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... python examples/langgraph_agent.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conversation import Script, Turn, get_weather
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType] # partly untyped
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel


def build(model: BaseChatModel) -> Any:
    """Return an agent that knows the weather, and remembers each thread."""
    agent: Any = create_agent(  # pyright: ignore[reportUnknownVariableType] # partly untyped
        model,
        tools=[get_weather],
        system_prompt="You are the help desk of a small city. Be brief.",
        checkpointer=InMemorySaver(),
    )
    return agent


def chat(agent: Any, script: Script, handler: TrubricsCallbackHandler) -> Iterator[Turn]:
    """Have a conversation; the graph's own `thread_id` is the conversation."""
    config = {
        "callbacks": [handler],
        "configurable": {"thread_id": script.thread},
        "metadata": {"user_id": script.user},
    }
    for question in script.questions:
        state = agent.invoke({"messages": [{"role": "user", "content": question}]}, config)
        messages = state["messages"]
        asked = max(at for at, message in enumerate(messages) if message.type == "human")
        tools = tuple(message.name for message in messages[asked:] if message.type == "tool")
        yield Turn(script.user, script.thread, question, messages[-1].text, tools)


def main() -> None:
    """Talk to OpenAI as one user."""
    script = Script("carol", "carol-1", ("How is the weather in Lyon?", "And in Oslo?"))
    agent = build(ChatOpenAI(model="gpt-4o-mini"))
    for turn in chat(agent, script, TrubricsCallbackHandler()):
        print(f"{turn.user}: {turn.question}\n  bot: {turn.answer}")


if __name__ == "__main__":
    main()
