"""Under the servers that people deploy, nothing is lost when they are told to stop."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.delivery.children import COUNT
from tests.delivery.faulty_server import FaultyServer
from tests.delivery.processes import ROOT
from tests.delivery.senders import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENTS = 40
PATIENCE_S = 30.0
BIN = Path(sys.executable).parent


def _needs(module: str) -> pytest.MarkDecorator:
    try:
        missing = importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # the package that it would be in
        missing = True
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


class Deployed:
    """A server process of its own with one of the apps."""

    def __init__(
        self, command: Sequence[str], server: FaultyServer, spool_dir: Path, spool: str = "auto"
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (spool_dir.parent / "log").open("w+b")
        self.process = subprocess.Popen(
            [part.format(port=self.port) for part in command],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SINK_URL": server.url,
                "SINK_SPOOL": spool,
                "SINK_SPOOL_DIR": str(spool_dir),
            },
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def __enter__(self) -> Deployed:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.seek(0)
        sys.stderr.write(self.log.read().decode())
        self.log.close()

    def get(self, number: int) -> None:
        """Make a request, as soon as the server takes one."""
        wait_until(lambda: self._answers(number), PATIENCE_S)

    def _answers(self, number: int) -> bool:
        assert self.process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{number}", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Send SIGTERM right after the last request, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


UVICORN = [sys.executable, "-m", "uvicorn", "tests.delivery.apps:asgi", "--port", "{port}"]
# A worker that is still booting hears no SIGTERM: hence the short patience.
SHORT = ["--graceful-timeout", "10"]
GUNICORN = [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", "2", *SHORT]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(UVICORN, marks=_needs("uvicorn"), id="uvicorn"),
        pytest.param([*UVICORN, "--workers", "2"], marks=_needs("uvicorn"), id="uvicorn-workers"),
        pytest.param(
            [*GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "tests.delivery.apps:asgi"],
            marks=[_needs("gunicorn"), _needs("uvicorn.workers")],
            id="gunicorn-uvicorn",
        ),
        pytest.param(
            [*GUNICORN, "tests.delivery.apps:wsgi"], marks=_needs("gunicorn"), id="gunicorn"
        ),
        pytest.param(
            [*GUNICORN, "--preload", "tests.delivery.apps:wsgi"],
            marks=_needs("gunicorn"),
            id="gunicorn-preload",
        ),
        pytest.param(
            [*GUNICORN, "-k", "gevent", "tests.delivery.apps:wsgi"],
            marks=[_needs("gunicorn"), _needs("gevent")],
            id="gunicorn-gevent",
        ),
        pytest.param(
            [*GUNICORN, "--preload", "-k", "gevent", "tests.delivery.apps:wsgi"],
            marks=[_needs("gunicorn"), _needs("gevent")],
            id="gunicorn-preload-gevent",
        ),
        pytest.param(
            [
                *(str(BIN / "uwsgi"), "--http-socket", "127.0.0.1:{port}", "--master"),
                *("--processes", "2", "--enable-threads", "--die-on-term", "--need-app"),
                *("--module", "tests.delivery.apps:wsgi", "--virtualenv", str(BIN.parent)),
            ],
            marks=pytest.mark.skipif(not (BIN / "uwsgi").exists(), reason="uwsgi is not installed"),
            id="uwsgi",
        ),
    ],
)
def test_sigterm_right_after_the_last_request_loses_nothing(
    tmp_path: Path, command: Sequence[str]
) -> None:
    """Uvicorn runs no atexit then, uWSGI no fork hook: every event arrives all the same."""
    spool_dir = tmp_path / "spool"
    spool_dir.mkdir()
    with FaultyServer() as server, Deployed(command, server, spool_dir) as deployed:
        for number in range(EVENTS):
            deployed.get(number)
        deployed.stop()
        assert Counter(server.numbers()) == Counter(range(EVENTS))
        assert set(server.taken.values()) == {1}


@_needs("celery")
def test_celery_children_that_retire_after_each_task_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prefork child runs neither atexit nor finalizers; its own signal does it."""
    for name in ("spool", "in", "out"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-m", "celery", "-A", "tests.delivery.celery_app", "worker"]
    command += ["--pool", "prefork", "-c", "2", "--max-tasks-per-child", "1"]
    monkeypatch.setenv("CELERY_FOLDER", str(tmp_path))
    with FaultyServer() as server, Deployed(command, server, tmp_path / "spool") as deployed:
        _call_tasks(server, tmp_path)
        server.wait_for(10, PATIENCE_S)
        deployed.stop()
        assert Counter(server.numbers()) == Counter(range(10))


def _call_tasks(server: FaultyServer, folder: Path) -> None:
    code = (
        "from tests.delivery.celery_app import track\n"
        "for number in range(10): track.delay(number)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SINK_URL": server.url,
            "SINK_SPOOL": "off",
            "SINK_SPOOL_DIR": str(folder),
        },
        check=True,
        timeout=PATIENCE_S,
    )


@_needs("gevent")
def test_delivery_waits_only_in_ways_that_greenlets_know() -> None:
    """Gevent and eventlet patch locks and sleeps; what else blocks would stop every greenlet."""
    unpatched = {"queue", "_queue", "multiprocessing", "concurrent", "select", "selectors"}
    imported = {
        name.partition(".")[0]
        for path in (ROOT / "trubrics_instrument" / "_delivery").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _names(node)
    }
    assert "threading" in imported
    assert not imported & unpatched


@_needs("gevent")
@pytest.mark.parametrize("program", ["main", "fork"])
def test_under_gevents_monkey_patch_everything_arrives(tmp_path: Path, program: str) -> None:
    """Threads are greenlets then, and nobody notices."""
    with FaultyServer() as server:
        module = [sys.executable, "-m", "tests.delivery.gevent_child"]
        command = [*module, program, server.url, str(tmp_path)]
        subprocess.run(
            command,
            cwd=ROOT,
            check=True,
            timeout=PATIENCE_S,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert Counter(server.numbers()) == Counter(range(COUNT))


def _names(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
