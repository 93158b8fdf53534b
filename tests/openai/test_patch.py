"""The patch is put on once and taken off cleanly, whoever else is there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import openai
import pytest
import wrapt
from openai._models import FinalRequestOptions
from openai.types.chat import ChatCompletionChunk
from openai_wire import chat_chunks, chat_completion

from tests.openai.asking import MODES, Mode, client_of, close_client, settled
from tests.replies import chat_stream, json_reply
from trubrics_instrument import _public, context, patch_openai, suppress, unpatch_openai
from trubrics_instrument._base import shield
from trubrics_instrument._base.wrapper import around
from trubrics_instrument._observing.methods import MethodPatch, PatchPoint
from trubrics_instrument._observing.observer import Observer
from trubrics_instrument.providers.openai import _request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.loopback import Loopback
    from tests.sink import Sink

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    """Give a client whose server always answers."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    with client_of(server, "sync") as ready:
        yield ready


def count_events(sink: Sink, ask: Callable[[], object]) -> int:
    """Return how many events one call makes."""
    before = _public.stats().accepted
    ask()
    assert _public.flush(5)
    accepted = _public.stats().accepted
    assert len(sink.wait_for(accepted)) == accepted
    return accepted - before


def is_clean() -> bool:
    """Whether nothing of ours is left on the SDK's classes."""
    return "request" not in vars(openai.OpenAI) and not isinstance(
        vars(openai.Stream)["close"], wrapt.ObjectProxy
    )


def test_twice_is_once(sink: Sink, client: Any) -> None:
    """A second patch changes what the first was told, and observes nothing twice."""
    first = patch_openai(user_id="ada")
    second = patch_openai(user_id="bob")
    assert first is second
    assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2
    assert {event["user_id"] for event in sink.events} == {"bob"}
    first.undo()
    assert is_clean()


@pytest.mark.parametrize("undo", ["function", "method", "context manager"])
def test_undo(undo: str, sink: Sink, client: Any) -> None:
    """Each way of taking it off leaves the SDK's classes as they were; twice is as good as once."""
    if undo == "context manager":
        with patch_openai() as patch:
            assert patch.active
    else:
        patch = patch_openai()
        for _ in range(2):
            unpatch_openai() if undo == "function" else patch.undo()
    assert is_clean()
    assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 0
    patch_openai()
    assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2


def test_a_block_inside(sink: Sink, client: Any) -> None:
    """After a block the patch is as it was before: on, for whom it was."""
    ask = partial(client.chat.completions.create, **ASK)
    patch_openai(user_id="ada")
    with patch_openai(user_id="bob"):
        ask()
        with patch_openai(user_id="cleo"):
            ask()
        ask()
    assert count_events(sink, ask) == 2
    assert [one["user_id"] for one in sink.events[::2]] == ["bob", "cleo", "bob", "ada"]
    with patch_openai(user_id="bob"):
        unpatch_openai()
        assert is_clean()
    assert count_events(sink, ask) == 2
    assert sink.events[-1]["user_id"] == "ada"
    unpatch_openai()
    assert is_clean()


@pytest.mark.parametrize("entered", [(0, 1), (1, 0)], ids=str)
@pytest.mark.parametrize("left", [(0, 1), (1, 0)], ids=str)
def test_blocks_beside_each_other(
    entered: tuple[int, int], left: tuple[int, int], sink: Sink, client: Any
) -> None:
    """Each thread ends its own block; after the last the patch is as before all."""
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        threads = (one, other)

        def do(number: int, what: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return threads[number].submit(what, *args, **kwargs).result(10)

        patches = [do(number, patch_openai, user_id=f"user {number}") for number in (0, 1)]
        for number in entered:
            do(number, patches[number].__enter__)
        do(left[0], patches[left[0]].__exit__, None, None, None)
        assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2
        assert sink.events[-1]["user_id"] == f"user {left[1]}"
        do(left[1], patches[left[1]].__exit__, None, None, None)
    assert is_clean()


def test_blocks_of_two_tasks(sink: Sink, client: Any) -> None:
    """A task ends its own block, and not one that another has begun since."""
    ask = partial(client.chat.completions.create, **ASK)

    async def both() -> None:
        ends = [asyncio.Event(), asyncio.Event()]

        async def work(number: int) -> None:
            with patch_openai(user_id=f"user {number}"):
                await ends[number].wait()

        tasks = [asyncio.ensure_future(work(number)) for number in (0, 1)]
        await asyncio.sleep(0)
        ends[0].set()
        await tasks[0]
        assert count_events(sink, ask) == 2
        assert sink.events[-1]["user_id"] == "user 1"
        ends[1].set()
        await tasks[1]

    asyncio.run(both())
    assert is_clean()


@pytest.mark.parametrize("outer", [True, False], ids=["inside another", "alone"])
def test_a_block_that_ends_in_another_task(outer: bool, sink: Sink, client: Any) -> None:
    """As one of a fixture may: it ends what was begun last, and not what is around it."""

    async def fixture() -> AsyncIterator[None]:
        with patch_openai(user_id="bob"):
            yield

    async def both() -> None:
        halves = fixture()
        await asyncio.create_task(cast("Any", anext(halves)))
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(cast("Any", anext(halves)))

    ask = partial(client.chat.completions.create, **ASK)
    with patch_openai(user_id="ada") if outer else contextlib.nullcontext():
        asyncio.run(both())
        assert count_events(sink, ask) == (2 if outer else 0)
    assert {event["user_id"] for event in sink.events} == ({"ada"} if outer else set())
    assert is_clean()


@pytest.mark.parametrize("again", [True, False], ids=["and again", "once"])
def test_a_block_that_ends_before_another_begins(again: bool, sink: Sink, client: Any) -> None:
    """Between the two halves of `with patch_openai()`, others may end theirs: each has its own."""
    ask = partial(client.chat.completions.create, **ASK)
    with ThreadPoolExecutor(1) as other:
        with patch_openai(user_id="bob"):
            patch = other.submit(patch_openai, user_id="ann").result()
            if again:
                patch_openai(user_id="cid").__enter__().__exit__(None, None, None)
        other.submit(patch.__enter__).result()
        assert count_events(sink, ask) == 2
        assert sink.events[-1]["user_id"] == "ann"
        other.submit(patch.__exit__, None, None, None).result()
    assert is_clean()


def test_one_patch_as_a_block_of_several_tasks(sink: Sink, client: Any) -> None:
    """Each task has a block, though the patch was put on before both: it ends with the last."""
    patch = patch_openai(user_id="ada")
    ask = partial(client.chat.completions.create, **ASK)

    async def both() -> None:
        ended = asyncio.Event()

        async def first() -> None:
            with patch:
                await asyncio.sleep(0)
            ended.set()

        async def second() -> None:
            with patch:
                await ended.wait()
                assert count_events(sink, ask) == 2

        await asyncio.gather(first(), second())

    asyncio.run(both())
    assert is_clean()


def test_a_patch_that_was_put_on_for_good_as_a_block(sink: Sink, client: Any) -> None:
    """It is on in the block, for whom it was said, whatever blocks came before; and then off."""
    ask = partial(client.chat.completions.create, **ASK)
    patch = patch_openai(user_id="ada")
    with patch_openai(user_id="bob"):
        pass
    with patch:
        assert count_events(sink, ask) == 2
    assert sink.events[-1]["user_id"] == "ada"
    assert is_clean()


def test_a_block_that_ends_elsewhere_beside_one_that_goes_on(sink: Sink, client: Any) -> None:
    """What a server begins in one task and ends in another is not a block of a third."""

    async def server() -> AsyncIterator[None]:
        with patch_openai(user_id="server"):
            yield

    async def main() -> None:
        halves = server()
        await asyncio.create_task(cast("Any", anext(halves)))
        begun, ended = asyncio.Event(), asyncio.Event()

        async def request() -> None:
            with patch_openai(user_id="eve"):
                begun.set()
                await ended.wait()
                assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2

        asked = asyncio.create_task(request())
        await begun.wait()
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(cast("Any", anext(halves)))
        ended.set()
        await asked

    asyncio.run(main())
    assert sink.events[-1]["user_id"] == "eve"
    assert is_clean()


def test_a_block_that_ends_in_another_thread(sink: Sink, client: Any) -> None:
    """As one of a web framework's dependency may, that runs on a pool of threads."""
    patch = patch_openai()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(patch.__enter__).result()
        other.submit(patch.__exit__, None, None, None).result()
    assert is_clean()


def test_what_is_put_on_and_taken_off_in_a_block(sink: Sink, client: Any) -> None:
    """What was put on in it for good, and taken off again, is not on after it."""
    with patch_openai(user_id="ada"):
        patch_openai(user_id="bob")
        unpatch_openai()
        assert is_clean()
    assert is_clean()


def test_all_is_taken_off_while_a_block_is_open(sink: Sink, client: Any) -> None:
    """That block ends itself, and no other that has begun since."""
    before, since = ExitStack(), ExitStack()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(before.enter_context, patch_openai(user_id="ada")).result()
        unpatch_openai()
        assert is_clean()
        other.submit(lambda: since.enter_context(patch_openai(user_id="bob"))).result()
        one.submit(before.close).result()
        assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2
        assert sink.events[-1]["user_id"] == "bob"
        other.submit(since.close).result()
    assert is_clean()


def test_only_so_many_patches_for_good_are_remembered() -> None:
    """An app that patches with every request keeps no memory of all."""
    for number in range(299):
        patch_openai(user_id=f"user {number}")
    patch = patch_openai(user_id="user 299")
    assert isinstance(patch, MethodPatch)
    assert len(patch._open) <= 101
    assert patch.observer.user_id == "user 299"


def test_a_block_of_a_patch_that_is_off(sink: Sink, client: Any) -> None:
    """It is off in the block, and after it, whatever was on before it was taken off."""
    patch_openai(user_id="ada")
    patch = patch_openai(user_id="bob")
    patch.undo()
    with patch:
        assert is_clean()
    assert is_clean()
    patch_openai(user_id="ada")
    with patch:
        pass
    with patch:
        pass
    assert is_clean()


def test_what_was_taken_before(sink: Sink, client: Any) -> None:
    """Bound methods, partials and raw wrappers from before the patch are seen, and silent after."""
    ways: list[Callable[[], object]] = [
        partial(client.chat.completions.create, **ASK),
        partial(client.chat.completions.with_raw_response.create, **ASK),
        lambda: client.post("/chat/completions", body=ASK, cast_to=object),
        lambda: client.post("chat/completions/", body=ASK, cast_to=object),
        lambda: client.with_options(timeout=9).chat.completions.create(**ASK),
    ]
    patch_openai()
    assert [count_events(sink, way) for way in ways] == [2] * len(ways)
    unpatch_openai()
    assert [count_events(sink, way) for way in ways] == [0] * len(ways)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("{host}/v1/chat/completions", True),
        ("{host}/v1/chat/completions?api-version=1#top", True),
        ("{host}/chat/completions", True),
        ("/more/v1/chat/completions", True),
        ("{host}/openai/deployments/gpt/chat/completions", True),
        ("{host}/v1/chat/completions/chatcmpl-1", False),
        ("{host}/v1/chat/completions/count", False),
        ("{host}/survey/responses", False),
    ],
)
@pytest.mark.anyio
async def test_addresses_in_full(
    path: str, asks: bool, mode: Mode, sink: Sink, server: Loopback
) -> None:
    """What an app posts by itself is observed below any address, if it looks like a question."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    client: Any = client_of(server, mode, base_url="http://127.0.0.1:9/v1")
    patch_openai()
    host = server.url if "{host}" in path else ""
    if not host:
        client.base_url = server.url
    body = {key: value for key, value in ASK.items() if "deployments" not in path or key != "model"}
    if "survey" in path:
        body = {"answers": [1, 2]}
    answer = await settled(client.post(path.format(host=host), body=body, cast_to=object))
    assert answer["choices"][0]["message"]["content"] == "Hello"
    await close_client(client)
    assert _public.flush(5)
    named = {(one["event"], one["properties"]["provider"]) for one in sink.events}
    assert named == ({("Prompt", "127.0.0.1"), ("Generation", "127.0.0.1")} if asks else set())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.anyio
async def test_the_provider_of_an_address_in_full(mode: Mode, sink: Sink, server: Loopback) -> None:
    """It is the host of the request, and not that of the client."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    client: Any = client_of(server, mode, base_url="https://api.openai.com/v1")
    patch_openai()
    await settled(client.post(f"{server.base_url}/chat/completions", body=ASK, cast_to=object))
    await close_client(client)
    assert [one["properties"]["provider"] for one in sink.wait_for(2)] == ["127.0.0.1"] * 2


def test_a_stream_that_only_the_app_knows_of(sink: Sink, server: Loopback) -> None:
    """An app that posts by itself may say to the SDK alone that the answer is a stream."""
    patch_openai()
    server.script(chat_stream(chat_chunks("Hello")))
    kind: Any = openai.Stream[ChatCompletionChunk]
    with client_of(server, "sync") as client:
        asked = {"body": ASK, "cast_to": ChatCompletionChunk, "stream": True, "stream_cls": kind}
        assert list(client.post("/chat/completions", **asked))
    assert [event["properties"].get("stream") for event in sink.wait_for(2)] == [True, True]


def test_the_apps_own_options(sink: Sink, client: Any) -> None:
    """Options that the app made itself stay as they are, and may be used again."""
    options = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=ASK)
    before = dict(vars(options))
    patch_openai()
    assert count_events(sink, partial(client.request, object, options)) == 2
    assert count_events(sink, partial(client.request, cast_to=object, options=options)) == 2
    assert vars(options) == before


@pytest.mark.parametrize("theirs_first", [True, False])
@pytest.mark.parametrize("ours_leaves_first", [True, False])
def test_beside_another_patch(
    theirs_first: bool, ours_leaves_first: bool, sink: Sink, client: openai.OpenAI
) -> None:
    """Beside another wrapper, in every order, both see each call once, and both can leave."""
    seen: list[str] = []

    def theirs(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        seen.append("theirs")
        return wrapped(*args, **kwargs)

    original = vars(openai.OpenAI).get("request")
    steps: list[Callable[[], object]] = [
        lambda: wrapt.wrap_function_wrapper("openai", "OpenAI.request", theirs),
        patch_openai,
    ]
    for step in steps if theirs_first else reversed(steps):
        step()
    assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2
    assert seen == ["theirs"]
    if ours_leaves_first:
        unpatch_openai()
        assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 0
        assert seen == ["theirs", "theirs"]
    assert original is None
    del openai.OpenAI.request
    unpatch_openai()
    assert is_clean()


@pytest.mark.parametrize("way", ["put back", "deleted", "in a call"])
def test_others_throw_ours_away(way: str, sink: Sink, client: Any, server: Loopback) -> None:
    """Whoever puts back the method that was there before us, does not take us off."""
    ask = partial(client.chat.completions.create, **ASK)
    found = openai.OpenAI.request
    patch_openai()

    def put_back(_: object = None) -> Any:
        openai.OpenAI.request = found  # type: ignore[method-assign] # as others do
        return json_reply(chat_completion("Hello"))

    if way == "put back":
        put_back()
    elif way == "deleted":
        del openai.OpenAI.request
    else:
        server.always(put_back)
        assert count_events(sink, ask) == 2
    assert count_events(sink, ask) == 2
    unpatch_openai()
    assert vars(openai.OpenAI).get("request", found) is found
    assert count_events(sink, ask) == 0
    put_back()
    assert count_events(sink, ask) == 0
    del openai.OpenAI.request
    assert is_clean()


def layers(function: Any) -> int:
    """Return how many wrappers of ours lie around a function."""
    return 0 if function is None else _is_ours(function) + layers(_wrapped(function))


def _is_ours(function: Any) -> bool:
    return hasattr(function, "_self_trubrics_patch")


def _wrapped(function: Any) -> Any:
    return getattr(function, "__wrapped__", None)


class InTurns(ModuleType):
    """A module with a function; while it is looked up to be wrapped, another thread patches too."""

    patch: MethodPatch
    looked_up = 0
    other: threading.Thread

    @property
    def function(self) -> Any:
        """The function, as it was when somebody asked for it."""
        found = vars(self)["function"]
        self.looked_up += 1
        if self.looked_up == 2:  # the one that counts
            self.other = threading.Thread(target=self.patch.put_on, args=(Observer(),))
            self.other.start()
            self.other.join(0.2)
        return found

    @function.setter
    def function(self, value: Any) -> None:
        vars(self)["function"] = value


def test_threads_that_patch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that patch at the same time, one does, and one sees that it is done."""
    module = InTurns("in_turns")
    module.function = len
    monkeypatch.setitem(sys.modules, "in_turns", module)
    module.patch = MethodPatch([PatchPoint("in_turns", "function", _request.close)])
    module.patch.put_on(Observer())
    module.other.join()
    assert layers(module.function) == 1
    module.patch.undo()
    assert module.function is len


def test_patched_while_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who patches while another thread imports waits for it, and does not stand in its way."""
    source = "import sys\nsys.imports_go_on()\ndef function(): pass\n"
    (tmp_path / "imported_slowly.py").write_text(source)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    begun, may_go = threading.Event(), threading.Event()

    def imports_go_on() -> None:
        begun.set()
        assert may_go.wait(10)

    monkeypatch.setattr(sys, "imports_go_on", imports_go_on, raising=False)
    patch = MethodPatch([PatchPoint("imported_slowly", "function", _request.close)])
    patch.put_on(Observer())
    importing = threading.Thread(
        target=importlib.import_module, args=("imported_slowly",), daemon=True
    )
    importing.start()
    assert begun.wait(10)
    patching = threading.Thread(target=patch.put_on, args=(Observer(),), daemon=True)
    patching.start()
    patching.join(0.2)
    may_go.set()
    for thread in (importing, patching):
        thread.join(10)
        assert not thread.is_alive()
    assert layers(sys.modules.pop("imported_slowly").function) == 1


@pytest.mark.parametrize("module", ["openai", "openai.lib.streaming.chat"])
def test_a_module_that_may_not_be_imported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an app forbids a module, to patch it is a fault of ours, and none of the app's."""
    shield.set_strict(strict=False)
    monkeypatch.setitem(sys.modules, module, None)
    patch_openai()
    assert _public.stats().faults == {f"patching {module}": 1}


def test_put_on_again_while_others_hold_it(sink: Sink, client: Any) -> None:
    """If somebody holds our wrapper, but has taken it away, patching again puts it back."""
    patch_openai()
    held = vars(openai.OpenAI)["request"]
    del openai.OpenAI.request
    assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 0
    patch_openai()
    assert vars(openai.OpenAI)["request"] is not held
    assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2


def test_a_stand_in_for_what_is_inherited(sink: Sink, client: Any) -> None:
    """A stand-in on the SDK's base class stands in, put on before us or after."""
    ask = partial(client.chat.completions.create, **ASK)
    base = openai.OpenAI.__mro__[1]
    with patch_openai(), mock.patch.object(base, "request", return_value="stand-in"):
        assert ask() == "stand-in"
    assert is_clean()
    with mock.patch.object(openai.OpenAI, "request", return_value="stand-in"):
        patch = patch_openai()
        patch.undo()
    assert count_events(sink, ask) == 0


def test_a_class_that_borrows_the_method() -> None:
    """To what is no client of the SDK's, its method says what it said before."""

    def refusal() -> str:
        class Borrower:
            request: Any = openai.OpenAI.request

        with pytest.raises(AttributeError) as refused:
            Borrower().request(dict, FinalRequestOptions(method="get", url="/models"))
        return str(refused.value)

    before = refusal()
    patch_openai()
    assert refusal() == before


def test_a_module_of_another_kind_is_one_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that has the name of an SDK lacks all of its methods: that is said once."""
    shield.set_strict(strict=False)
    (tmp_path / "no_such_sdk.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.import_module("no_such_sdk")
    points = [PatchPoint("no_such_sdk", name, around(mock.Mock())) for name in ("ask", "tell")]
    MethodPatch(points).put_on(Observer())
    assert shield.faults() == {"patching no_such_sdk": 2}


def test_what_stands_in_for_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is patched under the name by which it is imported: it may know of another, or of none."""
    module: Any = ModuleType("another_name")
    module.function = len
    monkeypatch.setitem(sys.modules, "stands_in", module)
    monkeypatch.setitem(sys.modules, "mocked", mock.MagicMock())
    points = [PatchPoint(name, "function", _request.close) for name in ("stands_in", "mocked")]
    MethodPatch(points).put_on(Observer())
    assert layers(module.function) == 1
    assert shield.faults() == {}


def test_nothing_is_imported_to_be_patched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the app has not imported may stay so."""
    (tmp_path / "never_wanted.py").write_text("def ask(): ...")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    MethodPatch([PatchPoint("never_wanted", "ask", around(mock.Mock()))]).put_on(Observer())
    assert "never_wanted" not in sys.modules


def test_undone_while_somebody_stands_in(sink: Sink, client: Any) -> None:
    """What a stand-in has put back after us does nothing, and goes with the next undo."""
    ask = partial(client.chat.completions.create, **ASK)
    base = openai.OpenAI.__mro__[1]
    patch = patch_openai()
    with mock.patch.object(openai.OpenAI, "request", return_value="stand-in"):
        patch.undo()
    assert count_events(sink, ask) == 0
    with mock.patch.object(base, "request", return_value="stand-in"):
        assert ask() == "stand-in"
    patch_openai()
    assert count_events(sink, ask) == 2
    assert layers(vars(openai.OpenAI)["request"]) == 1
    unpatch_openai()
    assert is_clean()


def test_a_subclass_and_azure(sink: Sink, server: Loopback) -> None:
    """Subclasses and Azure's client go through the same method."""

    class Mine(openai.OpenAI):
        """An app's own client."""

    server.always(lambda _: json_reply(chat_completion("Hello")))
    patch_openai()
    mine = Mine(base_url=server.base_url, api_key="k")
    azure = openai.AzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2024-10-21")
    for client in (mine, azure):
        assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2
        client.close()
    providers = [event["properties"]["provider"] for event in sink.events]
    assert providers == ["127.0.0.1", "127.0.0.1", "azure", "azure"]


def test_suppressed(sink: Sink, client: Any) -> None:
    """`suppress()` and `enabled=False` silence what happens inside, and nothing else."""
    patch_openai()
    ask = partial(client.chat.completions.create, **ASK)
    with suppress(), context(user_id="ada"):
        assert count_events(sink, ask) == 0
    with context(enabled=False):
        assert count_events(sink, ask) == 0
    assert count_events(sink, ask) == 2


def test_other_endpoints_are_left_alone(sink: Sink, server: Loopback) -> None:
    """What answers no user is not observed."""
    embedding = {"object": "embedding", "index": 0, "embedding": [0.5]}
    server.always(lambda _: json_reply({"object": "list", "data": [embedding], "model": "m"}))
    patch_openai()
    client = client_of(server, "sync")
    assert count_events(sink, client.models.list) == 0
    assert count_events(sink, lambda: client.embeddings.create(model="m", input="x")) == 0
    client.close()


def test_peeking_at_a_stream(sink: Sink, server: Loopback) -> None:
    """An app may take the first piece with `next()` and loop over the rest: nothing is lost."""
    server.always(lambda _: chat_stream(chat_chunks("One two three")))
    client = client_of(server, "sync")
    whole: list[Any] = list(client.chat.completions.create(**ASK, stream=True))
    patch_openai()
    stream = client.chat.completions.create(**ASK, stream=True)
    kind: Any = openai.Stream
    assert isinstance(stream, kind)
    assert [next(iter(stream)), *stream] == whole
    assert sink.wait_for(2)[1]["properties"]["$text"] == "One two three"
    client.close()


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_before_the_import(when: str, sink: Sink, server: Loopback) -> None:
    """It may be patched before openai is imported; patching does not import it."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    patch = "import trubrics_instrument as t; t.patch_openai()\n"
    ask = (
        f"client = openai.OpenAI(base_url={server.base_url!r}, api_key='k')\n"
        f"client.chat.completions.create(**{ASK!r})\n"
    )
    program = {
        "before": f"{patch}import openai\n{ask}",
        "after": f"import openai\n{patch}{ask}",
        "never": f"{patch}import sys; assert 'openai' not in sys.modules",
    }[when]
    environment = {"TRUBRICS_HOST": sink.host, "TRUBRICS_SPOOL": "off", "PYTHONPATH": "."}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    if when != "never":
        assert [event["event"] for event in sink.wait_for(2)] == ["Prompt", "Generation"]
    assert len(sink.events) == (0 if when == "never" else 2)


def test_nothing_is_left_for_the_garbage_collector(sink: Sink, client: Any) -> None:
    """A call that is over is freed at once: no circle of ours waits for the garbage collector."""
    patch_openai()
    gc.collect()
    gc.disable()
    try:
        assert count_events(sink, partial(client.chat.completions.create, **ASK)) == 2
        assert [one for one in gc.get_objects() if type(one) is _request.Request] == []
    finally:
        gc.enable()


def test_bad_arguments() -> None:
    """An impossible key, host or property is refused when patching, and nothing is patched then."""
    with pytest.raises(ValueError, match="api_key is empty"):
        patch_openai(api_key=" ")
    with pytest.raises(ValueError, match="host='nowhere' is no http"):
        patch_openai(host="nowhere")
    with pytest.raises(ValueError, match="properties must be a dict, not list"):
        patch_openai(properties=["web"])  # type: ignore[arg-type] # that is the test
    assert is_clean()
