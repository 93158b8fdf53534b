"""A chat model of the app's own asks through a watched SDK: each question is told once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tests.provider.one_file import patch_parrot
from tests.provider.parrot import AsyncParrot, Parrot
from trubrics_instrument import TrubricsCallbackHandler, patch_openai, testing

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage


class Asking(BaseChatModel):
    """A model that answers with what functions of the app's return."""

    answer: Any = None
    answer_async: Any = None

    @property
    def _llm_type(self) -> str:
        return "asking"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return _result(self.answer(messages[-1].content))

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return _result(await self.answer_async(messages[-1].content))


def _result(text: str) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def asking(text: str) -> dict[str, Any]:
    """Return the arguments that ask a parrot."""
    return {"model": "p", "messages": [{"role": "user", "content": text}]}


def parrot_answers(text: str) -> str:
    """Ask a parrot."""
    return str(Parrot().chat(**asking(text)).words)


async def parrot_answers_later(text: str) -> str:
    """Ask a parrot that answers later."""
    return str((await AsyncParrot().chat(**asking(text))).words)


def told_twice(model: Asking, *, later: bool) -> list[tuple[str, str | None, Any]]:
    """Return what is told of a question without a handler, and with one."""
    handled: Any = {"callbacks": [TrubricsCallbackHandler()]}
    with testing.capture() as events:
        for question, config in (("Bare", None), ("Handled", handled)):
            if later:
                asyncio.run(model.ainvoke(question, config))
            else:
                model.invoke(question, config)
    return [(one.event, one.text, one.get("framework")) for one in events]


@pytest.mark.parametrize("later", [False, True])
def test_a_provider_of_one_file(later: bool) -> None:
    """A provider that is one new file leaves to a handler what that sees."""
    model = Asking(answer=parrot_answers, answer_async=parrot_answers_later)
    with patch_parrot():
        assert told_twice(model, later=later) == [
            ("Prompt", "Bare", "parrot"),
            ("Generation", "You said: Bare", "parrot"),
            ("Prompt", "Handled", "langchain"),
            ("Generation", "You said: Handled", "langchain"),
        ]


# websockets 17 warns of what the SDK does.
@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning")
def test_over_a_websocket() -> None:
    """So does the OpenAI patch, where a model asks over a WebSocket."""
    pytest.importorskip("websockets")
    websockets: Any = pytest.importorskip("tests.openai.websockets")
    if not pytest.importorskip("tests.openai.asking").in_this_sdk("responses.connect"):
        pytest.skip("this SDK has no responses.connect")
    with websockets.websocket_server() as url:

        def answer(text: str) -> str:
            with websockets.client_of("sync", url).responses.connect() as connection:
                return str(asyncio.run(websockets.ask(connection, text)))

        with patch_openai():
            assert told_twice(Asking(answer=answer), later=False) == [
                ("Prompt", "Bare", "openai"),
                ("Generation", "BARE", "openai"),
                ("Prompt", "Handled", "langchain"),
                ("Generation", "HANDLED", "langchain"),
            ]
