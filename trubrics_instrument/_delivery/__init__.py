"""Delivery of events to a host: batches, retries, the spool; knows bytes and nothing of LLMs."""

from .options import Outgoing, Prepare, SenderOptions, SenderStats, Skip
from .sender import Sender
from .senders import Senders

__all__ = ["Outgoing", "Prepare", "Sender", "SenderOptions", "SenderStats", "Senders", "Skip"]
