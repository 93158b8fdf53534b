"""Models that answer by rule: no network, any thread, and the same in every version."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Rule = Callable[[list[BaseMessage]], AIMessage]
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
COUNTED = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def says(text: str, **more: Any) -> Rule:
    """Return the rule of a model that always gives one answer."""
    return lambda _: AIMessage(text, usage_metadata=dict(USAGE), **more)


def calls(*names: str, then: str = "Done.") -> Rule:
    """Return the rule of a model that calls these tools once, and then answers."""

    def rule(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return says(then)(messages)
        uses = [{"name": name, "args": {"x": "1"}, "id": f"call-{name}"} for name in names]
        return AIMessage("", tool_calls=uses, usage_metadata=dict(USAGE))

    return rule


class Refused(Exception):  # noqa: N818 - the class's name is what the event says
    """What a model raises that does not want to."""


def refuses(_: list[BaseMessage]) -> AIMessage:
    """Raise."""
    raise Refused("the message may hold anything")


class Scripted(BaseChatModel):
    """A chat model that answers by a rule, word by word if it is streamed."""

    rule: Rule
    model: str = "model-1"
    stop_after: int | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {
            "ls_provider": "local",
            "ls_model_type": "chat",
            "ls_model_name": kwargs.get("model", self.model),
        }

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        """Return the model: its rule knows its tools."""
        return self

    def with_structured_output(self, schema: Any, **_: Any) -> Any:
        """Return the model with the first tool call's arguments as its output."""
        return self | (lambda message: schema(**message.tool_calls[0]["args"]))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **_: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.rule(messages))])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(0)
        return self._generate(*args, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **_: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for number, chunk in enumerate(_chunks(self.rule(messages))):
            if number == self.stop_after:
                raise Refused
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **_: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number, chunk in enumerate(_chunks(self.rule(messages))):
            if number == self.stop_after:
                raise Refused
            await asyncio.sleep(0)
            if run_manager:
                await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk


class Stuck(Scripted):
    """A chat model that never answers asynchronous calls."""

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        await asyncio.Event().wait()
        raise AssertionError


class Completing(LLM):
    """A text-completion model."""

    text: str = "Completed."

    @property
    def _llm_type(self) -> str:
        return "completing"

    def _get_ls_params(self, stop: list[str] | None = None, **_: Any) -> Any:
        return {"ls_provider": "local", "ls_model_type": "llm", "ls_model_name": "text-1"}

    def _call(self, prompt: str, *_: Any, **__: Any) -> str:
        return self.text


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    words = message.content.split(" ") if isinstance(message.content, str) else []
    for word in words[:-1]:
        piece = AIMessageChunk(content=word + " ")
        yield ChatGenerationChunk(message=piece)
    last = words[-1] if words else message.content
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content=last,
            tool_calls=message.tool_calls,
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            additional_kwargs=message.additional_kwargs,
        )
    )
