"""A Python of its own for a program of a test's, where a warning is an error."""

from __future__ import annotations

import sys

_THEIRS = (
    # LangSmith, which comes with LangChain, on Python 3.14: inspect is the one to ask now.
    "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning",
    # Any thread beside a fork is one too many for Python 3.12; from 3.15 on the warning is raised.
    "ignore:This process:DeprecationWarning",
)
STRICT_PYTHON = (sys.executable, "-Werror", *(f"-W{one}" for one in _THEIRS))
