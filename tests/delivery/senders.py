"""Senders inside the test's own process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.delivery.children import prepare
from trubrics_instrument._delivery import Sender, SenderOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.delivery.faulty_server import FaultyServer
    from trubrics_instrument._delivery import Prepare


@contextlib.contextmanager
def sending(server: FaultyServer, prepare: Prepare = prepare, **options: Any) -> Iterator[Sender]:
    """Give a sender without a spool, unless one is asked for, and close it in the end."""
    chosen = {"spool": "off", "flush_interval_s": 0.02, "replay_spread_s": 0.0, **options}
    sender = Sender(SenderOptions(server.url, "secret-key", **chosen), prepare)
    try:
        yield sender
    finally:
        sender.shutdown(0.2)
