"""A program that its child process loads anew: `loaded_in_a_child.py METHOD URL SPOOL_DIR`."""

from __future__ import annotations

import multiprocessing
import sys

from tests.delivery.children import new_sender, track

method, url, spool_dir = sys.argv[1:]
sender = new_sender(url, "off", spool_dir)


def work() -> None:
    """Track, in the child, with the sender that it made when it loaded this file."""
    track(sender)


if __name__ == "__main__":
    multiprocessing.set_start_method(method)
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    sys.exit(child.exitcode)
