"""What is patched without the app's code: each library that we know."""

from __future__ import annotations

from trubrics_instrument._base.shield import shield
from trubrics_instrument.langchain import patch_langchain
from trubrics_instrument.providers.openai import patch_openai

PATCHES = {"openai": patch_openai, "langchain_core": patch_langchain}


def patch_library(name: str) -> None:
    """Patch one library; it may be imported already, or later."""
    with shield(f"patching {name}"):
        PATCHES[name]()
