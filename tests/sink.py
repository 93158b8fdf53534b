"""A loopback ingestion endpoint that collects the wire events which it accepted.

    with Sink() as sink:
        configure(api_key="k", host=sink.host)
        sink.script(503, 429)                       # the next two requests; then 200 again
        sink.script(Reply(503, before=Gate()))      # any Reply of tests.replies, faults included
        sink.refuse("/publish_events", 404)         # from now on, on this path
        ...
        prompt, generation = sink.wait_for(2)
        assert sink.requests[0].headers["x-api-key"] == "k"

An event is accepted, and listed, when its request is answered with 2xx.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from tests.loopback import Loopback, Request
from tests.replies import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIX = "/api/ingestion"


class Sink:
    """An ingestion endpoint on 127.0.0.1 for the length of a `with` block."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._replies: list[Reply] = []
        self._refused: dict[str, int] = {}
        self._server = Loopback()
        self._server.always(self._take)
        self.host = f"{self._server.url}{_PREFIX}"

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def requests(self) -> list[Request]:
        """Every request, the refused ones too."""
        return list(self._server.requests)

    def script(self, *answers: int | Reply) -> None:
        """Answer the next requests with these, one each: a status, or a whole reply."""
        with self._news:
            self._replies += [_reply(answer) for answer in answers]

    def refuse(self, endpoint: str, status: int) -> None:
        """Answer each request to `endpoint`, such as /publish_events, with `status`."""
        with self._news:
            self._refused[endpoint] = status

    def wait_for(self, n: int, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """Return the events as soon as there are `n`; fail when there are not in time."""
        return self.wait_until(lambda events: len(events) >= n, timeout_s)

    def wait_until(
        self, condition: Callable[[list[dict[str, Any]]], bool], timeout_s: float = 5.0
    ) -> list[dict[str, Any]]:
        """Return the events as soon as they meet the condition; fail when they do not in time."""
        with self._news:
            met = self._news.wait_for(lambda: condition(self.events), timeout_s)
            names = [event["event"] for event in self.events]
            assert met, f"after {timeout_s} s there are {len(names)} events: {names}"
            return list(self.events)

    def wait_for_requests(self, n: int, timeout_s: float = 5.0) -> list[Request]:
        """Return the requests as soon as there are `n`; fail when there are not in time."""
        return self._server.wait_for(n, timeout_s)

    def close(self) -> None:
        """Stop at once: from now on the host is unreachable."""
        self._server.close()

    def _take(self, request: Request) -> Reply:
        with self._news:
            reply = self._choose(request)
            if reply.status < 300:
                body = request.json
                events = cast("list[dict[str, Any]]", body if isinstance(body, list) else [body])
                self.events += events
                self._news.notify_all()
            return reply

    def _choose(self, request: Request) -> Reply:
        endpoint = request.path.removeprefix(_PREFIX)
        if endpoint not in {"/publish_events", "/publish_event"}:
            return _reply(404)
        if endpoint in self._refused:
            return _reply(self._refused[endpoint])
        return self._replies.pop(0) if self._replies else _reply(200)


def _reply(answer: int | Reply) -> Reply:
    return json_reply({}, answer) if isinstance(answer, int) else answer
