"""What is patched without the app's code: each library that we know."""

from __future__ import annotations

from trubrics_instrument._base.shield import shield
from trubrics_instrument._libraries import LIBRARIES


def patch_library(module: str) -> None:
    """Patch the library of this module; it may be imported already, or later."""
    with shield(f"patching {module}"):
        next(one for one in LIBRARIES if one.module == module).patch()
