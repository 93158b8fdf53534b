"""A user that the system knows nothing of, as a container's often is."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def be_homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no home: neither in the environment nor in the list of users."""

    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {os.getuid()}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
