"""Who is asking: said around a call in every way that Python has, and never by somebody else."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from trubrics_instrument import bind, context, identify, suppress
from trubrics_instrument._base import ids, shield
from trubrics_instrument._context import jobs, scope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
    from contextlib import AbstractContextManager


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """Leave no scope behind: `identify()` holds for the rest of the thread."""
    before = scope._here.get()
    yield
    scope._here.set(before)


def who() -> tuple[str | None, str | None]:
    """Return the user and the thread that hold here."""
    said = scope.said()
    return said.user_id, said.thread_id


def test_nothing_said() -> None:
    """Where the app has said nothing, nothing holds, and observation is on."""
    assert scope.said() == scope.Said()
    assert scope.is_on()


def test_nested_contexts() -> None:
    """The inner word wins, what it leaves out holds on from outside, and leaving takes it back."""
    with context(user_id="ada", thread_id="a", properties={"plan": "pro", "page": 1}):
        with context(thread_id="b", prompt="Typed", properties={"page": 2}):
            assert scope.said() == scope.Said(
                user_id="ada",
                thread_id="b",
                prompt="Typed",
                properties={"plan": "pro", "page": 2},
            )
        assert who() == ("ada", "a")
    assert who() == (None, None)


@pytest.mark.anyio
async def test_async_with() -> None:
    """`async with` says the same as `with`."""
    async with context(user_id="ada"):
        await asyncio.sleep(0)
        assert who() == ("ada", None)
    assert who() == (None, None)


def test_leaving_on_an_exception() -> None:
    """An exception passes untouched, and the scope is left."""
    error = KeyError("the app's own")
    with pytest.raises(KeyError) as caught, context(user_id="ada"):
        raise error
    assert caught.value is error
    assert who() == (None, None)


def test_decorated_function() -> None:
    """A decorated function runs inside, keeps its name and its arguments, and can recurse."""

    @context(user_id="ada")
    def depth(n: int) -> list[tuple[str | None, str | None]]:
        """Say who asks."""
        return [who(), *(depth(n - 1) if n else [])]

    assert depth(2) == [("ada", None)] * 3
    assert (depth.__name__, depth.__doc__) == ("depth", "Say who asks.")
    assert who() == (None, None)


@pytest.mark.anyio
async def test_decorated_coroutine_function() -> None:
    """A decorated coroutine function stays one, and tasks of it do not see each other."""

    @context(user_id="ada")
    async def ask(thread: str) -> tuple[str | None, str | None]:
        with context(thread_id=thread):
            await asyncio.sleep(0)
            return who()

    assert inspect.iscoroutinefunction(ask)
    assert list(await asyncio.gather(ask("a"), ask("b"))) == [("ada", "a"), ("ada", "b")]


def test_decorated_generator() -> None:
    """Each step runs inside, the caller's code between the steps outside; values go through."""

    @context(user_id="ada")
    def steps() -> Generator[Any, str, str]:
        got = yield who()
        try:
            yield (got, who())
        except KeyError:
            yield "caught"
        return "returned"

    generator = steps()
    assert inspect.isgeneratorfunction(steps)
    assert next(generator) == ("ada", None)
    assert who() == (None, None)
    assert generator.send("sent") == ("sent", ("ada", None))
    assert generator.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "returned"
    assert who() == (None, None)


def test_closed_generator() -> None:
    """A generator that is left half way cleans up inside."""
    seen: list[object] = []

    @context(user_id="ada")
    def steps() -> Generator[int]:
        try:
            yield 1
        finally:
            seen.append(who())

    generator = steps()
    assert next(generator) == 1
    generator.close()
    assert seen == [("ada", None)]


@pytest.mark.anyio
async def test_decorated_async_generator() -> None:
    """The same for an asynchronous generator, closing and throwing included."""
    seen: list[object] = []

    @context(user_id="ada")
    async def steps() -> AsyncGenerator[object, str]:
        try:
            got = yield who()
            await asyncio.sleep(0)
            try:
                yield (got, who())
            except KeyError:
                yield "caught"
        finally:
            seen.append(who())

    generator = steps()
    assert inspect.isasyncgenfunction(steps)
    assert await anext(generator) == ("ada", None)
    assert who() == (None, None)
    assert await generator.asend("sent") == ("sent", ("ada", None))
    assert await generator.athrow(KeyError()) == "caught"
    await generator.aclose()
    assert seen == [("ada", None)]


@pytest.mark.anyio
async def test_exhausted_async_generator() -> None:
    """It ends where the generator ends."""

    @context(user_id="ada")
    async def steps() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    assert [number async for number in steps()] == [0, 1, 2]


def test_left_in_another_context() -> None:
    """Leaving where it was not entered takes nothing back, and raises nothing."""
    one = context(user_id="ada")
    elsewhere = contextvars.copy_context()
    elsewhere.run(one.__enter__)
    with context(user_id="bob"):
        one.__exit__(None, None, None)
        assert who() == ("bob", None)
    assert elsewhere.run(who) == ("ada", None)


def test_left_out_of_order() -> None:
    """Two contexts left in the wrong order, as interleaved generators do, leave nothing behind."""
    outer, inner = context(user_id="ada"), context(user_id="bob")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert who() == ("bob", None)
    inner.__exit__(None, None, None)
    assert who() == (None, None)


def test_one_object_in_many_threads() -> None:
    """One object may be entered by several threads at once, and again inside itself."""
    shared = context(user_id="ada")
    barrier = threading.Barrier(4, timeout=10)

    def enter(thread: int) -> list[tuple[str | None, str | None]]:
        with shared, context(thread_id=thread), shared:
            barrier.wait()
            inside = who()
        return [inside, who()]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(enter, range(4))) == [
            [("ada", str(thread)), (None, None)] for thread in range(4)
        ]


def test_one_object_inside_itself() -> None:
    """Leaving one that was entered twice leaves the inner one."""
    ada = context(user_id="ada")
    with ada, context(user_id="bob"):
        with ada:
            assert who() == ("ada", None)
        assert who() == ("bob", None)
    assert who() == (None, None)


def test_suppress_wins() -> None:
    """Off anywhere around is off, whatever is said inside."""
    with suppress():
        assert not scope.is_on()
        with context(enabled=True, user_id="ada"):
            assert not scope.is_on()
            assert not scope.said().enabled
    assert scope.is_on()


class _Undecided:
    def __bool__(self) -> bool:
        raise ValueError("neither yes nor no")


@pytest.mark.parametrize(("enabled", "is_on"), [(None, True), (True, True), (1, True), (0, False)])
def test_consent_as_a_database_has_it(enabled: object, is_on: bool) -> None:
    """What is no yes is a no."""
    with context(enabled=enabled):
        assert scope.is_on() is is_on


def test_consent_that_cannot_be_read() -> None:
    """It is none, and no error of the app's."""
    shield.set_strict(strict=False)
    with context(enabled=_Undecided()):
        assert not scope.is_on()
    assert shield.faults() == {"reading `enabled`": 1}


def test_identify_in_a_task_of_celery() -> None:
    """It ends with the task: the next one in the same worker has another user, or none."""
    celery: Any = pytest.importorskip("celery")

    def task(user_id: str | None) -> list[tuple[str | None, str | None]]:
        seen = [who()]
        if user_id:
            identify(user_id)
            identify(user_id, thread_id="a")
        return [*seen, who()]

    run: Any = celery.Celery("tests", broker="memory://").task(task)
    with context(thread_id="b"):
        assert run.apply(["ada"]).get() == [(None, "b"), ("ada", "b")]
    assert run.apply([None]).get() == [(None, None), (None, None)]
    identify("the worker")
    assert run.apply(["bob"]).get() == [("the worker", None), ("bob", "a")]
    assert who() == ("the worker", None)


def test_identify_in_what_a_task_calls() -> None:
    """A task that another one calls as a function is a part of that one."""
    celery: Any = pytest.importorskip("celery")
    app: Any = celery.Celery("tests", broker="memory://")
    named: Any = app.task(identify, name="named")

    def main(user_id: str) -> tuple[str | None, str | None]:
        named(user_id)
        return who()

    assert app.task(main).apply(["ada"]).get() == ("ada", None)
    assert who() == (None, None)
    assert jobs._jobs == {}


def test_a_task_that_runs_beside_itself() -> None:
    """A task that is delivered twice ends in each thread for itself."""
    celery: Any = pytest.importorskip("celery")
    both_named = threading.Barrier(2)

    def task(user_id: str) -> None:
        identify(user_id)
        both_named.wait(10)

    run: Any = celery.Celery("tests", broker="memory://").task(task)

    assert run.name  # Celery makes a task when it is first used, by one thread only

    def work(user_id: str) -> tuple[str | None, str | None]:
        run.apply([user_id], task_id="the same").get()
        return who()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, ("ada", "bob"))) == [(None, None)] * 2
    assert jobs._jobs == {}


def test_identify_outside_of_a_request() -> None:
    """It holds for the rest of the task, thread or script; a later word adds to it."""
    with context(thread_id="a"):
        identify("ada", properties={"plan": "pro"})
        assert who() == ("ada", "a")
    assert who() == ("ada", None)
    identify("ada", thread_id="b", properties={"page": "home"})
    identify(None, properties={"plan": "free"})
    told = {"plan": "free", "page": "home"}
    assert scope.said() == scope.Said(user_id="ada", thread_id="b", properties=told)


@pytest.mark.parametrize("request_", [scope.Request, nullcontext], ids=["request", "script"])
def test_identify_another_user(request_: Callable[[], AbstractContextManager[object]]) -> None:
    """Neither the conversation nor the properties of one user are those of the next."""
    with request_():
        identify("ada", thread_id="a", properties={"plan": "pro"})
        identify("bob")
        assert scope.said() == scope.Said(user_id="bob")
        identify("ada")
        assert scope.said() == scope.Said(user_id="ada")


def test_context_wins_over_identify() -> None:
    """The innermost context is asked before `identify()`, whichever came first."""
    with context(user_id="ada"):
        identify("bob", thread_id="b")
        assert who() == ("ada", "b")


@pytest.mark.anyio
async def test_identify_in_tasks() -> None:
    """Each task has a word of its own, even where a scope is shared around them."""

    async def ask(user: str) -> tuple[str | None, str | None]:
        identify(user)
        await asyncio.sleep(0)
        return who()

    with context(thread_id="shared"):
        answers = list(await asyncio.gather(ask("ada"), ask("bob")))
    assert answers == [("ada", "shared"), ("bob", "shared")]
    assert who() == (None, None)


def test_identify_in_a_request() -> None:
    """It fills the request's scope, so that it is seen where a context variable is lost."""
    request = scope.Request()
    with request:
        contextvars.copy_context().run(identify, "ada", thread_id="a")
        assert who() == ("ada", "a")
        with context(user_id="bob"):
            assert who() == ("bob", "a")
    assert who() == (None, None)


def test_nothing_shines_into_a_request() -> None:
    """What a worker thread said before is not this request's; afterwards it holds again."""
    identify("leftover")
    with context(thread_id="leftover"), scope.Request():
        assert who() == (None, None)
    assert who() == ("leftover", None)


@pytest.mark.parametrize("off", [lambda: context(enabled=False), suppress], ids=["off", "suppress"])
def test_off_around_a_request(off: Callable[[], AbstractContextManager[object]]) -> None:
    """Off anywhere is off: an opt-out may be decided before our middleware has its turn."""
    with off(), scope.Request():
        assert not scope.is_on()
        with context(enabled=True):
            assert not scope.is_on()
    assert scope.is_on()


def test_the_same_request_again() -> None:
    """What is entered once more inside of itself knows what was said between, and ends once."""
    request = scope.Request()
    with request, context(user_id="ada"):
        identify(None, thread_id="t")
        with request:
            assert who() == ("ada", "t")
        assert who() == ("ada", "t")
    assert who() == (None, None)


def test_a_request_left_elsewhere() -> None:
    """Leaving a request in a context where it was not entered changes nothing."""
    request = scope.Request()
    contextvars.copy_context().run(request.__enter__)
    with context(user_id="ada"):
        request.__exit__(None, None, None)
        assert who() == ("ada", None)


def test_what_comes_with_a_request_is_asked_late() -> None:
    """The app may know the user only after its own middleware ran; `identify()` goes first."""
    known: list[str] = []

    def came_with() -> scope.Said:
        return scope.Said(user_id=known[0] if known else None, thread_id="cookie")

    request = scope.Request()
    request.comes_with(came_with)
    with request:
        assert who() == (None, "cookie")
        known.append("ada")
        assert who() == ("ada", "cookie")
        identify("bob")
        assert who() == ("bob", "cookie")


def test_a_fault_in_what_comes_with_a_request() -> None:
    """A callable that raises says nothing, and is counted."""
    shield.set_strict(strict=False)
    request = scope.Request()
    request.comes_with(lambda: scope.Said(thread_id="cookie"))
    request.comes_with(lambda: scope.Said(user_id=str(1 // 0)))
    with request:
        identify("ada")
        assert who() == ("ada", "cookie")
    assert shield.faults() == {"asking the app whose request this is": 1}


def test_bind() -> None:
    """A bound function carries the scope into a pool, whose thread then has its own again."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(identify, "the thread's own").result()
        with context(user_id="ada", thread_id="a"):
            assert pool.submit(who).result() == ("the thread's own", None)
            assert pool.submit(bind(who)).result() == ("ada", "a")
        assert pool.submit(who).result() == ("the thread's own", None)


def test_bind_shares_the_request() -> None:
    """What is identified in a bound function is known to the request."""
    with ThreadPoolExecutor(1) as pool, scope.Request():
        pool.submit(bind(partial(identify, "ada"))).result()
        assert who() == ("ada", None)


@pytest.mark.anyio
async def test_bind_a_coroutine_function() -> None:
    """A bound coroutine function keeps the scope while it is awaited, and only then."""

    async def ask() -> tuple[str | None, str | None]:
        await asyncio.sleep(0)
        return who()

    with context(user_id="ada"):
        bound = bind(ask)
    assert await bound() == ("ada", None)
    assert who() == (None, None)


class _Unprintable:
    def __str__(self) -> str:
        raise TypeError("no words for it")


LONG = "x" * 600


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("ada", "ada"),
        (7, "7"),
        (0, "0"),
        (None, None),
        ("", None),
        (" \n", None),
        (" ada ", " ada "),
        ("x" * 512, "x" * 512),
    ],
    ids=repr,
)
def test_ids(given: object, clean: str | None) -> None:
    """An id becomes its `str`; an empty one is absent."""
    assert ids.clean_id(given) == clean


def test_an_id_with_a_text_of_its_own() -> None:
    """An object that says in words what it is, is known by these."""

    class Account:
        def __str__(self) -> str:
            return "ada"

    class Tenant:
        def __repr__(self) -> str:
            return "acme"

    assert (ids.clean_id(Account()), ids.clean_id(Tenant())) == ("ada", "acme")


def test_an_id_in_a_proxy() -> None:
    """It is what the proxy stands for, though that has the methods of everything."""
    proxies: Any = pytest.importorskip("werkzeug.local")
    assert ids.clean_id(proxies.LocalProxy(lambda: "ada")) == "ada"


def test_long_ids() -> None:
    """Over 512 characters an id is cut and marked, and two that begin alike stay two."""
    one, other = ids.clean_id(LONG), ids.clean_id(LONG + "y")
    assert one is not None
    assert other is not None
    assert (len(one), one[:496]) == (512, "x" * 495 + "…")
    assert one != other
    assert ids.is_cut(one)
    assert not ids.is_cut("x" * 512)
    assert ids.clean_id("\ud800" * 600) is not None


@pytest.mark.parametrize(
    "given",
    [_Unprintable(), object(), lambda: "ada", str.upper],
    ids=["no text", "nameless", "function", "method"],
)
def test_an_id_without_words(given: object) -> None:
    """An id that cannot be read, or is another one each time, is absent, and counted."""
    shield.set_strict(strict=False)
    assert ids.clean_id(given) is None
    assert shield.faults() == {"reading an id": 1}


async def _late() -> tuple[str | None, str | None]:
    await asyncio.sleep(0)
    return who()


async def _late_steps() -> AsyncIterator[tuple[str | None, str | None]]:
    await asyncio.sleep(0)
    yield who()


def _soon() -> Any:
    return _late()


class _Callable:
    async def __call__(self) -> tuple[str | None, str | None]:
        return await _late()


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["context", "bind"])
@pytest.mark.parametrize("function", [partial(_late), _soon, _Callable()])
async def test_functions_that_return_a_coroutine(way: str, function: Any) -> None:
    """The scope holds while what was returned is awaited, however the function was made."""
    with context(user_id="ada"):
        around = bind(function) if way == "bind" else context(user_id="ada")(function)
    assert await around() == ("ada", None)
    assert who() == (None, None)


def _steps() -> Iterator[tuple[str | None, str | None]]:
    yield who()
    yield who()


def _soon_late_steps() -> Any:
    return _late_steps()


def _soon_steps() -> Any:
    return _steps()


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["context", "bind"])
@pytest.mark.parametrize("function", [_late_steps, partial(_late_steps), _soon_late_steps])
async def test_functions_that_return_an_async_generator(way: str, function: Any) -> None:
    """The same for each step of an asynchronous generator."""
    with context(user_id="ada"):
        around = bind(function) if way == "bind" else context(user_id="ada")(function)
    assert [step async for step in around()] == [("ada", None)]
    assert who() == (None, None)


@pytest.mark.parametrize("way", ["context", "bind"])
@pytest.mark.parametrize("function", [_steps, partial(_steps), _soon_steps])
def test_functions_that_return_a_generator(way: str, function: Any) -> None:
    """The same for each step of a generator."""
    with context(user_id="ada"):
        around = bind(function) if way == "bind" else context(user_id="ada")(function)
    for step in around():
        assert step == ("ada", None)
        assert who() == (None, None)


def test_the_last_turn_of_the_context_around() -> None:
    """In a context in which no model was called yet, the last turn is that of the one around it."""
    with context(user_id="ada"):
        scope.note_turn("a turn")
        with context(thread_id="b"):
            assert scope.last_turn() == "a turn"
