"""What an answer cost, in US dollars: only where its price is known, never a guess."""

from __future__ import annotations

from trubrics_instrument._cost.cost import check_prices, cost_of
from trubrics_instrument._cost.listed import expect_answers

__all__ = ["check_prices", "cost_of", "expect_answers"]
