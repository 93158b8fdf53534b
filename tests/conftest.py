"""Fixtures that everybody needs: a process as if just started, and the real sender into a sink."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest
from hypothesis import settings

from tests.loopback import Loopback
from tests.sink import Sink
from trubrics_instrument import (
    _public,
    _runtime,
    unpatch_langchain,
    unpatch_openai,
    unpatch_threads,
)
from trubrics_instrument._base import shield

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: those
# that a test ends with Ctrl-C would not end.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says more of the machine than of us.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def portion(request: pytest.FixtureRequest) -> int:
    """Return which part of its repetitions a long test does: one over this number."""
    return 10 if request.config.getoption("--fewer") else 1


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """Leave what is there before a module's tests out of the garbage collections they ask for.

    What they left open themselves is found at their own end, and not by those who come next.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a process without configuration, and let our own exceptions through."""
    for name in [name for name in os.environ if name.startswith("TRUBRICS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRUBRICS_SPOOL", "off")
    shield.forget_faults()
    shield.set_strict(strict=True)
    yield
    unpatch_openai()
    unpatch_langchain()
    unpatch_threads()
    _public.shutdown(timeout_s=2)
    _runtime.forget()
    shield.set_strict(strict=False)


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the only loop that the SDKs' users have."""
    return "asyncio"


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Give an ingestion endpoint that is configured as the host."""
    with Sink() as ready:
        _public.configure(host=ready.host, flush_interval_s=0.0)
        yield ready


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Give a model server that answers what a test scripts."""
    with Loopback() as ready:
        yield ready


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file with one certificate authority."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    path.write_text(first + end)
    return path


@pytest.fixture
def quick_clients(monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    """Have each new client of an SDK load one authority: loading all takes longer than a test."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
