"""A Python of its own for a program of a test's, where a warning is an error."""

from __future__ import annotations

import sys

# LangSmith, which comes with LangChain, asks asyncio what Python 3.14 wants inspect to be asked.
_THEIRS = "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"
STRICT_PYTHON = (sys.executable, "-W", "error", "-W", _THEIRS)
