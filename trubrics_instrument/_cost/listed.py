"""What an answer costs by the list of genai-prices, the extra `cost`."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from trubrics_instrument._cost.paid import PRICE_LENGTHS, PROBE, paid
from trubrics_instrument._cost.price_list import PriceList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trubrics_instrument._cost.paid import Tokens
    from trubrics_instrument._cost.price_list import Calculate

# Prices change with a day, an hour or a half: none of the list's at anything in between.
_HELD_S = 900
_RATES = ("input_mtok", "output_mtok", "cache_read_mtok")
_list = PriceList()
_list_in_use: list[object] = [None]


def expect_answers() -> None:
    """Have the list ready for an answer that is to come."""
    _list.expect()


def listed_cost(
    tokens: Tokens, model: str, provider: str | None, time_s: float | None
) -> float | None:
    """Return the listed cost at this provider: a model of the same name elsewhere is another."""
    calculate = _list.calculation()
    if calculate is None:
        return None
    now_s = time.time() if time_s is None else time_s
    _forget_another_list()
    price = _listed_price(calculate, model, provider, now_s // _HELD_S * _HELD_S)
    if price is None:
        return None
    if price:
        cost = paid(tokens, price)
    else:
        cost, _ = _calculated(calculate, tokens, model, provider, now_s)
    # Nothing to pay means that the list knows the model, but not its price.
    return cost or None


@lru_cache(maxsize=1_000)
def _listed_price(
    calculate: Calculate, model: str, provider: str | None, time_s: float
) -> Sequence[Decimal] | None:
    """Return the listed price for a million tokens, as `prices` have it; None if none is listed.

    Empty where one is, and is not that simple: more for a long prompt, a fee for each request. It
    is kept because genai-prices takes a fifth of a millisecond for each answer (0.2.3).
    """
    try:
        cost, listed = _calculated(calculate, PROBE, model, provider, time_s)
    except LookupError:
        return None
    rates = [getattr(listed, name, None) for name in _RATES]
    price = [rate for rate in rates if isinstance(rate, Decimal)]
    simple = len(price) == sum(rate is not None for rate in rates) >= min(PRICE_LENGTHS)
    return tuple(price) if simple and paid(PROBE, price) == cost else ()


def _forget_another_list() -> None:
    """Keep no price of a list that the app has replaced, as genai-prices' `UpdatePrices` does."""
    module = sys.modules.get("genai_prices.data_snapshot")
    now = module.get_snapshot() if module else None  # loaded as a whole, as the list is
    if _list_in_use[0] is not now:
        _list_in_use[0] = now
        _listed_price.cache_clear()


def _calculated(
    calculate: Calculate, tokens: Tokens, model: str, provider: str | None, time_s: float
) -> tuple[float, object]:
    """Return the listed cost, and the prices behind it.

    Raises:
        LookupError: Nobody lists this model at this provider.
    """
    where = _where(provider, time_s)
    found = calculate(tokens, model, **where)
    if tokens.cache_read_tokens and getattr(found.model_price, "cache_read_mtok", None) is None:
        # No price of their own: cached tokens cost what others do. 0.0.30 gave them away.
        found = calculate(tokens._replace(cache_read_tokens=None), model, **where)
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
