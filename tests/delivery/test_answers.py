"""Whatever the host answers, each event arrives, once, or is counted and handed to `on_drop`."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import pytest
import trio

from tests.delivery.children import prepare
from tests.delivery.faulty_server import FaultyServer, Reply, Request, refuse, take
from tests.delivery.senders import sending, wait_until
from trubrics_instrument._delivery import Outgoing, Sender, SenderOptions, Skip
from trubrics_instrument._delivery.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

HUNDRED = Counter(range(100))


def test_a_batch_goes_as_an_array_with_the_key() -> None:
    """One request of up to 100 events, as the service documents it."""
    with FaultyServer() as server, sending(server) as sender:
        for n in range(3):
            sender.put(n)
        assert sender.flush(5)
        (request,) = server.requests
        assert request.endpoint == "publish_events"
        assert request.headers["x-api-key"] == "secret-key"
        assert request.headers["content-type"] == "application/json"
        run_id = sender.run_id
        assert [(e["n"], e["event_id"]) for e in request.events] == [
            (0, f"{run_id}-0"),
            (1, f"{run_id}-1"),
            (2, f"{run_id}-2"),
        ]


def test_one_connection_is_kept_alive() -> None:
    """Requests of a host that is quick enough share a connection."""
    with FaultyServer() as server, sending(server) as sender:
        for n in range(5):
            sender.put(n)
            assert sender.flush(5)
        assert len(server.requests) == 5
        assert len({request.connection for request in server.requests}) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_flush_leaves_the_event_loop_alone() -> None:
    """Another task opens the host while `aflush` waits, on either kind of loop."""
    gate = threading.Event()

    def mood(request: Request) -> Reply:
        gate.wait(5)
        return take(request)

    async def open_later() -> None:
        await anyio.lowlevel.checkpoint()
        gate.set()

    with FaultyServer(mood) as server, sending(server) as sender:
        sender.put(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_later)
            assert await sender.aflush(5)
        assert server.numbers() == [0]


async def _on_the_only_thread_of_asyncio(work: Callable[[], None]) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(work)


async def _on_the_only_thread_of_trio(work: Callable[[], None]) -> None:
    trio.to_thread.current_default_thread_limiter().total_tokens = 1
    await trio.to_thread.run_sync(work)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("anyio_backend", "occupy"),
    [("asyncio", _on_the_only_thread_of_asyncio), ("trio", _on_the_only_thread_of_trio)],
)
async def test_a_flush_needs_none_of_the_apps_threads(
    occupy: Callable[[Callable[[], None]], Coroutine[None, None, None]],
) -> None:
    """It would wait for what the app does in them, and that for the host."""
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        done.wait(5)

    with FaultyServer() as server, sending(server) as sender:
        sender.put(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(occupy, work)
            while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
                await anyio.sleep(0.001)
            began_s = time.monotonic()
            assert await sender.aflush(5)
            assert time.monotonic() - began_s < 4
            done.set()
        assert server.numbers() == [0]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_flush_that_gets_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises nothing, and does not say that all is delivered; later it is."""
    with FaultyServer() as server, sending(server) as sender:
        sender.put(0)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_room)
            patch.setattr(trio.to_thread, "run_sync", _no_room)
            assert not await sender.aflush(5)
        assert await sender.aflush(5)
        assert server.numbers() == [0]


def _no_room(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_proxy_comes_between_this_machine_and_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment's could not reach a loopback host, and would see the prompts."""
    with FaultyServer(refuse(502)) as proxy, FaultyServer() as server:
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        options = SenderOptions(server.url.replace("127.0.0.1", name), None, spool="off")
        sender = Sender(options, prepare)
        sender.put(0)
        assert sender.flush(5)
        sender.shutdown(0.2)
        assert (server.numbers(), proxy.requests) == ([0], [])


@pytest.mark.parametrize("status", [404, 405])
def test_a_host_without_the_batch_endpoint_gets_single_events(status: int) -> None:
    """After one refusal every event goes to publish_event, in order, for good."""

    def mood(request: Request) -> Reply:
        return take(request) if request.endpoint == "publish_event" else refuse(status)(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        for n in range(20):
            sender.put(n)
        assert sender.flush(5)
        sender.put(20)
        assert sender.flush(5)
        assert server.numbers() == list(range(21))
        endpoints = Counter(request.endpoint for request in server.requests)
        assert endpoints == {"publish_events": 1, "publish_event": 21}


HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        (HTML, b"<!doctype html><title>Log in</title>"),
        (HTML, b"Please log in"),
        ({"Content-Type": "Application/XHTML+XML"}, b"<html/>"),
        ({}, b"\xef\xbb\xbf\r\n<html>Log in</html>"),
    ],
    ids=["html", "bare text", "xhtml", "no type"],
)
def test_a_portal_that_says_200_takes_no_event(
    headers: dict[str, str], page: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What a web page answers is kept, tried again and counted, and one line says who answered."""
    replies = [Reply(200, headers, page=page, takes=False)] * 2

    def mood(_: Request) -> Reply:
        return replies.pop() if replies else Reply()

    with FaultyServer(mood) as server, sending(server) as sender:
        sender.put(0)
        assert sender.flush(8)
        stats = sender.stats()
        assert (server.numbers(), stats.delivered, stats.retries) == ([0], 1, 2)
        assert (stats.dropped, stats.last_error) == ({}, "HTTP 200 with a web page")
        (line,) = [line for line in caplog.messages if "web page" in line]
        assert f"a web page answers (HTTP 200 with a web page) for {server.url}." in line


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"Content-Type": "text/html"}, page=b""),
        Reply(204, {"Content-Type": "text/html"}, page=b""),
        Reply(200, {"Content-Type": "text/html"}, page=b' {"stored": 1}\n'),
        Reply(202, {}, page=b"OK"),
        Reply(200, {"Content-Type": "text/plain"}, page=b"1 < 2"),
        Reply(200, body=[]),
    ],
    ids=["empty", "no content", "json called html", "no type", "text", "json"],
)
def test_whatever_else_says_2xx_has_taken_the_events(reply: Reply) -> None:
    """An empty body is a success, and so is any JSON, whatever type a framework gives it."""
    with FaultyServer(lambda _: reply) as server, sending(server) as sender:
        sender.put(0)
        assert sender.flush(5)
        assert (len(server.requests), sender.stats().delivered) == (1, 1)


def test_no_request_is_made_inside_a_retry_after_window() -> None:
    """429 with Retry-After: silence until then, and everything arrives after."""
    replies = [refuse(429, {"Retry-After": "2"})]

    def mood(request: Request) -> Reply:
        return (replies.pop() if replies else take)(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        for n in range(100):
            sender.put(n)
        server.wait_until(lambda: len(server.requests) == 1)
        for n in range(100, 200):
            sender.put(n)
        assert sender.flush(8)
        first, second = server.requests[0].at_s, server.requests[1].at_s
        assert 2.0 <= second - first < 3.5
        assert Counter(server.numbers()) == Counter(range(200))


@pytest.mark.parametrize("endpoint", ["publish_events", "publish_event"])
def test_a_retry_after_holds_for_all_connections(endpoint: str) -> None:
    """Also for what they have in hand, and though requests on their way are taken meanwhile."""
    told: list[float] = []

    def mood(request: Request) -> Reply:
        if request.endpoint != endpoint:
            return refuse(404)(request)
        if not told and len({one.connection for one in server.requests}) > 1:
            told.append(request.at_s)
            return refuse(429, {"Retry-After": "1"})(request)
        return Reply(pause_s=0.03)

    with (
        FaultyServer(mood) as server,
        sending(server, prepare=_many_keys, max_batch=20) as sender,
    ):
        for n in range(400):
            sender.put(n)
        server.wait_for(400, 20)
        (told_s,) = told
        times = [request.at_s - told_s for request in server.requests]
        assert [after_s for after_s in times if 0.2 < after_s < 1.0] == []
        assert Counter(server.numbers()) == Counter(range(400))


def _rejecting(poison: int, *, named: bool) -> Any:
    def mood(request: Request) -> Reply:
        numbers = [event["n"] for event in request.events]
        if poison not in numbers:
            return Reply()
        detail = [{"loc": ["body", numbers.index(poison), "n"], "msg": "bad", "type": "value"}]
        return Reply(422, body={"detail": detail if named else "bad"}, takes=False)

    return mood


@pytest.mark.parametrize("poison", [0, 3, 37, 50, 98, 99])
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_one_poisoned_event_of_a_hundred_takes_no_neighbour_along(
    poison: int, *, named: bool
) -> None:
    """99 arrive in order, with one request more when it is named, with at most 13 when not."""
    dropped: list[tuple[object, str]] = []

    def on_drop(events: list[dict[str, object]], reason: str) -> None:
        dropped.extend((event["n"], reason) for event in events)

    with (
        FaultyServer(_rejecting(poison, named=named)) as server,
        sending(server, flush_interval_s=5, on_drop=on_drop) as sender,
    ):
        for n in range(100):
            sender.put(n)
        assert sender.flush(5)
        by_key = {key: [n for n in server.numbers() if n % 10 == key] for key in range(10)}
        assert by_key == {key: [n for n in range(key, 100, 10) if n != poison] for key in range(10)}
        assert _extra(server.requests) <= (1 if named else 13)
        assert dropped == [(poison, "rejected")]
        assert sender.stats().dropped == {"rejected": 1}


def _extra(requests: Sequence[Request]) -> int:
    """Return how many requests brought nothing new: `flush` may split a batch in two."""
    seen: set[object] = set()
    extra = 0
    for request in requests:
        numbers = {event["n"] for event in request.events}
        extra += numbers <= seen
        seen |= numbers
    return extra


def test_a_host_that_refuses_everything_is_not_asked_about_each_event() -> None:
    """Isolation has a budget: after it the host is left alone for a while."""
    with FaultyServer(refuse(422)) as server, sending(server, spool="off") as sender:
        for n in range(1000):
            sender.put(n)
        assert not sender.flush(1.0)
        assert len(server.requests) <= 70


def test_several_connections_have_one_budget_for_isolation() -> None:
    """A host that is slow, too, is asked over several connections, and not more often for that."""

    def mood(_: Request) -> Reply:
        return Reply(422, takes=False, pause_s=0.05)

    def wait_for_request(number: int) -> None:
        wait_until(lambda: len(server.requests) >= number)

    with FaultyServer(mood) as server, sending(server, spool="off") as sender:
        for wave in range(4):  # each of one key, so that they may be on their way together
            for n in range(wave, 2000, 10):
                sender.put(n)
            wait_for_request(2 * wave + 2)
        wait_for_request(65)
        assert not sender.flush(1.0)
        assert len({request.connection for request in server.requests}) > 1
        assert len(server.requests) <= 75


def test_a_batch_that_is_too_large_is_halved_and_the_size_remembered() -> None:
    """413 above 10 events: all arrive, and later batches fit at once."""

    def mood(request: Request) -> Reply:
        return take(request) if len(request.events) <= 10 else refuse(413)(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        for n in range(100):
            sender.put(n)
        assert sender.flush(5)
        assert Counter(server.numbers()) == HUNDRED
        before = len(server.requests)
        for n in range(100):
            sender.put(n)
        assert sender.flush(5)
        assert all(len(request.events) <= 10 for request in server.requests[before:])


def test_a_single_event_that_is_too_large_is_dropped_and_counted() -> None:
    """413 for one event: it cannot ever arrive, its neighbours do."""

    def mood(request: Request) -> Reply:
        big = any(event["n"] == 7 for event in request.events)
        return refuse(413)(request) if big else take(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        for n in range(100):
            sender.put(n)
        assert sender.flush(5)
        assert Counter(server.numbers()) == HUNDRED - Counter([7])
        assert sender.stats().dropped == {"too_large": 1}


def test_accepted_and_then_cut_gives_duplicates_with_the_same_id() -> None:
    """The host took the events but its answer was lost: they come again, and can be told."""
    replies = [Reply(None, takes=True)]

    def mood(request: Request) -> Reply:
        return replies.pop() if replies else take(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        for n in range(100):
            sender.put(n)
        assert sender.flush(5)
        assert len(server.taken) == 100
        first, second = server.requests
        assert [e["event_id"] for e in first.events] == [e["event_id"] for e in second.events][
            : len(first.events)
        ]
        assert sender.stats().duplicates_possible == 1


@pytest.mark.skipif(
    version("urllib3") < "2", reason="urllib3 1 reads on until it has all that it is asked for"
)
@pytest.mark.parametrize("status", [200, 503])
def test_an_answer_that_does_not_end_is_not_waited_for(status: int) -> None:
    """However steadily it drips: its status counts, and what comes next has a new connection."""
    replies = [Reply(status, takes=status == 200, drips=True)]

    def mood(request: Request) -> Reply:
        return replies.pop() if replies else take(request)

    with FaultyServer(mood) as server, sending(server, read_timeout_s=0.5) as sender:
        sender.put(1)
        server.wait_until(lambda: len(server.requests) == 1)
        sender.put(2)
        assert sender.flush(10)
        stats = sender.stats()
        assert (stats.delivered, stats.last_error) == (2, f"HTTP {status}, an answer without end")
        assert server.numbers() == [1, 2]
        assert len({request.connection for request in server.requests}) == 2


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        *[(401, "a project's write-only key"), (403, "a project's write-only key")],
        *[(404, "before /publish_events"), (402, "stands between"), (451, "stands between")],
        *[(302, "redirects are not followed"), (307, "redirects are not followed")],
    ],
)
def test_a_wrong_set_up_keeps_the_events_and_says_what_to_do(
    status: int, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One ERROR line with the remedy, no second request within a minute, nothing dropped."""
    location = {"Location": "http://127.0.0.1:9/elsewhere"}
    with FaultyServer(refuse(status, location)) as server, sending(server) as sender:
        sender.put(1)
        assert not sender.flush(0.5)
        assert len(server.requests) == (2 if status == 404 else 1)
        assert sender.stats().dropped == {}
        assert sender.stats().queued == 1
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert "TRUBRICS_" in record.getMessage()
        assert remedy in record.getMessage()
        assert "secret-key" not in caplog.text


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_troubles_are_retried(status: int) -> None:
    """Each of these is over soon: the events arrive, once."""
    replies = [refuse(status)]

    def mood(request: Request) -> Reply:
        return (replies.pop() if replies else take)(request)

    with FaultyServer(mood) as server, sending(server) as sender:
        sender.put(1)
        assert sender.flush(5)
        assert server.numbers() == [1]
        assert sender.stats().retries == 1


def test_an_item_that_cannot_be_prepared_is_dropped_alone() -> None:
    """A fault in `prepare` costs one event and no thread; a skipped item is counted apart."""

    def picky(item: object, event_id: str) -> Outgoing | Skip:
        if item == 1:
            raise ValueError(item)
        if item == 4:
            sys.exit("as an app's own part may")
        return Skip("sampled") if item == 2 else prepare(item, event_id)

    with FaultyServer() as server, sending(server, picky) as sender:
        for n in range(6):
            sender.put(n)
        assert sender.flush(5)
        assert server.numbers() == [0, 3, 5]
        stats = sender.stats()
        assert (stats.accepted, stats.delivered) == (6, 3)
        assert stats.dropped == {"prepare_failed": 2, "sampled": 1}


def test_each_reason_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A trouble that lasts fills no log, and a second one is not hidden by the first."""
    now_s = 0.0
    tally = Tally(SenderOptions("http://127.0.0.1:9", None, clock=lambda: now_s))
    for now_s, reason in ((0.0, "a"), (1.0, "a"), (2.0, "b"), (59.9, "a"), (60.0, "a")):
        tally.say(logging.WARNING, reason, "%s at %d s", reason, now_s)
    assert caplog.messages == ["a at 0 s", "b at 2 s", "a at 60 s"]


def test_an_on_drop_that_raises_is_ignored() -> None:
    """The app's callback cannot hurt the delivery of others."""

    def raising(_events: object, _reason: str) -> None:
        raise RuntimeError

    with (
        FaultyServer(_rejecting(5, named=True)) as server,
        sending(server, on_drop=raising) as sender,
    ):
        for n in range(10):
            sender.put(n)
        assert sender.flush(5)
        assert len(server.taken) == 9


def test_order_within_a_key_holds_over_parallel_connections() -> None:
    """Behind a slow host the sender opens more connections, and no event overtakes its like.

    One of the requests is refused late, when others have passed: its events come again.
    """

    def mood(_: Request) -> Reply:
        is_late = len(server.requests) == 15
        return Reply(503 if is_late else 200, takes=not is_late, pause_s=0.2 if is_late else 0.05)

    with (
        FaultyServer(mood) as server,
        sending(server, prepare=_many_keys, max_batch=20) as sender,
    ):
        for n in range(1000):
            sender.put(n)
        started = time.monotonic()
        assert sender.flush(10)
        assert time.monotonic() - started < 50 * 0.05, "one connection would take longer"
        assert 1 < len({request.connection for request in server.requests}) <= 4
        for key in range(100):
            same = [n for n in server.numbers() if n % 100 == key]
            assert same == sorted(same)
        assert Counter(server.numbers()) == Counter(range(1000))


def _many_keys(item: Any, event_id: str) -> Outgoing:
    return Outgoing(str(item % 100), {"event_id": event_id, "n": item})
