"""A collector beside an app: there while the app's process is, and gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import requests

from trubrics_instrument._base.hosts import COLLECTOR_PORT, LOOPBACK, no_login, proxies_to
from trubrics_instrument.collector.cli import default_db, missing_extra

_PROBE_TIMEOUT_S = 2.0
_GLANCE_S = 0.2
_STORED_NOTHING = {"stored": 0, "duplicates": 0}


class NotStartedError(Exception):
    """There is no collector, and the message says why."""


def start(app_pid: int) -> dict[str, str]:
    """Have a collector at hand for as long as a process lives; return how to send to it.

    One that is running already is used. The key stays at home: a collector needs none.

    Raises:
        NotStartedError: It could not be started.
    """
    url = f"http://{LOOPBACK}:{COLLECTOR_PORT}"
    if takes_events(url):
        _say(f"Your conversations: {url} (the collector that is running)")
    else:
        missing = missing_extra()
        if missing:
            raise NotStartedError(missing)
        url = _start(app_pid)
        _say(f"Your conversations: {url} (as long as the app runs)")
        _say("and afterwards:     trubrics-instrument collector")
    return {"TRUBRICS_HOST": url, "TRUBRICS_API_KEY": ""}


def takes_events(url: str) -> bool:
    """Whether a collector answers there that wants no key."""
    try:
        # An empty array changes nothing, and only a collector says that it stored none of it.
        answer = requests.post(
            f"{url}/publish_events",
            json=[],
            timeout=_PROBE_TIMEOUT_S,
            proxies=proxies_to(url),
            auth=no_login,
        )
        return bool(answer.json() == _STORED_NOTHING)
    except (requests.RequestException, ValueError):
        return False


def _start(app_pid: int) -> str:
    if os.name == "nt":
        raise NotStartedError("--local: on Windows, start `trubrics-instrument collector` yourself")
    command = [sys.executable, "-m", __name__, str(app_pid), str(default_db())]
    with subprocess.Popen(  # noqa: S603 - this very module
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as helper:
        assert helper.stdout is not None
        url = helper.stdout.readline().strip()
    if not url:
        raise NotStartedError(
            "--local: the collector did not start; `trubrics-instrument collector` says why"
        )
    return url


def serve_while(app_pid: int, db: Path) -> None:
    """Serve from here until a process is gone; tell the URL on standard output once it is there."""
    from trubrics_instrument.collector import running  # noqa: PLC0415 - the app's run has no need

    with ExitStack() as stack:
        try:
            server = stack.enter_context(running(db, port=COLLECTOR_PORT))
        except OSError:  # somebody else listens there
            server = stack.enter_context(running(db))
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        _let_go()
        while _is_alive(app_pid):
            time.sleep(_GLANCE_S)


def _let_go() -> None:
    """Hold neither the terminal nor a pipe that somebody waits for the end of."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Be the helper: leave its parent, so that the app has no child that it does not know."""
    app_pid, db = int(sys.argv[1]), Path(sys.argv[2])
    if os.fork():
        os._exit(0)
    serve_while(app_pid, db)


if __name__ == "__main__":
    main()
