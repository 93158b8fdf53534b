"""Threads that send over one WebSocket, at each step of one another: no answer is another's."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.openai.websockets import by_user, create, events_of
from trubrics_instrument import context, patch_openai
from trubrics_instrument.providers.openai._question import Question
from trubrics_instrument.providers.openai._websocket import _tell
from trubrics_instrument.providers.openai._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future
    from types import FrameType

    from tests.sink import Sink

    Act = Callable[[], object]
    Step = Callable[[int, Act], Future[bool]]


@contextmanager
def at_line(number: int, function: Any, act: Act) -> Generator[list[int]]:
    """Do something before a line of a function runs; what is given is below 0 when it was done."""
    left = [number]

    def line(_: FrameType, event: str, __: object) -> Any:
        if event == "line":
            left[0] -= 1
            if left[0] == -1:
                act()
        return line

    def trace(frame: FrameType, _: str, __: object) -> Any:
        return line if frame.f_code is function.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(before)


class Asker:
    """One user, who asks over a wire in a thread of their own; `sent` is what the server gets."""

    def __init__(self, wire: Wire, sent: list[Asker], name: str) -> None:
        self.name = name
        self.really_sent = True
        self.answered_at_once = False
        self._wire = wire
        self._sent = sent
        self._event = create(name)
        self._question = Question(self._event)
        self._thread = ThreadPoolExecutor(1)
        with context(user_id=name, thread_id=name):
            _tell(self._question, self._event, wire)

    def begin(self) -> None:
        """Begin to send it."""
        self._thread.submit(self._begin, -1, list).result(10)

    def send(self, number: int = -1, act: Act = list) -> Future[bool]:
        """Send it, and act at a line of that; False if there is no such line."""
        return self._thread.submit(self._send, number, act)

    def cancel(self, number: int = -1, act: Act = list) -> Future[bool]:
        """Break off sending it, and act at a line of that; False if there is no such line."""
        return self._thread.submit(self._stop, number, act, KeyboardInterrupt())

    def fail(self) -> None:
        """Let sending it fail."""
        self._thread.submit(self._stop, -1, list, OSError("no")).result(10)

    def answer(self) -> None:
        """Let its answer come."""
        for event in events_of(dict(self._event), 1):
            self._wire.receive(json.dumps(event))

    def done(self) -> None:
        """End what is open."""
        self._question.leave()
        self._thread.shutdown()

    def _begin(self, number: int, act: Act) -> bool:
        with at_line(number, Wire.send, act) as left:
            self._wire.send(self._question)
        if self.really_sent and self.answered_at_once:
            self.answer()
        elif self.really_sent:
            self._sent.append(self)
        return left[0] < 0

    def _send(self, number: int, act: Act) -> bool:
        reached = self._begin(number, act)
        self._wire.sent(self._question)
        return reached

    def _stop(self, number: int, act: Act, error: BaseException) -> bool:
        with at_line(number, Wire.not_sent, act) as left:
            self._wire.not_sent(self._question, error)
        return left[0] < 0


def meet(one: Step, at: int, other: Step, until: int) -> tuple[bool, bool]:
    """Do one thing up to a line, another up to one of its own, then end the one and the other.

    Returns whether the two have such lines.
    """
    stands, may_go = threading.Event(), threading.Event()
    futures: list[Future[bool]] = []

    def stand() -> None:
        stands.set()
        assert may_go.wait(10)

    def act() -> None:
        futures.append(other(until, stand))
        futures[0].add_done_callback(lambda _: stands.set())
        assert stands.wait(10)

    reached = one(at, act).result(10)
    may_go.set()
    return reached, reached and futures[0].result(10)


def two_send(users: list[Asker]) -> tuple[Step, Step]:
    """Both send."""
    return users[0].send, users[1].send


def three_send(users: list[Asker]) -> tuple[Step, Step]:
    """Two send, and in the middle of the second one a third one does."""
    ada, bob, cid = users

    def within(number: int, act: Act) -> Future[bool]:
        def send() -> None:
            cid.send().result(10)
            act()

        return bob.send(number, send)

    return ada.send, within


def cancelled(users: list[Asker]) -> tuple[Step, Step]:
    """The first one is cancelled, while another one sends."""
    users[0].begin()
    return users[0].cancel, users[1].send


def cancelled_in_between(users: list[Asker]) -> tuple[Step, Step]:
    """One sends, while the first one is cancelled."""
    users[0].begin()
    return users[1].send, users[0].cancel


def cancelled_before_it_was_sent(users: list[Asker]) -> tuple[Step, Step]:
    """The same, where the first one was not really sent."""
    users[0].really_sent = False
    return cancelled_in_between(users)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "steps",
    [two_send, three_send, cancelled, cancelled_in_between, cancelled_before_it_was_sent],
)
def test_at_each_step(
    steps: Callable[[list[Asker]], tuple[Step, Step]], at_once: bool, sink: Sink
) -> None:
    """Whatever the steps at which threads come in between each other, no answer is another's."""
    patch_openai()
    asked: list[str] = []
    at = until = 0
    while True:
        wire, sent = Wire(), list[Asker]()
        zoe, *users = (
            Asker(wire, sent, f"{name} {at} {until}") for name in ("zoe", "ada", "bob", "cid")
        )
        zoe.send().result(10)
        for one in (zoe, *users):
            one.answered_at_once = at_once
        if at_once:
            sent.pop().answer()
        first, second = steps(users)
        is_one, is_other = meet(first, at, second, until)
        for asker in sent:
            asker.answer()
        for asker in (zoe, *users):
            asker.done()
            asked.append(asker.name)
        if not is_one:
            break
        at, until = (at, until + 1) if is_other else (at + 1, 0)
    assert at > 5
    told = by_user(sink, 2 * len(asked))
    assert len(told) == len(asked)
    for name, (prompt, (event, text)) in told.items():
        assert prompt == ("Prompt", name)
        assert (event, text) in {("Generation", name.upper()), ("Generation", None)}
        assert text or not name.startswith("zoe"), "what was sent before stays sure"


@pytest.mark.parametrize("answered_before", [False, True])
def test_one_of_two_at_once_fails(answered_before: bool, sink: Sink) -> None:
    """An answer that was taken for that of the failed one moves none to another question."""
    patch_openai()
    wire, sent = Wire(), list[Asker]()
    ada, bob, cid, dan = users = [Asker(wire, sent, name) for name in ("ada", "bob", "cid", "dan")]
    ada.really_sent = False
    ada.begin()
    bob.send().result(10)
    if answered_before:
        bob.answer()
    ada.fail()
    if not answered_before:
        bob.answer()
    for one in (cid, dan):
        one.send().result(10)
        one.answer()
    for one in users:
        one.done()
    for name, (_, (_, text)) in by_user(sink, 8).items():
        assert text in {name.upper(), None}
