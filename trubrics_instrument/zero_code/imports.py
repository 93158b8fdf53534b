"""Patching what an app imports, when it does; a process that imports nothing of it pays nothing."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from trubrics_instrument._shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# What is imported, and what observes it.
PATCHES = {
    "openai": ("trubrics_instrument.providers.openai", "patch_openai"),
    "langchain_core": ("trubrics_instrument.langchain", "patch_langchain"),
}


def patch_on_import() -> None:
    """Patch each library that we know: at once if it is imported already, else when it is."""
    watched = [name for name in PATCHES if name not in sys.modules]
    for name in PATCHES.keys() - set(watched):
        patch(name)
    if watched:
        sys.meta_path.insert(0, _Watch(watched))


def patch(name: str) -> None:
    """Patch a library that has been imported; what goes wrong costs the app nothing."""
    with shield(f"patching {name}"):
        home, function = PATCHES[name]
        getattr(import_module(home), function)()


class _Watch:
    """A finder that finds nothing itself; it has the loader tell when a module is loaded.

    wrapt has the same, and takes 100 ms to import: too much for each process below a `run`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._asking: set[str] = set()

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give, with its loader told to tell."""
        if name not in self._names or name in self._asking:
            return None
        self._asking.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._asking.discard(name)
        if spec is not None and spec.loader is not None:
            with shield("watching an import"):
                _after_loading(spec.loader, lambda: self._loaded(name))
        return spec

    def _loaded(self, name: str) -> None:
        self._names.discard(name)
        patch(name)


def _after_loading(loader: Any, call: Callable[[], None]) -> None:
    """Call a function once the loader has loaded its module; its type stays what it is."""
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        load(module)
        call()

    loader.exec_module = exec_module
