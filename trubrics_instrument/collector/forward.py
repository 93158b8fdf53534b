"""Delivering to Trubrics what was collected: resumable, and no event twice."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple

import requests
from urllib3.exceptions import NewConnectionError

from trubrics_instrument._base.hosts import is_page, no_login, proxies_to
from trubrics_instrument.collector.rows import COLUMNS
from trubrics_instrument.collector.transfer import to_wire

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from trubrics_instrument.collector.store import Store

EVENTS_PER_REQUEST = 100
TIMEOUT_S = 30.0
MOST_ATTEMPTS = 8
_OK = range(200, 300)
_NOT_TAKEN_YET = {429, 503}
_REFUSES_AN_EVENT = {400, 413, 422}
_PERHAPS_TAKEN = {500, 502, 504}
_BROKEN = "The connection to {} broke while events were on their way."


class Progress(NamedTuple):
    """How far it got: events taken by Trubrics, events that it refuses, and all of them."""

    sent: int
    refused: int
    total: int


class NotDeliveredError(Exception):
    """Delivery stopped; what it says can be shown. What was taken is not sent again."""


class UnsureError(NotDeliveredError):
    """An earlier run ended between sending some events and hearing that they were taken.

    Only a person can decide: to send them again may make them double, not to may lose them.
    """


class Target(NamedTuple):
    """Where events are delivered."""

    host: str
    api_key: str

    @property
    def name(self) -> str:
        """Return what stands for it in the file, where the key itself has no place."""
        digest = hashlib.sha256(self.api_key.encode()).hexdigest()[:16]
        return f"{self.host} {digest}"


def forward(
    store: Store,
    target: Target,
    *,
    unsure: str = "",
    report: Callable[[Progress], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Progress:
    """Deliver what has not been delivered to that target yet.

    Args:
        store: Where the events are.
        target: Where they go.
        unsure: What becomes of events whose fate an earlier run did not learn: "send" or "skip".
        report: Told how far it is, after each request.
        sleep: Waits, in seconds.

    Raises:
        UnsureError: There are such events and `unsure` says nothing.
        NotDeliveredError: The target does not take events, or cannot be reached.
    """
    through = _start(store, target, unsure)
    with store.reading() as db:
        query = "SELECT count(*), max(id) FROM events WHERE id > ?"
        total, newest = db.execute(query, (through,)).fetchone()
    progress = Progress(0, 0, total)
    with requests.Session() as session:
        session.auth = no_login
        session.headers["x-api-key"] = target.api_key
        run = _Run(store, target, session, sleep)
        while events := _next(store, through, newest or 0):
            through = events[-1]["id"]
            sent = run.deliver(events)
            refused = len(events) - sent
            progress = Progress(progress.sent + sent, progress.refused + refused, total)
            report(progress)
    return progress


class _Run(NamedTuple):
    store: Store
    target: Target
    session: requests.Session
    sleep: Callable[[float], None]

    def deliver(self, events: Sequence[sqlite3.Row]) -> int:
        """Deliver some events, and return how many were taken; the others are refused for good."""
        first, last = events[0]["id"], events[-1]["id"]
        for attempt in range(MOST_ATTEMPTS):
            _note(self.store, self.target, first - 1, last)
            answer = self._post(events)
            if answer.status_code in _OK and not _is_page(answer):
                _note(self.store, self.target, last, last)
                return len(events)
            if answer.status_code in _PERHAPS_TAKEN:
                raise NotDeliveredError(_explain(answer.status_code, self.target.host))
            _note(self.store, self.target, first - 1, first - 1)
            if answer.status_code in _REFUSES_AN_EVENT:
                return self._deliver_each(events)
            if answer.status_code not in _NOT_TAKEN_YET:
                raise NotDeliveredError(_explain(answer.status_code, self.target.host))
            self.sleep(_wait_s(answer.headers.get("Retry-After", ""), attempt))
        raise NotDeliveredError(f"{self.target.host} takes no events now. Run it again later.")

    def _deliver_each(self, events: Sequence[sqlite3.Row]) -> int:
        if len(events) > 1:
            return sum(self.deliver([event]) for event in events)
        (refused,) = events
        _note(self.store, self.target, refused["id"], refused["id"])
        return 0

    def _post(self, events: Sequence[sqlite3.Row]) -> requests.Response:
        try:
            return self.session.post(
                f"{self.target.host}/publish_events",
                json=[to_wire(event) for event in events],
                timeout=TIMEOUT_S,
                allow_redirects=False,
                proxies=proxies_to(self.target.host),
            )
        except requests.ConnectionError as error:
            if _never_connected(error):
                before = events[0]["id"] - 1
                _note(self.store, self.target, before, before)
                raise NotDeliveredError(f"{self.target.host} cannot be reached.") from error
            raise NotDeliveredError(_BROKEN.format(self.target.host)) from error
        except requests.RequestException as error:
            raise NotDeliveredError(_BROKEN.format(self.target.host)) from error


def _start(store: Store, target: Target, unsure: str) -> int:
    query = "SELECT through, sending FROM deliveries WHERE target = ?"
    with store.reading() as db:
        through, sending = db.execute(query, (target.name,)).fetchone() or (0, 0)
    if sending <= through:
        return int(through)
    if unsure not in {"send", "skip"}:
        raise UnsureError(
            f"An earlier run was cut off while events {through + 1} to {sending} were on their "
            "way. Trubrics may have them or not: --unsure send delivers them again, "
            "--unsure skip leaves them out."
        )
    if unsure == "skip":
        _note(store, target, sending, sending)
    return int(sending if unsure == "skip" else through)


def _next(store: Store, through: int, newest: int) -> list[sqlite3.Row]:
    with store.reading() as db:
        return db.execute(
            f"SELECT id, {COLUMNS} FROM events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",  # noqa: S608 - names from Row
            (through, newest, EVENTS_PER_REQUEST),
        ).fetchall()


def _is_page(answer: requests.Response) -> bool:
    """Tell whether something in between answered, which has not passed the events on."""
    return is_page(answer.headers.get("Content-Type", ""), answer.content)


def _never_connected(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def _wait_s(retry_after: str, attempt: int) -> float:
    return float(retry_after) if retry_after.isdecimal() else 2.0**attempt


def _explain(status: int, host: str) -> str:
    if status in {401, 403}:
        return f"{host} does not accept the key ({status}): take it from the project's settings."
    page = " with a web page" if status in _OK else ""
    return f"{host} answered {status}{page}: is this the ingestion address of Trubrics?"


def _note(store: Store, target: Target, through: int, sending: int) -> None:
    """Write down what is surely there, and what is on its way, before it is."""
    statement = "INSERT OR REPLACE INTO deliveries (target, through, sending) VALUES (?, ?, ?)"
    values = (target.name, through, sending)
    store.writer.submit(lambda db: db.execute(statement, values)).result()
