"""The list of prices that genai-prices brings, if it is installed; loaded when it is needed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, cast

from trubrics_instrument._base.forks import forks
from trubrics_instrument._base.shield import shield
from trubrics_instrument._cost.paid import PROBE

Calculate: TypeAlias = Callable[..., Any]

# Less than an exit waits for: an event without its cost is more than none.
_PATIENCE_S = 2.0


class PriceList:
    """Loaded once, by a thread of its own: it takes a quarter of a second, or many on a slow one.

    It reads what comes with the package. Only genai-prices' `UpdatePrices` uses the network, and
    nobody here starts that.
    """

    def __init__(self) -> None:
        self._calculate: Calculate | None = None
        self._until_s = 0.0
        self._begin()
        if hasattr(os, "register_at_fork"):  # absent on Windows, where nothing forks
            os.register_at_fork(after_in_child=self._begin_in_child)

    def expect(self) -> None:
        """Begin to load, because there will be something to pay for: a question has been asked."""
        with suppress(IndexError):
            self._unstarted.pop()
            try:
                threading.Thread(target=self._load, name="trubrics-prices", daemon=True).start()
            except RuntimeError:  # at the end of an interpreter, and in one that forbids daemons
                self._load()

    def calculation(self) -> Calculate | None:
        """Return `genai_prices.calc_price`; None without it, or if it is not there in time."""
        if not self._loaded.is_set():
            self._until_s = self._until_s or time.monotonic() + _PATIENCE_S
            self.expect()
            self._loaded.wait(max(0.0, self._until_s - time.monotonic()))
        return self._calculate

    def _begin(self) -> None:
        self._unstarted = [True]
        self._loaded = threading.Event()
        self._until_s = 0.0

    def _begin_in_child(self) -> None:
        if not self._loaded.is_set():  # and never will be: the thread is not here
            self._begin()

    def _load(self) -> None:
        # A child that is forked from the middle of an import waits for its end for ever.
        with forks.held_back(), shield("loading the list of prices", own_thread=True):
            try:
                self._calculate = _load()
            finally:
                self._loaded.set()


def _load() -> Calculate | None:
    try:
        from genai_prices import calc_price  # noqa: PLC0415 - heavy, and an extra
    except ImportError:
        return None
    # 0.2.3 imports the list itself with the first price that it looks for.
    with suppress(LookupError):
        calc_price(PROBE, "gpt-4o", provider_id="openai")
    return cast("Calculate", calc_price)
