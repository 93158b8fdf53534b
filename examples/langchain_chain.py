"""A LangChain chain with history, streamed. One callback handler, and nothing else tracks.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... python examples/langchain_chain.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conversation import Script, Turn
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_openai import ChatOpenAI

from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "You are the help desk of a small city. Be brief."),
        MessagesPlaceholder("history"),
        ("human", "{question}"),
    ]
)


def build(model: BaseChatModel) -> Any:
    """Return a chain that turns a history and a question into an answer's text."""
    return PROMPT | model | StrOutputParser()


def chat(chain: Any, script: Script, handler: TrubricsCallbackHandler) -> Iterator[Turn]:
    """Have a conversation; user and conversation are in the metadata of the run."""
    metadata = {"user_id": script.user, "session_id": script.thread}
    history: list[tuple[str, str]] = []
    for question in script.questions:
        asked = {"history": history, "question": question}
        config = {"callbacks": [handler], "metadata": metadata}
        answer = "".join(chain.stream(asked, config))
        history += [("human", question), ("ai", answer)]
        yield Turn(script.user, script.thread, question, answer)


def main() -> None:
    """Talk to OpenAI as one user."""
    script = Script("bob", "bob-1", ("My name is Bob.", "Who am I?"))
    chain = build(ChatOpenAI(model="gpt-4o-mini"))
    for turn in chat(chain, script, TrubricsCallbackHandler()):
        print(f"{turn.user}: {turn.question}\n  bot: {turn.answer}")


if __name__ == "__main__":
    main()
