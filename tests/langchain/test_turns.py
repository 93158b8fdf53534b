"""Turns that span several runs, or only a part of one."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import copy
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tests.langchain.chains import (
    ANSWER,
    GIVEN,
    MESSAGE,
    QUESTION,
    TEMPLATE,
    WORDS,
    chain,
    model,
    refusing,
)
from tests.langchain.driving import (
    FULL_REPORTS,
    Mode,
    assert_nothing_left,
    drive,
    generation,
    let_go,
    prompt,
    tokens,
    tool_call,
    turns_told,
)
from tests.langchain.models import Refused, Scripted, Stuck, calls, says
from trubrics_instrument import TrubricsCallbackHandler, configure, context

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

STREAM = {"stream": True}
NO_TOKENS: dict[str, Any] = dict.fromkeys(tokens(1))


def known(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what is unknown."""
    return {key: value for key, value in event.items() if value is not None}


def handler(**more: Any) -> Any:
    """Return a config with a handler."""
    arguments: dict[str, Any] = {"user_id": "ada", "thread_id": "t-1", **more}
    return {"callbacks": [TrubricsCallbackHandler(**arguments)]}


@pytest.mark.parametrize("wrapped", [False, True], ids=["model", "chain"])
@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
async def test_tools_run_by_the_app(wrapped: bool, mode: Mode, sink: Sink) -> None:
    """The app's own tool loop is one turn, whether it asks the model or a chain around it."""
    talker = Scripted(rule=calls("weather", then=ANSWER))
    runnable = (lambda messages: messages) | talker if wrapped else talker
    messages: list[Any] = [HumanMessage(QUESTION)]
    config = handler()
    await drive(mode, runnable, messages, config)
    use = {"name": "weather", "args": {"x": "1"}, "id": "call-weather"}
    messages += [AIMessage("", tool_calls=[use]), ToolMessage("sun", tool_call_id="call-weather")]
    await drive(mode, runnable, messages, config)
    streamed = STREAM if "stream" in mode else {}
    assert turns_told(sink) == [
        [
            prompt(QUESTION),
            tool_call("weather", tool_call_id="call-weather", **tokens(1), **streamed),
            generation(ANSWER, model_calls=2, tool_calls=1, **MESSAGE, **streamed),
        ]
    ]


async def test_granularity_call(sink: Sink) -> None:
    """With granularity="call", each call of a model is a turn, and nothing else is told."""
    await drive(
        "invoke", {"question": chain("Tram?")} | chain(), GIVEN, handler(granularity="call")
    )
    assert turns_told(sink) == [
        [prompt(f"The question is: {QUESTION}"), generation("Tram?", **MESSAGE)],
        [prompt("The question is: Tram?"), generation(ANSWER, **MESSAGE)],
    ]


async def test_several_choices(sink: Sink) -> None:
    """A model that gives several answers is told with each, under its message's own id."""

    class Two(Scripted):
        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=self.rule([])) for _ in "ab"])

    asked = Two(rule=says(ANSWER))
    result = asked.generate([[HumanMessage(QUESTION)]], callbacks=handler()["callbacks"])
    [turn] = turns_told(sink)
    second = {**generation(ANSWER, **MESSAGE), **NO_TOKENS}
    assert turn == [prompt(QUESTION), generation(ANSWER, **MESSAGE), known(second)]
    seen = [one.message.id for one in result.generations[0]]  # type: ignore[union-attr] # chat
    assert [event["properties"].get("$generation_id") for event in sink.events[1:]] == seen


async def test_visible_id(sink: Sink) -> None:
    """The answer's id is the message's where the app sees one, and the prompt's is the run's."""
    run_id = uuid.uuid4()
    config: Any = {**handler(), "run_id": run_id}
    message = model().invoke(QUESTION, config)
    turns_told(sink)
    first, last = sink.events
    assert first["properties"]["$prompt_id"] == str(run_id)
    assert last["properties"]["$generation_id"] == message.id


@FULL_REPORTS
async def test_cache(sink: Sink) -> None:
    """An answer out of the cache is told as such, and its tokens are not counted again."""
    talker = model()
    talker.cache = InMemoryCache()
    talker.invoke(QUESTION, handler())
    talker.invoke(QUESTION, handler())
    cached = {**generation(ANSWER, **MESSAGE), **NO_TOKENS, "cached": True}
    assert turns_told(sink) == [
        [prompt(QUESTION), generation(ANSWER, **MESSAGE)],
        [prompt(QUESTION), known(cached)],
    ]


@FULL_REPORTS
async def test_stream_left_early(sink: Sink) -> None:
    """A stream that the app leaves is told with what had come by then."""
    stream = (TEMPLATE | model("One two three") | WORDS).astream(GIVEN, handler())
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined] # it is an asynchronous generator
    del stream
    await let_go()
    [[_, last]] = turns_told(sink)
    assert last["status"] == "incomplete"
    assert "One two three".startswith(last["$text"].strip())
    assert_nothing_left()


@FULL_REPORTS
async def test_bare_stream_left_early(sink: Sink) -> None:
    """The same for a model's own stream, in either kind."""
    for _ in model("One two three").stream(QUESTION, handler(thread_id="t-1")):
        break
    async for _ in model("One two three").astream("And then?", handler()):
        break
    await let_go()
    turns = turns_told(sink)
    expected = {**generation("One ", status="incomplete", **MESSAGE, **STREAM), **NO_TOKENS}
    assert turns == [
        [prompt(QUESTION), known(expected)],
        [prompt("And then?"), known(expected)],
    ]
    assert_nothing_left()


@pytest.mark.parametrize("wrapped", [False, True], ids=["model", "chain"])
async def test_cancelled(wrapped: bool, sink: Sink) -> None:
    """A call that is cancelled ends its turn, though LangChain may report no end at all."""
    stuck = Stuck(rule=says(ANSWER))
    runnable: Any = TEMPLATE | stuck if wrapped else stuck
    task = asyncio.ensure_future(runnable.ainvoke(GIVEN if wrapped else QUESTION, handler()))
    await asyncio.to_thread(sink.wait_for, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await let_go()
    expected = {**generation(None, status="incomplete"), **NO_TOKENS}
    assert turns_told(sink) == [[prompt(QUESTION), known(expected)]]
    assert_nothing_left()


async def test_retry_by_the_app(sink: Sink) -> None:
    """The same request again after a failure is the same prompt."""
    with pytest.raises(Refused):
        refusing().invoke(QUESTION, handler())
    model().invoke(QUESTION, handler())
    [turn] = turns_told(sink)
    assert [one["event"] for one in turn] == ["Prompt", "Generation failed", "Generation"]


@pytest.mark.parametrize("left", [True, False], ids=["left", "failed"])
async def test_retry_of_a_stream(left: bool, sink: Sink) -> None:
    """What was streamed, whose question comes late, is the same prompt when it is asked whole."""
    history = [("user", "Hello."), ("assistant", ANSWER)]
    given = {**GIVEN, "chat_history": history}
    TEMPLATE.pipe(model()).invoke({"question": "Hello."}, handler())
    first = TEMPLATE | (model() if left else refusing())
    with nullcontext() if left else pytest.raises(Refused):
        next(first.stream(given, handler()))
    await let_go()
    TEMPLATE.pipe(model()).invoke(given, handler())
    [_, turn] = turns_told(sink)
    ended = "Generation" if left else "Generation failed"
    assert [one["event"] for one in turn] == ["Prompt", ended, "Generation"]


async def test_broken_stream(sink: Sink) -> None:
    """A stream that breaks is told as a failure, with the text so far."""
    talker = Scripted(rule=says("One two three"), stop_after=2)
    with pytest.raises(Refused):
        list(talker.stream("And the tram?", handler()))
    with pytest.raises(Refused):
        list((TEMPLATE | talker | WORDS).stream(GIVEN, handler()))
    for turn in turns_told(sink):
        assert [one["event"] for one in turn] == ["Prompt", "Generation failed"]
        assert turn[1]["$text"] == "One two "
        assert turn[1]["error_type"] == "Refused"
    assert_nothing_left()


async def test_context_prompt(sink: Sink) -> None:
    """`context(prompt=...)` says what the user typed, where the app asks something longer."""
    with context(prompt="Tram?", prompt_id="p-1", generation_id="g-1"):
        chain().invoke(GIVEN, handler())
    turns_told(sink)
    first, last = (event["properties"] for event in sink.events)
    assert (first["$text"], first["$prompt_id"]) == ("Tram?", "p-1")
    assert (last["$text"], last["$generation_id"]) == (ANSWER, "g-1")


async def test_same_run_id_again(sink: Sink) -> None:
    """A run id that the app uses again names a new run."""
    run_id = uuid.uuid4()
    for _ in range(2):
        chain().invoke(GIVEN, {**handler(), "run_id": run_id})
    turns_told(sink)
    assert [one["event"] for one in sink.events] == ["Prompt", "Generation"] * 2


async def test_same_handler_twice(sink: Sink) -> None:
    """The same handler twice, and two handlers, tell a run once."""
    one, two = TrubricsCallbackHandler("ada"), TrubricsCallbackHandler("bob")
    configs: list[Any] = [{"callbacks": [one, one]}, {"callbacks": [one, two]}]
    for config in configs:
        chain().invoke(GIVEN, config)
        await chain().ainvoke(GIVEN, config)
        list(model().stream(QUESTION, config))
    turns_told(sink)
    assert {event["user_id"] for event in sink.events} == {"ada"}
    assert [one["event"] for one in sink.events] == ["Prompt", "Generation"] * 6


def test_copies() -> None:
    """A copy of a handler is the handler: apps copy their configs, deeply."""
    one = TrubricsCallbackHandler("ada")
    assert copy.deepcopy({"callbacks": [one]})["callbacks"][0] is one
    assert copy.copy(one) is one


@pytest.mark.parametrize(
    "wrong",
    [
        {"granularity": "span"},
        {"input_key": 1},
        {"output_key": ["x"]},
        {"api_key": ""},
        {"host": "nowhere"},
    ],
)
def test_impossible_arguments(wrong: dict[str, Any]) -> None:
    """An impossible argument raises at once, and names itself."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrubricsCallbackHandler(**wrong)


@pytest.mark.parametrize(("second", "cost"), [("model-1", True), ("model-2", False)])
async def test_what_a_turn_of_several_models_cost(second: str, cost: bool, sink: Sink) -> None:
    """Tokens of one model have a price, however often it is called; those of several have none."""
    prices = {"model-1": (1.0, 2.0), "model-2": (10.0, 20.0)}
    configure(host=sink.host, prices=prices)
    both = model() | (lambda message: message.content) | model(name=second)
    await drive("invoke", both, QUESTION, {"callbacks": [TrubricsCallbackHandler()]})
    ((_, answer),) = turns_told(sink)
    assert ("cost_usd" in answer) is cost
    assert answer["model_calls"] == 2


async def test_any_run_id(sink: Sink) -> None:
    """A run id that is no UUID, and cannot be watched, names its run all the same."""
    about: Any = {**handler(), "run_id": "run-1"}
    chain().invoke(GIVEN, about)
    turns_told(sink)
    assert [one["properties"]["$prompt_id"] for one in sink.events] == ["run-1"] * 2
    assert_nothing_left()
