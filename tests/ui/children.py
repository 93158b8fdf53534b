"""Programs that run a chat UI in a process of its own: these leave sockets and loops behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sink import Sink

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 90


def run_child(program: str, sink: Sink, folder: Path) -> None:
    """Run a program beside the examples until it ends; it sends to the sink."""
    environ = {
        **os.environ,
        "CHAINLIT_APP_ROOT": str(folder),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "examples"))),
        "TRUBRICS_HOST": sink.host,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        cwd=folder,
        env=environ,
        text=True,
        timeout=_PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
