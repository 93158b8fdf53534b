"""A program under gevent's monkey patch that tracks in greenlets and ends."""

from __future__ import annotations

import importlib
import os
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


def fork(url: str, spool_dir: str) -> None:
    """Fork in a greenlet, whose end in the child is nobody else's."""
    from tests.delivery.children import COUNT, new_sender

    sender = new_sender(url, "auto", spool_dir)
    parent, runs = os.getpid(), list[object]()

    def work() -> int:
        child = os.fork()
        runs.append(sender._run)
        return child

    child = gevent.spawn(work).get()
    if os.getpid() != parent:
        sent = all(map(sender.put, range(COUNT))) and sender.flush(10)
        os._exit(0 if sent and runs == [sender._run] else 1)
    assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    {"main": main, "fork": fork}[sys.argv[1]](*sys.argv[2:])
