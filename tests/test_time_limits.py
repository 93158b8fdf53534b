"""A time limit of the app's, which a signal handler raises, wherever it comes upon our code."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, chat_completion

from tests.interleaving import meanwhile
from tests.openai.asking import client_of
from tests.replies import json_reply
from trubrics_instrument import _runtime, patch_openai
from trubrics_instrument._base import shield
from trubrics_instrument._observing import call, conversation
from trubrics_instrument.providers.openai import _chat, _request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, ModuleType

    from tests.loopback import Loopback
    from tests.sink import Sink


class TimeLimitError(Exception):
    """What Celery, RQ and others raise where work takes too long."""


class Limit:
    """A limit with a handler that is a method."""

    def over(self, _number: int, _frame: FrameType | None) -> None:
        """Raise."""
        raise TimeLimitError


def over(*_: object) -> None:
    """Raise."""
    raise TimeLimitError


def after(_about: object, _number: int, _frame: FrameType | None) -> None:
    """Raise."""
    raise TimeLimitError


@pytest.fixture(autouse=True)
def as_in_production() -> Iterator[None]:
    """Let no fault of ours through, and put the process's own handler back."""
    shield.set_strict(strict=False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


HANDLERS = {"function": over, "method": Limit().over, "partial": partial(after, "work")}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_it_passes_the_shield(handler: Callable[..., None]) -> None:
    """What a handler raises is no fault of ours."""
    signal.signal(signal.SIGTERM, handler)
    with pytest.raises(TimeLimitError), shield.shield("testing"):
        signal.raise_signal(signal.SIGTERM)
    assert not shield.faults()


def test_what_is_no_time_limit_does_not() -> None:
    """The same exception is stopped where no signal has come, whatever the app's code is given."""

    def check(_number: int, frame: object) -> None:
        raise TimeLimitError(frame)

    with shield.shield("testing"):
        check(15, None)
    assert shield.faults() == {"testing": 1}


@pytest.mark.parametrize("module", [_request, _chat, call, conversation, _runtime])
@pytest.mark.parametrize("step", range(0, 60, 4))
def test_it_reaches_the_app(module: ModuleType, step: int, server: Loopback, sink: Sink) -> None:
    """It ends the call, or the call was over before, and the next one is told as ever."""
    server.always(lambda _: json_reply(chat_completion(Answer("Hello"))))
    came: list[int] = []

    def come() -> None:
        came.append(step)
        over(signal.SIGTERM, sys._getframe())

    def ask(client: Any) -> str:
        messages = [{"role": "user", "content": "Hi"}]
        return str(client.chat.completions.create(model="m", messages=messages).id)

    def limited(client: Any) -> bool:
        with meanwhile(module, step, come):
            try:
                ask(client)
            except TimeLimitError:
                return True
        return False

    # On a thread of its own, which may keep what was being handled when the trace broke in.
    with patch_openai(), client_of(server, "sync") as client, ThreadPoolExecutor(1) as pool:
        assert pool.submit(limited, client).result() == bool(came)
        ask(client)
    assert sink.wait_until(lambda events: "Generation" in [one["event"] for one in events])
    assert not shield.faults()
