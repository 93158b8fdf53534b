"""`patch_threads()`: who is asking is known in thread pools, whoever hands the work over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trubrics_instrument import context, identify, patch_threads, suppress, unpatch_threads
from trubrics_instrument._base import shield
from trubrics_instrument._context import scope

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = (None, None)


class Argument:
    """What work is called with."""


def who(_: object = None) -> tuple[str | None, str | None]:
    """Return who is asking here, and where."""
    said = scope.said()
    return said.user_id, said.thread_id


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Give a pool of one thread, in which nothing is said."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_it_is_carried(pool: ThreadPoolExecutor) -> None:
    """By `submit` and by `map`, for as long as the work goes on."""
    patch_threads()
    with context(user_id="ada", thread_id="a"):
        assert pool.submit(who).result() == ("ada", "a")
        assert list(pool.map(who, range(2))) == [("ada", "a")] * 2
    assert pool.submit(who).result() == NOBODY


def test_a_request(pool: ThreadPoolExecutor) -> None:
    """It is the same one: what is identified there is known here."""
    patch_threads()
    with scope.Request():
        pool.submit(identify, "ada").result()
        assert who() == ("ada", None)
    assert pool.submit(who).result() == NOBODY


def test_what_was_identified(pool: ThreadPoolExecutor) -> None:
    """It needs no block."""
    patch_threads()
    with scope.Job():
        identify("ada")
        assert pool.submit(who).result() == ("ada", None)


def test_suppressed(pool: ThreadPoolExecutor) -> None:
    """What is not to be observed is not observed there either."""
    patch_threads()
    with suppress():
        assert pool.submit(scope.is_on).result() is False
    assert pool.submit(scope.is_on).result() is True


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_pool_of_the_loop() -> None:
    """`run_in_executor` hands no context variables over by itself."""
    loop = asyncio.get_running_loop()
    with context(user_id="ada"):
        assert await loop.run_in_executor(None, who) == NOBODY
        patch_threads()
        assert await loop.run_in_executor(None, who) == ("ada", None)


def test_taken_off(pool: ThreadPoolExecutor) -> None:
    """Put on twice it is on once; taken off, nothing of it is left."""
    original = ThreadPoolExecutor.submit
    patch_threads()
    patch_threads()
    unpatch_threads()
    unpatch_threads()
    assert ThreadPoolExecutor.submit is original
    with context(user_id="ada"):
        assert pool.submit(who).result() == NOBODY
        with patch_threads():
            assert pool.submit(who).result() == ("ada", None)
        assert pool.submit(who).result() == NOBODY


def test_nothing_said_is_nothing_changed(pool: ThreadPoolExecutor) -> None:
    """Nothing stands between the pool and the work then."""
    patch_threads()
    assert Path(pool.submit(_called_by).result()).parts[-2:] == ("futures", "thread.py")
    with context(user_id="ada"):
        assert Path(pool.submit(_called_by).result()).name == "pools.py"


def _called_by() -> str:
    return sys._getframe(1).f_code.co_filename


def test_errors_are_the_apps(pool: ThreadPoolExecutor) -> None:
    """Of the work, and of a call that cannot be."""
    patch_threads()
    error = KeyError("no such tram")

    def fails() -> None:
        raise error

    with context(user_id="ada"):
        assert pool.submit(fails).exception() is error
        submit: Any = pool.submit
        with pytest.raises(TypeError, match="submit"):
            submit()
    assert shield.faults() == {}


def test_what_failed_keeps_nothing_alive(pool: ThreadPoolExecutor) -> None:
    """An app may keep the exception for long, and the frames that it went through."""
    patch_threads()
    request = scope.Request()
    kept = weakref.ref(request)

    def fails(number: object) -> None:
        del number
        raise KeyError("no such tram")

    with request:
        error = pool.submit(fails, argument := Argument()).exception()
    given = weakref.ref(argument)
    del request, argument
    gc.collect()
    assert (type(error), kept()) == (KeyError, None)
    # The frames of newer pools keep what the work was called with themselves.
    assert given() is None or sys.version_info >= (3, 14)


def test_tried_twice(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' code between us and the pool may call the work again after a failure."""
    submit = ThreadPoolExecutor.submit
    seen: list[Any] = []

    def fails_first() -> int:
        seen.append(who())
        return 1 // (len(seen) - 1)

    def tries_twice(pool: ThreadPoolExecutor, function: Any) -> Any:
        def tried() -> Any:
            with contextlib.suppress(ZeroDivisionError):
                return function()
            return function()

        return submit(pool, tried)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", tries_twice)
    patch_threads()
    with context(user_id="ada"):
        assert pool.submit(fails_first).result() == 1
    assert seen[0] == ("ada", None)


def test_another_interpreter(pool: ThreadPoolExecutor) -> None:
    """What is handed to one must not hold objects of this one: it is left as it is."""

    class InterpreterPoolExecutor(ThreadPoolExecutor):
        """As Python has one from 3.14 on."""

    patch_threads()
    with InterpreterPoolExecutor() as elsewhere, context(user_id="ada"):
        assert Path(elsewhere.submit(_called_by).result()).name == "thread.py"
        assert Path(pool.submit(_called_by).result()).name == "pools.py"


def test_results_are_the_apps(pool: ThreadPoolExecutor) -> None:
    """A generator is the one that the work has returned."""
    patch_threads()
    steps = (number for number in range(2))
    with context(user_id="ada"):
        assert pool.submit(lambda: steps).result() is steps


def test_a_pool_of_another_kind() -> None:
    """One that overrides `submit` decides by itself."""

    class Here(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return fn, args, kwargs

    patch_threads()
    with context(user_id="ada"):
        assert Here().submit(who, 1, by=2) == (who, (1,), {"by": 2})
