"""What an answer cost, in US dollars: only where its price is known, never a guess."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from trubrics_instrument._base.forks import forks
from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trubrics_instrument._config import Prices

_MTOK = 1_000_000
_PRICE_LENGTHS = (2, 3)


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


def check_prices(name: str, value: object) -> None:
    """Raise ValueError unless `value` is what `cost_of` takes as prices.

    Raises:
        ValueError: The message names what is wrong, and what is allowed.
    """
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
                return _known(_own_cost(tokens, prices[model]))
        for model in models:
            cost = _listed_cost(tokens, model, _text(properties.get("provider")), time_s)
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
    return len(numbers) in _PRICE_LENGTHS and all(_known(one) is not None for one in numbers)


def _known(cost: object) -> float | None:
    """Return a cost, None if it is none: a fee is a number, finite and not negative."""
    if isinstance(cost, bool) or not isinstance(cost, (int, float)):
        return None
    return float(cost) if math.isfinite(cost) and cost >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


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


def _own_cost(tokens: Tokens, price: Sequence[float]) -> float:
    asked, answered, *rest = price
    cached = tokens.cache_read_tokens or 0
    paid = (tokens.input_tokens - cached) * asked + tokens.output_tokens * answered
    return (paid + cached * (rest[0] if rest else asked)) / _MTOK


@cache
def _list() -> Callable[..., Any] | None:
    """Return genai-prices' calculation if it is installed; a quarter of a second, once.

    It reads the list that comes with the package. Only its `UpdatePrices` uses the network, and
    nobody here starts that.
    """
    # A child that is forked from the middle of an import waits for its end for ever.
    with forks.held_back(), shield("loading the list of prices"):
        try:
            from genai_prices import calc_price  # noqa: PLC0415 - heavy, and an extra
        except ImportError:
            return None
        return cast("Callable[..., Any]", calc_price)
    return None


def _listed_cost(
    tokens: Tokens, model: str, provider: str | None, time_s: float | None
) -> float | None:
    """Return the listed cost at this provider: a model of the same name elsewhere is another."""
    calc_price = _list()
    if calc_price is None:
        return None
    where = _where(provider, time_s)
    try:
        found = calc_price(tokens, model, **where)
        if tokens.cache_read_tokens and found.model_price.cache_read_mtok is None:
            # No price of their own: cached tokens cost what others do. 0.0.30 gave them away.
            found = calc_price(tokens._replace(cache_read_tokens=None), model, **where)
    except LookupError:
        return None
    # Nothing to pay means that the list knows the model, but not its price.
    return float(found.total_price) or None


def _where(provider: str | None, time_s: float | None) -> dict[str, object]:
    """Return where and when, as genai-prices takes it; observers name an unknown host as it is."""
    where: dict[str, object] = {}
    if time_s is not None:
        where["genai_request_timestamp"] = datetime.fromtimestamp(time_s, tz=timezone.utc)
    if provider and ("." in provider or ":" in provider):
        where["provider_api_url"] = f"https://{provider}"
    else:
        where["provider_id"] = provider
    return where
