"""What is paid for, and what it costs at given rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

# Input and output, or input, output and cached input.
PRICE_LENGTHS = (2, 3)
_MTOK = 1_000_000


class Tokens(NamedTuple):
    """What is paid for, under the names that genai-prices reads.

    Source: `genai_prices.types.AbstractUsage`, 0.0.30 to 0.2.3. Cached tokens are part of the
    input, reasoning tokens part of the output.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int | None = None
    output_reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    input_audio_tokens: int | None = None
    cache_audio_read_tokens: int | None = None
    output_audio_tokens: int | None = None


# Whoever is not simple takes something else for these than the sum of three rates.
PROBE = Tokens(1_000_003, 500_009, 200_003, 100_003)


def paid(tokens: Tokens, price: Sequence[float] | Sequence[Decimal]) -> float:
    """Return what tokens cost at a price, dollars for a million of them."""
    asked, answered, *rest = cast("Sequence[Any]", price)
    cached = tokens.cache_read_tokens or 0
    cost = (tokens.input_tokens - cached) * asked + tokens.output_tokens * answered
    return float((cost + cached * (rest[0] if rest else asked)) / _MTOK)
