"""Delivery of events to a host: batches, retries, the spool; knows bytes and nothing of LLMs.

`Sender.put` appends to the queue of its `Run`. On the worker (`crew.py`) the `Encoder` moves what
is queued to the `Keeper`, which places it in the `Outbox`, or on disk in the `Spool`. A `Lane`
takes batches out of the `Outbox`, when the `Gate` is open, posts them by its `Transport`, and does
what `retry.py` says of the answer. `lifecycle.py` knows of exits and forks, `tally.py` counts and
logs.
"""

from .options import Outgoing, Prepare, SenderOptions, SenderStats, Skip
from .sender import Sender
from .senders import Senders

__all__ = ["Outgoing", "Prepare", "Sender", "SenderOptions", "SenderStats", "Senders", "Skip"]
