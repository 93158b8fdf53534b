"""What Python itself reads at the start of each process below `trubrics-instrument run`.

Any Python comes by here, one without this package too, and most have nothing to observe: it
imports next to nothing. (wrapt has the same finder, and takes 100 ms to import.)
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False  # as type checkers know it: typing itself takes 15 ms to import
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
WATCHED = ("openai", "langchain_core")


class Watch:
    """A finder that finds nothing itself; it has the loader tell when a module is loaded."""

    def __init__(self) -> None:
        self._names = set(WATCHED)
        self._asking: set[str] = set()

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Return the spec that the other finders give, with its loader told to tell."""
        if name not in self._names or name in self._asking:
            return None
        self._asking.add(name)  # another finder may ask all finders in its turn
        try:
            spec = first_spec(name, path, target)
        finally:
            self._asking.discard(name)
        loader = getattr(spec, "loader", None)
        if hasattr(loader, "exec_module"):
            self._watch(loader, name)
        return spec

    def _watch(self, loader: Any, name: str) -> None:
        """Patch a module once its loader has loaded it; the loader's type stays what it is."""
        load = loader.exec_module

        def exec_module(module: Any) -> None:
            del loader.exec_module
            load(module)
            self._names.discard(name)
            patch(name)

        loader.exec_module = exec_module


def first_spec(name: str, path: Any, target: Any) -> Any:
    """Return what the first finder gives that gives anything."""
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec = find_spec(name, path, target) if find_spec else None
        if spec is not None:
            return spec
    return None


def patch(name: str) -> None:
    """Patch a library that has just been imported; what goes wrong costs the app nothing."""
    try:
        from trubrics_instrument.zero_code.imports import patch_library

        patch_library(name)
    except Exception as error:
        sys.stderr.write(
            f"trubrics-instrument: {name} is not observed: {type(error).__name__}: {error}. "
            f"Is it installed? {sys.executable} -m pip install trubrics-instrument\n"
        )


def hand_on() -> None:
    """Leave the road as it would be without us, and let the next `sitecustomize` have its turn."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != HERE]
    ours = sys.modules.pop(__name__)
    try:
        importlib.import_module(__name__)  # the one that ours was found before
    except ImportError as error:
        sys.modules[__name__] = ours  # the import system asks for it when this file is done
        if error.name != __name__:
            raise


sys.meta_path.insert(0, Watch())
hand_on()
