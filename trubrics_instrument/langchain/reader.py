"""Reads an `LLMResult`, in the words of every provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument._base.counts import count_in
from trubrics_instrument._observing.reader import Answer, Asked, Choice, TurnKey, Usage
from trubrics_instrument.langchain.messages import (
    all_said,
    answered,
    attachments,
    each,
    field,
    first_text,
    hosted_tools,
    mapping,
    tool_uses,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNKNOWN = Usage()
_FINISH_KEYS = ("finish_reason", "stop_reason", "done_reason")
_CUT_SHORT = frozenset({"length", "max_tokens", "content_filter", "model_length"})


class ResultReader:
    """Reads what LangChain's callbacks say of an answer. Source: langchain-core 0.3.10 to 1.8."""

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def answer(self, body: Any) -> Answer:
        """Return what an `LLMResult` says."""
        return self.read(body)[0]

    def read(self, body: Any) -> tuple[Answer, bool]:
        """Return what an `LLMResult` says, and whether it is out of LangChain's cache.

        Such a one repeats tokens that were counted once, and so has none here.
        Source: langchain-core 0.3.60 to 1.8.3, `BaseChatModel._convert_cached_generations`.
        """
        prompts = each(field(body, "generations"))
        generations = each(prompts[0]) if prompts else ()  # a run has one prompt
        totals = mapping(field(body, "llm_output"))
        first = field(generations[0], "message") if generations else None
        known = mapping(field(first, "response_metadata"))
        model = known.get("model_name") or known.get("model") or totals.get("model_name")
        counted = mapping(field(first, "usage_metadata"))
        cached = counted.get("total_cost") == 0
        answer = Answer(
            id=first_text([field(first, "id")]),
            model=first_text([model]),
            choices=tuple([_choice(generation) for generation in generations]),
            usage=_UNKNOWN if cached else _usage(counted, totals),
            status="ok" if generations else "unread",
        )
        return answer, cached

    def turn_keys(self, asked: Asked, answer: Answer) -> tuple[TurnKey, ...]:
        """Return the ids of the tool calls, whose results may come with the question or without."""
        uses = [use for choice in answer.choices for use in choice.tool_uses if not use.hosted]
        names = [use.id or use.name for use in uses]
        return tuple([TurnKey(name, text) for name in names for text in {asked.text, None}])


def _choice(generation: Any) -> Choice:
    message = field(generation, "message")
    known = mapping(field(message, "response_metadata"))
    info = mapping(field(generation, "generation_info"))
    reason = _reason(known) or _reason(info)
    complete = (reason or "").lower() not in _CUT_SHORT
    if message is None:
        return Choice(
            first_text([field(generation, "text")]), finish_reason=reason, complete=complete
        )
    message_id = first_text([field(message, "id")])
    text, whole = answered(message), all_said(message)
    return Choice(
        text=text,
        tool_uses=tool_uses(message) + hosted_tools(message),
        finish_reason=reason,
        attachments=attachments(message),
        complete=complete,
        id=message_id,
        resent_as=() if whole == text else (whole,),
        resent_id=message_id,
    )


def _reason(known: Mapping[str, Any]) -> str | None:
    return first_text([known.get(key) for key in _FINISH_KEYS]) if known else None


def _usage(counted: Mapping[str, Any], totals: Mapping[str, Any]) -> Usage:
    if counted:
        return Usage(
            input_tokens=count_in(counted.get("input_tokens")),
            output_tokens=count_in(counted.get("output_tokens")),
            total_tokens=count_in(counted.get("total_tokens")),
            cached_input_tokens=count_in(
                mapping(counted.get("input_token_details")).get("cache_read")
            ),
            reasoning_tokens=count_in(
                mapping(counted.get("output_token_details")).get("reasoning")
            ),
        )
    counted = mapping(totals.get("token_usage")) or mapping(totals.get("usage"))
    if not counted:
        return _UNKNOWN
    return Usage(
        input_tokens=count_in(counted.get("prompt_tokens", counted.get("input_tokens"))),
        output_tokens=count_in(counted.get("completion_tokens", counted.get("output_tokens"))),
        total_tokens=count_in(counted.get("total_tokens")),
    )


def sum_of(usages: Sequence[Usage]) -> Usage:
    """Return the tokens of several calls; what no call tells stays unknown."""
    columns = zip(*usages, strict=True)
    known = ([count for count in column if count is not None] for column in columns)
    return Usage(*(sum(counts) if counts else None for counts in known))
