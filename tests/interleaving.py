"""Another thread, as it were, at a chosen moment: each line of a module is one."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType, ModuleType


@contextmanager
def meanwhile(module: ModuleType, step: int, act: Callable[[], object]) -> Generator[None]:
    """Let another thread act once, before a line of the module's code that runs; 0 is the first."""
    left = [step]
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == -1:
                act()
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
