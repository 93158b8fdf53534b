"""A program under gevent's monkey patch that tracks in greenlets and ends."""

from __future__ import annotations

import importlib
import sys
from typing import Any

gevent: Any = importlib.import_module("gevent")  # without types
importlib.import_module("gevent.monkey").patch_all()


def main(url: str, spool_dir: str) -> None:
    """Track one half in greenlets and flush, track the other half and fall off the end."""
    # After the patch, as gevent wants it.
    from tests.delivery.children import COUNT, new_sender

    sender = new_sender(url, "auto", spool_dir)
    half = COUNT // 2
    gevent.joinall([gevent.spawn(sender.put, n) for n in range(half)])
    assert sender.flush(10)
    for n in range(half, COUNT):
        assert sender.put(n)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
