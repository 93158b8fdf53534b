"""What a model is asked is read where it is needed, and no later than that."""

# LangChain's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import uuid
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda

from tests.langchain.models import Completing, Scripted, says
from trubrics_instrument import TrubricsCallbackHandler, configure, suppress
from trubrics_instrument.langchain import handler as watched
from trubrics_instrument.langchain.question import last_question
from trubrics_instrument.testing import capture

QUESTION = HumanMessage("Hello?")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give the questions that are read."""
    questions: list[Any] = []

    def noted(messages: Any) -> Any:
        questions.append(last_question(messages))
        return questions[-1]

    monkeypatch.setattr(watched, "last_question", noted)
    return questions


def ask(handler: TrubricsCallbackHandler) -> None:
    """Ask a model three times in one turn."""
    model = Scripted(rule=says("Hi"))

    def thrice(messages: Any) -> AIMessage:
        return [model.invoke(messages) for _ in range(3)][-1]

    RunnableLambda(thrice).invoke([QUESTION], {"callbacks": [handler]})


def test_once_a_turn(read: list[Any]) -> None:
    """Of the models of one turn, only the first one's question is read."""
    with capture() as events:
        ask(TrubricsCallbackHandler())
    assert [one.text for one in read] == ["Hello?"]
    assert events.turns() == [("Hello?", "Hi")]
    assert events[-1].properties["model_calls"] == 3


def test_not_where_nothing_is_told(read: list[Any]) -> None:
    """What is not told is not read either."""
    handler = TrubricsCallbackHandler()
    with capture(), suppress():
        ask(handler)
    configure(enabled=False)
    ask(handler)
    Scripted(rule=says("Hi")).invoke([QUESTION], {"callbacks": [handler]})
    assert read == []


def test_at_the_start() -> None:
    """It is read when the model starts, though it is told later: the app's list may change."""
    handler, turn, call = TrubricsCallbackHandler(), uuid.uuid4(), uuid.uuid4()
    messages = [QUESTION]
    answer = LLMResult(generations=[[ChatGeneration(message=AIMessage("Hi"))]])
    with capture() as events:
        handler.on_chain_start({}, {"input": ""}, run_id=turn)  # as of a stream of inputs
        handler.on_chat_model_start({}, [messages], run_id=call, parent_run_id=turn)
        messages.clear()
        handler.on_llm_end(answer, run_id=call)
        handler.on_chain_end("Hi", run_id=turn)
    assert events.turns() == [("Hello?", "Hi")]


def test_the_kind_of_request() -> None:
    """A completion model is told as one, inside a chain as well."""
    alone: Any = Completing()
    chain: Any = PromptTemplate.from_template("Q: {question}") | alone
    with capture() as events:
        for asked, given in ((chain, {"question": "Hello?"}), (alone, "Hello?")):
            asked.invoke(given, {"callbacks": [TrubricsCallbackHandler()]})
    assert [(one.event, one.get("operation")) for one in events] == [
        ("Prompt", "completion"),
        ("Generation", "completion"),
    ] * 2
