"""Senders inside the test's own process."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from tests.delivery.children import prepare
from trubrics_instrument._delivery import Sender, SenderOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.delivery.faulty_server import FaultyServer
    from trubrics_instrument._delivery import Prepare


@contextlib.contextmanager
def sending(server: FaultyServer, prepare: Prepare = prepare, **options: Any) -> Generator[Sender]:
    """Give a sender without a spool, unless one is asked for, and close it in the end."""
    chosen: dict[str, Any] = {
        "spool": "off",
        "flush_interval_s": 0.02,
        "replay_spread_s": 0.0,
        **options,
    }
    sender = Sender(SenderOptions(server.url, "secret-key", **chosen), prepare)
    try:
        yield sender
    finally:
        sender.shutdown(0.2)


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
