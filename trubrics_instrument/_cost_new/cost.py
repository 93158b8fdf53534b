"""What an answer cost, in US dollars: only where its price is known, never a guess."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from trubrics_instrument._base.checks import check_source
from trubrics_instrument._base.forks import forks
from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trubrics_instrument._config import Prices

_MTOK = 1_000_000
_PRICE_LENGTHS = (2, 3)
# Prices change with a day, an hour or a half: none of the list's at anything in between.
_HELD_S = 900
_list_in_use: list[object] = [None]
_RATES = ("input_mtok", "output_mtok", "cache_read_mtok")


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
_PROBE = Tokens(1_000_003, 500_009, 200_003, 100_003)


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


def _own_cost(tokens: Tokens, price: Sequence[float] | Sequence[Decimal]) -> float:
    asked, answered, *rest = cast("Sequence[Any]", price)
    cached = tokens.cache_read_tokens or 0
    paid = (tokens.input_tokens - cached) * asked + tokens.output_tokens * answered
    return float((paid + cached * (rest[0] if rest else asked)) / _MTOK)


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
    now_s = time.time() if time_s is None else time_s
    _forget_another_list()
    price = _listed_price(model, provider, now_s // _HELD_S * _HELD_S)
    if price is None:
        return None
    cost = _own_cost(tokens, price) if price else _calculated(tokens, model, provider, now_s)[0]
    # Nothing to pay means that the list knows the model, but not its price.
    return cost or None


@lru_cache(maxsize=1_000)
def _listed_price(model: str, provider: str | None, time_s: float) -> Sequence[Decimal] | None:
    """Return the listed price for a million tokens, as `prices` have it; None if none is listed.

    Empty where one is, and is not that simple: more for a long prompt, a fee for each request. It
    is kept because genai-prices takes a fifth of a millisecond for each answer (0.2.3).
    """
    try:
        cost, listed = _calculated(_PROBE, model, provider, time_s)
    except LookupError:
        return None
    rates = [getattr(listed, name, None) for name in _RATES]
    price = [rate for rate in rates if isinstance(rate, Decimal)]
    simple = len(price) == sum(rate is not None for rate in rates) >= min(_PRICE_LENGTHS)
    return tuple(price) if simple and _own_cost(_PROBE, price) == cost else ()


def _forget_another_list() -> None:
    """Keep no price of a list that the app has replaced, as genai-prices' `UpdatePrices` does."""
    module = sys.modules.get("genai_prices.data_snapshot")
    now = module.get_snapshot() if module else None
    if _list_in_use[0] is not now:
        _list_in_use[0] = now
        _listed_price.cache_clear()


def _calculated(
    tokens: Tokens, model: str, provider: str | None, time_s: float
) -> tuple[float, object]:
    """Return the listed cost, and the prices behind it.

    Raises:
        LookupError: Nobody lists this model at this provider.
    """
    calc_price = _list()
    if calc_price is None:
        raise LookupError
    where = _where(provider, time_s)
    found = calc_price(tokens, model, **where)
    if tokens.cache_read_tokens and getattr(found.model_price, "cache_read_mtok", None) is None:
        # No price of their own: cached tokens cost what others do. 0.0.30 gave them away.
        found = calc_price(tokens._replace(cache_read_tokens=None), model, **where)
    return float(found.total_price), found.model_price


def _where(provider: str | None, time_s: float) -> dict[str, object]:
    """Return where and when, as genai-prices takes it; observers name an unknown host as it is."""
    when = datetime.fromtimestamp(time_s, tz=timezone.utc)
    where: dict[str, object] = {"genai_request_timestamp": when}
    if provider and ("." in provider or ":" in provider):
        where["provider_api_url"] = f"https://{provider}"
    else:
        where["provider_id"] = provider
    return where
