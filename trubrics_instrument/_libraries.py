"""The libraries that we observe: what patches each, for whoever patches or examines them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trubrics_instrument.langchain import patch_langchain
from trubrics_instrument.langchain.patch import HOOKS
from trubrics_instrument.providers.openai import patch_openai

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument._observing.patch import Patch


class Library(NamedTuple):
    """One of them.

    Attributes:
        name: Its name among the patches; its patch is put on by `patch_<name>()`.
        module: What an app imports of it.
        patch: Puts its patch on.
        patched: The module whose import has everything patched.
    """

    name: str
    module: str
    patch: Callable[[], Patch]
    patched: str


LIBRARIES = (
    Library("openai", "openai", patch_openai, "openai"),
    Library("langchain", "langchain_core", patch_langchain, HOOKS),
)
