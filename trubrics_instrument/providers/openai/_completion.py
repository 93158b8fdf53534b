"""Legacy text completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trubrics_instrument._observing.reader import Answer, Asked, Choice, TurnKey, Usage
from trubrics_instrument.providers.openai._fields import (
    CUT_SHORT,
    claim,
    each,
    get,
    get_index,
    get_text,
    mapping,
    no_answer,
    stream_status,
    text_or_none,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class CompletionReader:
    """Reads `POST /completions`. Source: openai 1.40 to 3.54, `types/completion.py`."""

    framework = "openai"

    def asked(self, request: Mapping[str, Any], *, stream: bool) -> Asked:
        """Return what the body of a request asks; token arrays have no text."""
        prompt = request.get("prompt")
        prompts = [prompt] if isinstance(prompt, str) else each(prompt)
        text = "\n\n".join(one for one in prompts if isinstance(one, str)) or None
        tokens = _token_count(prompts)
        return Asked(
            operation="completion",
            model=text_or_none(request.get("model")),
            text=text,
            attachments=f"tokens:{tokens}" if tokens else None,
            stream=stream,
            question=tokens,
            claim=claim(request),
            metadata=mapping(request.get("metadata")),
        )

    def answer(self, body: Any) -> Answer:
        """Return what a `Completion` says."""
        gathering = self.gathering()
        gathering.add(body)
        answer = gathering.answer(ended=True)
        return answer if answer.choices else no_answer(body)

    def gathering(self) -> CompletionGathering:
        """Return an empty gathering; the pieces have the same form as a whole completion."""
        return CompletionGathering()

    def turn_keys(self, asked: Asked, answer: Answer) -> tuple[TurnKey, ...]:  # noqa: ARG002 - the protocol's
        """Return nothing: there are no tools."""
        return ()


class CompletionGathering:
    """The pieces of one streamed completion, by the index of their choice."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._model: str | None = None
        self._usage = Usage()
        self._over = False
        self._texts: dict[int, list[str]] = {}
        self._finish_reasons: dict[int, str | None] = {}

    def speaks(self, piece: Any) -> bool:
        """Whether a chunk has something of the answer."""
        return any(get_text(one, "text") for one in each(get(piece, "choices")))

    def add(self, piece: Any) -> bool:
        """Take one `Completion`, and return whether all choices have come to their end."""
        self._id = self._id or text_or_none(get(piece, "id"))
        self._model = self._model or text_or_none(get(piece, "model"))
        counted = get(piece, "usage")
        if counted is not None:
            self._usage = usage(counted)
        choices = each(get(piece, "choices"))
        for choice in choices:
            index = get_index(choice) or 0
            self._texts.setdefault(index, []).append(text_or_none(get(choice, "text")) or "")
            reason = text_or_none(get(choice, "finish_reason"))
            self._finish_reasons[index] = reason or self._finish_reasons.get(index)
        whole = all(self._finish_reasons.values()) and bool(self._finish_reasons)
        self._over = whole and counted is not None and not choices
        return whole

    def over(self) -> bool:
        """Whether the tokens have come in a chunk of their own, behind everything else."""
        return self._over

    def answer(self, *, ended: bool) -> Answer:
        """Return the answer so far."""
        return Answer(
            id=self._id,
            model=self._model,
            choices=tuple(
                Choice(
                    text="".join(self._texts[index]) or None,
                    finish_reason=self._finish_reasons[index],
                    complete=self._finish_reasons[index] not in CUT_SHORT,
                )
                for index in sorted(self._texts)
            ),
            usage=self._usage,
            status=stream_status([*self._finish_reasons.values()], ended=ended),
        )


def _token_count(prompts: list[Any]) -> int:
    """Return how many tokens a prompt of token arrays has: one array, or several."""
    nested = sum(len(each(one)) for one in prompts)
    return nested or sum(isinstance(one, int) for one in prompts)
