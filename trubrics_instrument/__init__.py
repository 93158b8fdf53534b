"""Every LLM conversation of a Python app in Trubrics, with one line and no `track` call.

Importing this does nothing: no thread, no patch, no log handler, and no library is imported; each
name is found when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trubrics_instrument._context.blocks import bind, context, identify, suppress
    from trubrics_instrument._feedback import feedback
    from trubrics_instrument._observing.patch import Patch
    from trubrics_instrument._observing.pools import patch_threads, unpatch_threads
    from trubrics_instrument._public import (
        Stats,
        aflush,
        configure,
        flush,
        shutdown,
        stats,
        track,
    )
    from trubrics_instrument._version import __version__
    from trubrics_instrument.langchain import (
        TrubricsCallbackHandler,
        patch_langchain,
        unpatch_langchain,
    )
    from trubrics_instrument.providers.openai import patch_openai, unpatch_openai

    __all__ = [
        "Patch",
        "Stats",
        "TrubricsCallbackHandler",
        "__version__",
        "aflush",
        "bind",
        "configure",
        "context",
        "feedback",
        "flush",
        "identify",
        "patch_langchain",
        "patch_openai",
        "patch_threads",
        "shutdown",
        "stats",
        "suppress",
        "track",
        "unpatch_langchain",
        "unpatch_openai",
        "unpatch_threads",
    ]

_HOMES = {
    "Patch": "_observing.patch",
    "Stats": "_public",
    "TrubricsCallbackHandler": "langchain",
    "__version__": "_version",
    "aflush": "_public",
    "bind": "_context.blocks",
    "configure": "_public",
    "context": "_context.blocks",
    "feedback": "_feedback",
    "flush": "_public",
    "identify": "_context.blocks",
    "patch_langchain": "langchain",
    "patch_openai": "providers.openai",
    "patch_threads": "_observing.pools",
    "shutdown": "_public",
    "stats": "_public",
    "suppress": "_context.blocks",
    "track": "_public",
    "unpatch_langchain": "langchain",
    "unpatch_openai": "providers.openai",
    "unpatch_threads": "_observing.pools",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _names()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_names()})


def _names() -> list[str]:
    """Return what `import *` and `help()` look at: each of them can be had in this environment."""
    return [name for name in _HOMES if name != "TrubricsCallbackHandler" or _has_langchain()]


def _has_langchain() -> bool:
    try:
        return find_spec("langchain_core") is not None
    except (ModuleNotFoundError, ValueError):  # what stands in for it may have no spec
        return False
