"""What is patched in this process, and by whom else."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import faults
from trubrics_instrument.doctor.finding import Finding, note, ok, wrong
from trubrics_instrument.doctor.installed import others
from trubrics_instrument.langchain import patch_langchain
from trubrics_instrument.providers.openai import patch_openai

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trubrics_instrument._observing.patch import Patch

_HOOKS = "langchain_core.tracers.context"
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
    """Yield who observes openai and langchain_core.

    Args:
        app: Whether the app's own modules are imported; if not, the patches are put on for a try.
    """
    if importlib.util.find_spec("openai"):
        yield _library("openai", patch_openai, lambda: _others_at(_openai_methods()), app=app)
    if importlib.util.find_spec("langchain_core"):
        yield _library("langchain", patch_langchain, _other_handlers, app=app)
    also = others()
    if also:
        yield note("other tools", f"{also}: they see the same calls, each question counts once")


def _library(
    name: str, patch: Callable[[], Patch], other: Callable[[], str], *, app: bool
) -> Finding:
    check = f"{name} patch"
    active = name in _runtime.state().patches and _runtime.state().patches[name].active
    also = other()
    beside = f", beside {also}" if also else ""
    if active:
        return ok(check, f"on{beside}")
    if app:
        return note(check, f"off{beside}", _REMEDY.format(f"patch_{name}"))
    return _tried(check, patch, beside)


def _tried(check: str, patch: Callable[[], Patch], beside: str) -> Finding:
    before = faults()
    with patch():
        importlib.import_module(_HOOKS if check.startswith("langchain") else "openai")
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
    hooks: list[Any] = getattr(importlib.import_module(_HOOKS), "_configure_hooks", [])
    classes = [hook[2] for hook in hooks if hook[2] is not None]
    found = {one.__module__.partition(".")[0] for one in classes}
    return ", ".join(sorted(found - {_OUR_PACKAGE, "langchain_core"}))
