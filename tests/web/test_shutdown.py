"""A server that is told to end delivers what its requests told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from tests.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import socket
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
import trubrics_instrument
from trubrics_instrument.asgi import TrubricsMiddleware

trubrics_instrument.configure(flush_interval_s=60.0)

async def convert(request):
    trubrics_instrument.identify("ada")
    return PlainTextResponse(str(trubrics_instrument.track("Converted")))

app = TrubricsMiddleware(Starlette(routes=[Route("/", convert)]))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_config=None)).run(sockets=[listener])
"""


@pytest.fixture
def far_sink() -> Iterator[Sink]:
    """Give an ingestion endpoint that this process is not configured for."""
    with Sink() as ready:
        yield ready


def test_sigterm(far_sink: Sink) -> None:
    """Uvicorn ends by the signal, without `atexit`; what was told has arrived by then."""
    environ = {**os.environ, "TRUBRICS_HOST": far_sink.host}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).text == "True"
        assert far_sink.events == []
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
    assert [(event["event"], event["user_id"]) for event in far_sink.events] == [
        ("Converted", "ada")
    ]
