"""A collector that really listens, and short ways to talk to it."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
import requests

from trubrics_instrument import collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 30


class Collector(NamedTuple):
    """A running collector, its file, and its key if it has one."""

    url: str
    db: Path
    headers: dict[str, str]

    def post(self, path: str, body: object) -> requests.Response:
        """Post a body (bytes as they are, anything else as JSON)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(
            f"{self.url}/{path}", data=data, headers=self.headers, timeout=TIMEOUT_S
        )

    def get(self, path: str, **headers: str) -> requests.Response:
        """Get a page, without following redirects."""
        return requests.get(
            f"{self.url}{path}", headers=headers, timeout=TIMEOUT_S, allow_redirects=False
        )

    def select(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the file directly, as another tool would."""
        db = sqlite3.connect(self.db)
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Collector]:
    """Run a collector that takes events from anybody."""
    db = tmp_path / "collector.sqlite3"
    with collector.running(db) as running:
        yield Collector(running.url, db, {})


def event(**changes: object) -> dict[str, object]:
    """Return a valid event with `changes`."""
    return {
        "user_id": "ada",
        "event": "Prompt",
        "timestamp": "2024-10-09T13:21:46.182Z",
        "properties": {"$text": "Hello?", "$thread_id": "t-1", "$prompt_id": "p-1"},
    } | changes


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, and fail when it does not become so."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.01)
