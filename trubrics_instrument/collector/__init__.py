"""The collector: Trubrics' ingestion API on this machine, and pages that show what arrived."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trubrics_instrument.collector.app import create_app
    from trubrics_instrument.collector.serving import Server, running, serve

__all__ = ["Server", "create_app", "running", "serve"]


def __getattr__(name: str) -> object:
    """Import what needs starlette only when it is used: the command line must start without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "app" if name == "create_app" else "serving"
    return getattr(import_module(f"{__name__}.{room}"), name)
