"""What is patched in this process, and by whom else."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import faults
from trubrics_instrument._libraries import LIBRARIES
from trubrics_instrument.doctor.finding import Finding, note, ok, wrong
from trubrics_instrument.doctor.installed import others
from trubrics_instrument.langchain.patch import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trubrics_instrument._libraries import Library

_OPENAI = (
    ("openai", "OpenAI.request"),
    ("openai", "AsyncOpenAI.request"),
    ("openai.resources.chat.completions", "Completions.create"),
    ("openai.resources.chat.completions", "AsyncCompletions.create"),
    ("openai.resources.responses", "Responses.create"),
    ("openai.resources.responses", "AsyncResponses.create"),
)
_OUR_PACKAGE = __name__.partition(".")[0]
_REMEDY = "call {}() at the start of the app, or start it with trubrics-instrument run"


def patched(*, app: bool) -> Iterator[Finding]:
    """Yield who observes each library that is installed.

    Args:
        app: Whether the app's own modules are imported; if not, the patches are put on for a try.
    """
    for library in LIBRARIES:
        if importlib.util.find_spec(library.module):
            yield _finding(library, app=app)
    also = others()
    if also:
        yield note("other tools", f"{also}: they see the same calls, each question counts once")


def _finding(library: Library, *, app: bool) -> Finding:
    name = library.name
    check = f"{name} patch"
    active = name in _runtime.state().patches and _runtime.state().patches[name].active
    also = _OTHERS[name]() if name in _OTHERS else ""
    beside = f", beside {also}" if also else ""
    if active:
        return ok(check, f"on{beside}")
    if app:
        return note(check, f"off{beside}", _REMEDY.format(f"patch_{name}"))
    return _tried(check, library, beside)


def _tried(check: str, library: Library, beside: str) -> Finding:
    before = faults()
    with library.patch():
        importlib.import_module(library.patched)
    new = sorted(faults().keys() - before.keys())
    if new:
        remedy = "please report it, with this output"
        return wrong(check, f"cannot be put on: a fault while {', '.join(new)}", remedy)
    return ok(check, f"can be put on{beside}")


def _openai_methods() -> Iterator[Any]:
    for module_name, path in _OPENAI:
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError:  # Responses came with openai 1.66
            continue
        for part in path.split("."):
            found = getattr(found, part, None)
        yield found


def _others_at(methods: Iterator[Any]) -> str:
    """Return the packages whose wrappers lie around these methods."""
    found = {_package_of(layer) for method in methods for layer in _wrappers(method)}
    return ", ".join(sorted(found - {_OUR_PACKAGE, "openai"}))


def _wrappers(method: Any) -> Iterator[Any]:
    while hasattr(method, "__wrapped__"):
        yield method
        method = method.__wrapped__


def _package_of(layer: Any) -> str:
    """Return whose wrapper it is: wrapt's know a function, a decorator's code knows its file."""
    function: Any = getattr(layer, "_self_wrapper", layer)
    inside: Mapping[str, Any] = getattr(function, "__globals__", {})
    module = str(inside.get("__name__") or function.__module__)
    parts = 3 if module.startswith("opentelemetry") else 1
    return ".".join(module.split(".")[:parts])


def _other_handlers() -> str:
    """Return the packages whose callback handlers every LangChain run gets."""
    hooks: list[Any] = getattr(importlib.import_module(HOOKS), "_configure_hooks", [])
    classes = [hook[2] for hook in hooks if hook[2] is not None]
    found = {one.__module__.partition(".")[0] for one in classes}
    return ", ".join(sorted(found - {_OUR_PACKAGE, "langchain_core"}))


_OTHERS: Mapping[str, Callable[[], str]] = {
    "openai": lambda: _others_at(_openai_methods()),
    "langchain": _other_handlers,
}
