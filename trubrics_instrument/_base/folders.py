"""Where a user's files lie, for users without a home too."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_NAME = "trubrics-instrument"
# A container's user may have no home. Nothing can be made below a device, so whoever tries to is
# told as of any other folder that cannot be written.
_NOWHERE = Path(os.devnull) / _NAME


def state_folder() -> Path:
    """Return the folder for what waits to be delivered."""
    try:
        return _absolute(platformdirs.user_state_dir(_NAME))
    except RuntimeError:  # platformdirs 4.14 without a home; those before leave the "~" as it is
        return _NOWHERE


def data_folder() -> Path:
    """Return the folder for what was collected."""
    try:
        return _absolute(platformdirs.user_data_dir(_NAME, appauthor=False))
    except RuntimeError:
        return _NOWHERE


def is_there(path: Path) -> bool:
    """Whether a path exists, as far as this user may look."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where it must not look


def _absolute(folder: str) -> Path:
    path = Path(folder)
    return path if path.is_absolute() else _NOWHERE
