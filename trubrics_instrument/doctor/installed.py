"""What is installed, in which version, and who else observes the same libraries."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from trubrics_instrument._version import __version__
from trubrics_instrument.doctor.finding import Finding, note, ok, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRACING = ("TRACING_V2", "TRACING")
OLDEST_PYTHON = (3, 10)
# The lower bounds of pyproject.toml.
OLDEST = {
    "wrapt": "1.14",
    "requests": "2.28",
    "platformdirs": "3.0",
    "openai": "1.40",
    "langchain-core": "0.3.10",
}
OBSERVED = ("openai", "langchain-core")
OTHERS = (
    "agentops",
    "amplitude-ai",
    "braintrust",
    "ddtrace",
    "langfuse",
    "langsmith",
    "logfire",
    "mlflow",
    "openinference-instrumentation-langchain",
    "openinference-instrumentation-openai",
    "openlit",
    "opentelemetry-instrumentation-langchain",
    "opentelemetry-instrumentation-openai",
    "opentelemetry-instrumentation-openai-v2",
    "opik",
    "posthog",
    "traceloop-sdk",
    "weave",
)


def installed() -> Iterator[Finding]:
    """Yield a finding for each library that matters, this one first."""
    yield ok("trubrics", f"trubrics-instrument {__version__}")
    yield _python()
    for name in OLDEST:
        yield _library(name)
    if not any(_version(name) for name in OBSERVED):
        yield wrong(
            "to observe",
            "neither openai nor langchain-core is in this environment",
            f"{sys.executable} -m pip install 'trubrics-instrument[openai,langchain]', "
            "or run this command in the environment of the app",
        )


def others() -> str:
    """Return which other observers are installed; empty if there are none."""
    found = (name for name in OTHERS if _version(name))
    return ", ".join(name for name in found if name != "langsmith" or _traces_to_langsmith())


def _traces_to_langsmith() -> bool:
    """Whether it is told to: it is installed with LangChain. Source: langsmith 0.15, `utils.py`."""
    names = [f"{of}_{what}" for of in ("LANGSMITH", "LANGCHAIN") for what in _TRACING]
    return any(os.environ.get(name) == "true" for name in names)


def _python() -> Finding:
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return wrong("python", said, "use 3.10 or newer")
    return ok("python", said)


def _library(name: str) -> Finding:
    version = _version(name)
    oldest = OLDEST[name]
    if version is None:
        if name in OBSERVED:
            return note(name, "not installed: nothing of it to observe")
        return wrong(name, "not installed", f"{sys.executable} -m pip install {name}")
    if _numbers(version) < _numbers(oldest):
        remedy = f"{sys.executable} -m pip install '{name}>={oldest}'"
        return wrong(name, f"{version} is not supported, {oldest} is the oldest", remedy)
    return ok(name, f"{version} (supported from {oldest} on)")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version: of "3.0.0rc1", (3, 0, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
