"""What an answer cost: by the app's own prices, else by the listed ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from trubrics_instrument._base.checks import check_source
from trubrics_instrument._base.counts import count_in
from trubrics_instrument._base.shield import shield
from trubrics_instrument._cost.listed import listed_cost
from trubrics_instrument._cost.paid import PRICE_LENGTHS, Tokens, paid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trubrics_instrument._config import Prices


def check_prices(name: str, value: object) -> None:
    """Raise ValueError unless `value` is what `cost_of` takes as prices.

    Raises:
        ValueError: The message names what is wrong, and what is allowed.
    """
    check_source(name, value)
    if value is None or callable(value):
        return
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r}: use {_ALLOWED}")  # noqa: TRY004 - one kind of error for one kind of mistake
    for model, price in cast("Mapping[object, object]", value).items():
        if not isinstance(model, str) or not _is_price(price):
            raise ValueError(f"{name}: {model!r}: {price!r} is no price: use {_ALLOWED}")


def cost_of(
    properties: Mapping[str, object], prices: Prices = None, time_s: float | None = None
) -> float | None:
    """Return what the answer with these properties cost, in US dollars; None if not known.

    Args:
        properties: Of the event: `model`, `response_model`, `provider`, `input_tokens`,
            `output_tokens`, `cached_input_tokens`, `reasoning_tokens`.
        prices: The app's own, for a million tokens: `{"my-model": (input, output)}` or
            `(input, output, cached input)`; they win over the list of genai-prices. Or a callable
            that gets the properties: then its answer is all there is.
        time_s: When, in seconds since the epoch: prices change.
    """
    with shield("computing a cost"):
        if callable(prices):
            return _known(prices(dict(properties)))
        tokens = _tokens(properties)
        if tokens is None:
            return None
        named = (_text(properties.get(key)) for key in ("response_model", "model"))
        models = list(dict.fromkeys(name for name in named if name))
        for model in models:
            if prices and model in prices:
                return _known(paid(tokens, prices[model]))
        for model in models:
            cost = listed_cost(tokens, model, _text(properties.get("provider")), time_s)
            if cost is not None:
                return cost
    return None


_ALLOWED = (
    "dollars for a million tokens, {model: (input, output)} or {model: (input, output, cached "
    "input)}, a callable of an event's properties, or None"
)


def _is_price(price: object) -> bool:
    if not isinstance(price, (tuple, list)):
        return False
    numbers = cast("Sequence[object]", price)
    return len(numbers) in PRICE_LENGTHS and all(_known(one) is not None for one in numbers)


def _known(cost: object) -> float | None:
    """Return a cost, None if it is none: a fee is a number, finite and not negative."""
    if isinstance(cost, bool) or not isinstance(cost, (int, float)):
        return None
    return float(cost) if math.isfinite(cost) and cost >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    count = count_in(value)
    return count if count is not None and count >= 0 else None


def _tokens(properties: Mapping[str, object]) -> Tokens | None:
    """Return the tokens; None unless both sides are known, for half a cost is a lie."""
    asked = _count(properties.get("input_tokens"))
    answered = _count(properties.get("output_tokens"))
    if asked is None or answered is None:
        return None
    cached = _count(properties.get("cached_input_tokens"))
    reasoning = _count(properties.get("reasoning_tokens"))
    return Tokens(
        asked,
        answered,
        None if cached is None else min(cached, asked),
        None if reasoning is None else min(reasoning, answered),
    )
