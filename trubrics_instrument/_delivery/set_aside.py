"""Spool files that were no databases: how they are called, and how long they stay."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEPT = 3
_NAME = re.compile(r"[0-9a-f]{16}\.sqlite\.corrupt-(\d{1,12})-\d+")


def aside(path: Path, now_s: float, inode: int) -> Path:
    """Return where a damaged spool goes; no two files that are there have the same inode."""
    return path.with_name(f"{path.name}.corrupt-{int(now_s)}-{inode}")


def aside_since_s(path: Path) -> int | None:
    """Return when a file was set aside, in seconds since the epoch; None if it was not."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def forget(path: Path, before_s: float) -> None:
    """Delete what was set aside of this spool before then, or too often: people wrote it."""
    with contextlib.suppress(OSError):
        own = [each for each in path.parent.iterdir() if each.name.startswith(path.name)]
        dated = [(since_s, each) for each in own if (since_s := aside_since_s(each)) is not None]
        for index, (since_s, each) in enumerate(sorted(dated, reverse=True)):
            if index >= KEPT or since_s < before_s:
                each.unlink(missing_ok=True)
