"""One kind of secret or personal fact: how it is found in a text, and what stands in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

Span: TypeAlias = "tuple[int, int] | None"

# A rejected match longer than this is skipped whole, a shorter one is looked at again from its
# second character: so each character is visited a bounded number of times, whatever the text.
_REVISIT_CHARS = 300


def matched_span(match: re.Match[str]) -> Span:
    """Return the span of the match's named group, or of the whole match if none has a name."""
    return match.span(match.lastgroup or 0)


class Recogniser(NamedTuple):
    """How one kind is found.

    Attributes:
        kind: Its name; `[KIND]` is what replaces it.
        gates: Strings that a text must all contain, tried first, the cheapest first: a text
            without them never meets the pattern.
        pattern: Finds candidates in linear time; starts with a literal where it can, which is
            ten times as fast as starting with an assertion.
        span: Decides on a candidate: what to replace, or None to leave it.
    """

    kind: str
    gates: tuple[str, ...]
    pattern: re.Pattern[str]
    span: Callable[[re.Match[str]], Span] = matched_span

    def redact(self, text: str) -> str:
        """Return the text with each find replaced by the tag."""
        tag = f"[{self.kind.upper()}]"
        pieces: list[str] = []
        done = 0
        match = self.pattern.search(text)
        while match is not None:
            found = self.span(match)
            if found is not None:
                pieces += (text[done : found[0]], tag)
                done = resume = found[1]
            elif match.end() - match.start() > _REVISIT_CHARS:
                resume = match.end()
            else:
                resume = match.start() + 1
            match = self.pattern.search(text, resume)
        return "".join(pieces) + text[done:] if pieces else text
