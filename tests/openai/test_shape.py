"""The SDK looks as it does without the patch, and what apps build on it is seen."""

from __future__ import annotations

import copy
import inspect
import pickle
import typing
from typing import TYPE_CHECKING, Any
from unittest import mock

import openai
import pytest
from openai.resources.chat.completions import Completions
from openai_wire import chat_chunks, chat_completion
from responses_wire import response_object

from tests.openai.asking import MODES, Mode, client_of, close_client, needs, settled
from tests.replies import chat_stream, error_reply, json_reply
from trubrics_instrument import flush, patch_openai, stats, unpatch_openai
from trubrics_instrument._base.wrapper import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("mode", MODES)
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]
ASK: dict[str, Any] = {"model": "m", "messages": MESSAGES}
SDK: Any = openai
PATCHED: tuple[Callable[[], Any], ...] = (
    lambda: openai.OpenAI.request,
    lambda: openai.AsyncOpenAI.request,
    lambda: SDK.Stream.close,
    lambda: SDK.AsyncStream.close,
)
LOOKS: dict[str, Callable[[Any], Any]] = {
    "signature": inspect.signature,
    "type hints": typing.get_type_hints,
    "coroutine function": inspect.iscoroutinefunction,
    "function": inspect.isfunction,
    "source": inspect.getsource,
    "name": lambda method: (method.__module__, method.__qualname__, method.__doc__),
    "copy": lambda method: copy.copy(method) == method,
    "deep copy": lambda method: copy.deepcopy([method]) == [method],
    "pickle": lambda method: pickle.loads(pickle.dumps(method)) == method,
}


def heard(sink: Sink) -> list[tuple[Any, ...]]:
    """Return user, event, text and model of all events."""
    assert flush(5)
    assert stats().faults == {}
    return [
        (
            event["user_id"],
            event["event"],
            event["properties"].get("$text"),
            event["properties"].get("model"),
        )
        for event in sink.events
    ]


def told_of(text: str, answer: str = "Hello", model: str = "m") -> list[tuple[Any, ...]]:
    """Return what is told of a question and its answer."""
    return [("ada", "Prompt", text, model), ("ada", "Generation", answer, model)]


@pytest.fixture
def answering(server: Loopback) -> Loopback:
    """Give a server that always answers."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    return server


@pytest.mark.parametrize("look", LOOKS)
def test_what_an_app_sees_of_the_methods(look: str) -> None:
    """Whoever looks at the methods sees the SDK's own, whoever else has looked at our wrappers."""
    bare = [LOOKS[look](method()) for method in PATCHED]
    patch_openai()
    # As `isinstance(method, AProtocol)` does, from Python 3.12 on, with each class of it.
    assert [type(method()).__annotations__ for method in PATCHED] != bare
    assert [LOOKS[look](method()) for method in PATCHED] == bare


def test_hints_of_a_method(answering: Loopback) -> None:
    """What a client's method says of itself is the SDK's too, and who says more says it there."""
    client = client_of(answering, "sync")
    method, own = client.request, openai.OpenAI.__mro__[1]
    bare = typing.get_type_hints(method)
    patch_openai()
    assert type(client.request).__annotations__ != bare
    assert typing.get_type_hints(client.request) == bare != {}
    with mock.patch.object(openai.OpenAI.request, "__annotations__", {"return": int}):
        assert vars(own)["request"].__annotations__ == {"return": int}
    assert typing.get_type_hints(method) == bare
    client.close()


class Greeter:
    """Has a method that is wrapped."""

    def greet(self) -> int:
        """Return whose method it is."""
        return id(self)


Greeter.greet = stand_in(Greeter.greet, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))  # type: ignore[method-assign]


def pickled(value: Any) -> Any:
    """Return what becomes of a value in another process."""
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_a_copied_method(again: Callable[[Any], Any]) -> None:
    """A copy of an object's own method is the method of the object's copy."""
    greeter = Greeter()
    assert copy.copy(greeter.greet)() == id(greeter)
    other, greet = again((greeter, greeter.greet))
    assert other is not greeter
    assert greet() == id(other)


@pytest.mark.parametrize("spec", [openai.OpenAI, openai.Stream])
def test_autospec(spec: Any) -> None:
    """A mock that is made after the SDK's classes has the same attributes and refuses the same."""
    bare = dir(mock.create_autospec(spec))
    patch_openai()
    made = mock.create_autospec(spec, instance=True)
    assert dir(mock.create_autospec(spec)) == bare
    with pytest.raises(TypeError):
        made.close("too", "many")


@pytest.mark.parametrize("name", ["request", "create"])
@pytest.mark.parametrize("mocked_first", [False, True])
def test_mocked(mocked_first: bool, name: str, sink: Sink, answering: Loopback) -> None:
    """An app's mock has its say while it is on; when it is off, we see every question again."""
    owner: Any = {"request": openai.OpenAI, "create": Completions}[name]
    client = client_of(answering, "sync")
    if not mocked_first:
        patch_openai(user_id="ada")
    with mock.patch.object(owner, name, return_value="mocked"):
        if mocked_first:
            patch_openai(user_id="ada")
        assert client.chat.completions.create(**ASK) == "mocked"
    assert client.chat.completions.create(**ASK).choices[0].message.content == "Hello"
    client.close()
    assert [one for one in heard(sink) if one[1:] != ("Generation", None, "m")][-2:] == told_of(
        "Hi"
    )
    unpatch_openai()
    assert "request" not in vars(openai.OpenAI)


@BOTH
async def test_copies_of_an_answer(mode: Mode, sink: Sink, answering: Loopback) -> None:
    """An answer may be copied, pickled and dumped, and is equal to what it is without us."""
    client = client_of(answering, mode)
    bare = await settled(client.chat.completions.create(**ASK))
    patch_openai(user_id="ada")
    answer = await settled(client.chat.completions.create(**ASK))
    await close_client(client)
    for made in (answer, copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert made == bare
    assert heard(sink) == told_of("Hi")


@BOTH
async def test_what_is_sent_is_what_is_told(mode: Mode, sink: Sink, answering: Loopback) -> None:
    """`extra_body` wins over the arguments, and messages may come from a generator."""
    patch_openai(user_id="ada")
    client = client_of(answering, mode)
    other = {"model": "other", "messages": [{"role": "user", "content": "Other"}]}
    await settled(client.chat.completions.create(**ASK, extra_body=other))
    given: Any = (message for message in MESSAGES)
    await settled(client.chat.completions.create(model="m", messages=given))
    await close_client(client)
    assert [request.json for request in answering.requests] == [other, ASK]
    assert heard(sink) == [*told_of("Other", model="other"), *told_of("Hi")]


@BOTH
async def test_copies_of_a_client(mode: Mode, sink: Sink, answering: Loopback) -> None:
    """Clients made by `copy()` and `with_options()`, and their copies, are seen."""
    patch_openai(user_id="ada")
    client = client_of(answering, mode)
    for one in (client.copy(), client.with_options(timeout=9).copy(api_key="z")):
        await settled(one.chat.completions.create(**ASK))
    await close_client(client)
    assert heard(sink) == told_of("Hi") * 2


def test_the_modules_own_client(
    sink: Sink, answering: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked through the module is seen."""
    module: Any = openai
    monkeypatch.setattr(module, "api_key", "k")
    monkeypatch.setattr(module, "base_url", answering.base_url)
    module._reset_client()
    patch_openai(user_id="ada")
    module.chat.completions.create(**ASK)
    module._client.close()
    module._reset_client()
    assert heard(sink) == told_of("Hi")


@needs("beta.responses")
@BOTH
async def test_beta_responses(mode: Mode, sink: Sink, server: Loopback) -> None:
    """The beta of the Responses API is the same to us."""
    server.always(lambda _: json_reply(response_object("Hello")))
    patch_openai(user_id="ada")
    client = client_of(server, mode)
    await settled(client.beta.responses.create(model="m", input="Hi"))
    await close_client(client)
    assert heard(sink) == told_of("Hi")


class FallsBack(openai.OpenAI):
    """A client of an app's own, which asks another model where the first one fails."""

    def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
        """Ask once more."""
        try:
            return super().request(cast_to, options, **more)
        except openai.APIStatusError:
            options.json_data = {**options.json_data, "model": "second"}
            return super().request(cast_to, options, **more)


def test_a_client_that_asks_twice(sink: Sink, answering: Loopback) -> None:
    """Both calls are seen, as one question that was asked again."""
    answering.script(error_reply(500))
    patch_openai(user_id="ada")
    with FallsBack(base_url=answering.base_url, api_key="k", max_retries=0) as client:
        client.chat.completions.create(**ASK)
    assert heard(sink) == [
        ("ada", "Prompt", "Hi", "m"),
        ("ada", "Generation failed", None, "m"),
        ("ada", "Generation", "Hello", "second"),
    ]


@BOTH
async def test_the_apps_own_parser(mode: Mode, sink: Sink, answering: Loopback) -> None:
    """A parser that the app puts into its request is called with the answer, and may raise."""
    seen: list[Any] = []

    def parse(answer: Any) -> Any:
        seen.append(answer)
        raise RuntimeError("the app's own")

    patch_openai(user_id="ada")
    client = client_of(answering, mode)
    with pytest.raises(RuntimeError, match="the app's own"):
        await settled(
            client.post(
                "/chat/completions", body=ASK, cast_to=object, options={"post_parser": parse}
            )
        )
    await close_client(client)
    assert [one["choices"][0]["message"]["content"] for one in seen] == ["Hello"]
    assert heard(sink) == told_of("Hi")


@BOTH
async def test_strict_validation(mode: Mode, sink: Sink, server: Loopback) -> None:
    """An answer that the SDK itself refuses is a failure to the app, and told as one."""
    server.always(lambda _: json_reply({"id": 3, "choices": "none"}))
    patch_openai(user_id="ada")
    client = client_of(server, mode, _strict_response_validation=True)
    with pytest.raises(openai.APIResponseValidationError):
        await settled(client.chat.completions.create(**ASK))
    await close_client(client)
    assert heard(sink) == [
        ("ada", "Prompt", "Hi", "m"),
        ("ada", "Generation failed", None, "m"),
    ]


def test_lines_of_a_stream(sink: Sink, server: Loopback) -> None:
    """A stream whose response the app reads by itself is incomplete when it lets go of it."""
    server.always(lambda _: chat_stream(chat_chunks("One two")))
    patch_openai(user_id="ada")
    client = client_of(server, "sync")
    stream = client.chat.completions.create(**ASK, stream=True)
    assert len(list(stream.response.iter_lines())) > 4
    stream.close()
    client.close()
    assert [one[1:3] for one in heard(sink)] == [("Prompt", "Hi"), ("Generation", None)]
