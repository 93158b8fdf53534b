"""What the events of a turn say besides texts: when, how long, under which ids."""

# LangChain's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from pydantic import Field

from tests.langchain.chains import ANSWER, GIVEN, QUESTION, TEMPLATE, WORDS, Library, chain, model
from tests.langchain.driving import (
    IN_FUNCTIONS,
    LOST_IN_FUNCTIONS,
    STREAMED,
    Mode,
    assert_nothing_left,
    config,
    drive,
    turns_told,
)
from tests.langchain.models import Scripted, calls, says
from trubrics_instrument import TrubricsCallbackHandler, feedback, flush, suppress
from trubrics_instrument._base import shield
from trubrics_instrument.langchain.origin import origin_of
from trubrics_instrument.langchain.tools import call_id_in

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
MARKED = [pytest.param(one, marks=IN_FUNCTIONS.get(one, ())) for one in ALONE]


def told_at(event: dict[str, Any]) -> float:
    """Return when an event happened, in seconds since the epoch, to the millisecond."""
    return datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at a clock be later than the one before: a second, or a millisecond."""
    seconds, milliseconds = itertools.count(1_760_000_000), itertools.count(1)
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "perf_counter", lambda: next(milliseconds) / 1000)


class Moments:
    """Steps of a chain that note when they ran."""

    def __init__(self, clock: str) -> None:
        self.at: dict[str, float] = {}
        self._clock = clock

    def note(self, name: str) -> None:
        """Note a moment."""
        self.at[name] = getattr(time, self._clock)()

    def build(self) -> Any:
        """Return a chain of a step, a model, a tool, a model and a step."""

        @tool
        def look_up(x: str) -> str:
            """Look it up."""
            self.note("tool")
            return x

        def rule(name: str) -> Any:
            def answer(messages: Any) -> Any:
                self.note(name)
                return says(ANSWER)(messages)

            return Scripted(rule=answer)

        def first(given: Any) -> Any:
            self.note("before")
            return rule("first model").invoke(given["question"])

        def second(message: Any) -> Any:
            look_up.invoke({"x": message.content})
            answer = rule("second model").invoke("And now?")
            self.note("after")
            return answer.content

        return RunnableLambda(first) | second


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("mode", MARKED)
async def test_when(mode: Mode, sink: Sink) -> None:
    """A prompt is of the start of its turn, a tool of its own start, an answer of the end."""
    moments = Moments("time")
    moments.note("start")
    await drive(mode, moments.build(), GIVEN, config())
    assert len(turns_told(sink)) == 1
    at = {event["event"]: told_at(event) for event in sink.events}
    order = {**moments.at, **at}
    assert sorted(order, key=order.__getitem__) == [
        *("start", "Prompt", "before", "first model", "Tool call", "tool", "second model"),
        *("after", "Generation"),
    ]


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("mode", MARKED)
async def test_how_long(mode: Mode, sink: Sink) -> None:
    """The seconds of a turn are those of its root run, and stand in one event only."""
    moments = Moments("perf_counter")
    moments.note("start")
    await drive(mode, moments.build(), GIVEN, config())
    moments.note("end")
    assert len(turns_told(sink)) == 1
    at, events = moments.at, sink.events
    [(name, latency)] = [
        (event["event"], event["properties"]["latency"])
        for event in events
        if "latency" in event["properties"]
    ]
    assert name == "Generation"
    assert at["after"] - at["before"] < latency < at["end"] - at["start"]


class Slow(Scripted):
    """A model that says when it is asked, and answers when it may."""

    asked: Any
    may_answer: Any

    async def _agenerate(self, *args: Any, **more: Any) -> Any:
        self.asked.set()
        await self.may_answer.wait()
        return self._generate(*args, **more)


@LOST_IN_FUNCTIONS
@pytest.mark.parametrize("late", [False, True], ids=["in its step", "behind its step"])
async def test_a_model_in_the_background(late: bool, sink: Sink) -> None:
    """A model that a run leaves behind is a part of its turn, and adds nothing to its seconds."""
    may_ask, asked, may_answer = (asyncio.Event() for _ in range(3))
    titles: list[asyncio.Task[Any]] = []

    async def entitle() -> None:
        await may_ask.wait()
        slow = Slow(rule=says("A title"), asked=asked, may_answer=may_answer)
        await slow.ainvoke("Give this a title.")

    async def answer(question: str) -> str:
        titles.append(asyncio.create_task(entitle()))
        if not late:
            may_ask.set()
            await asked.wait()
        return str((await model().ainvoke(question)).content)

    async def go_on(text: str) -> str:
        may_ask.set()
        await asked.wait()
        return text

    run = RunnableLambda(answer) | RunnableLambda(go_on)
    await drive("ainvoke", run, QUESTION, config())
    over_s = time.time()
    await asyncio.sleep(0.05)
    may_answer.set()
    await titles[0]
    [turn] = turns_told(sink)
    assert [(one["event"], one["$text"]) for one in turn] == [
        ("Prompt", QUESTION),
        ("Generation", ANSWER),
    ]
    assert turn[-1]["model_calls"] == 2
    assert told_at(sink.events[-1]) <= over_s
    assert sink.events[-1]["properties"]["latency"] <= over_s - told_at(sink.events[0]) + 0.001
    assert_nothing_left()


@LOST_IN_FUNCTIONS
async def test_a_worker_that_a_run_has_started(sink: Sink) -> None:
    """What is asked after the run has ended is a turn of its own: many users may ask a worker."""
    over = asyncio.Event()
    workers: list[asyncio.Task[Any]] = []

    async def work() -> None:
        await over.wait()
        await model().ainvoke("And the train?")

    async def answer(question: str) -> Any:
        workers.append(asyncio.create_task(work()))
        return await model().ainvoke(question)

    await drive("ainvoke", RunnableLambda(answer), QUESTION, config())
    over.set()
    await workers[0]
    assert [turn[0]["$text"] for turn in turns_told(sink)] == [QUESTION, "And the train?"]
    assert_nothing_left()


@pytest.mark.parametrize("names_calls", [True, False], ids=["named", "nameless"])
async def test_a_tool_is_used_by_the_model_that_called_it(names_calls: bool, sink: Sink) -> None:
    """Whichever models a tool asks meanwhile, it and those beside it are acts of its caller."""

    @tool
    def look_up(x: str) -> str:
        """Ask another model, which calls no tool."""
        return str(Scripted(rule=says("Found."), model="another").invoke(x).content)

    def act(question: str) -> Any:
        uses = Scripted(rule=calls("look_up")).invoke(question).tool_calls
        for use in [*uses, *uses]:
            look_up.invoke({**use, "type": "tool_call"} if names_calls else use["args"])
        return Scripted(rule=says(ANSWER), model="the last").invoke(question)

    await drive("invoke", RunnableLambda(act), QUESTION, config())
    [turn] = turns_told(sink)
    assert [(one["event"], one.get("$assistant_id"), one["model"]) for one in turn] == [
        ("Prompt", None, "model-1"),
        ("Tool call", "model-1", "model-1"),
        ("Tool call", *(["model-1"] if names_calls else ["another"]) * 2),
        ("Generation", "the last", "the last"),
    ]


class Speaking(Scripted):
    """A model that notes when its pieces were taken."""

    taken: Any = Field(default_factory=list)

    def _stream(self, *args: Any, **more: Any) -> Any:
        for piece in super()._stream(*args, **more):
            self.taken.append(time.perf_counter())
            yield piece

    async def _astream(self, *args: Any, **more: Any) -> Any:
        async for piece in super()._astream(*args, **more):
            self.taken.append(time.perf_counter())
            yield piece


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("granularity", ["turn", "call"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["model", "chain"])
@pytest.mark.parametrize("mode", ALONE)
async def test_first_token(mode: Mode, wrapped: bool, granularity: str, sink: Sink) -> None:
    """A streamed answer says when its first piece came, and no other does."""
    speaking = Speaking(rule=says("One two three"))
    runnable, given = (TEMPLATE | speaking | WORDS, GIVEN) if wrapped else (speaking, QUESTION)
    start = time.perf_counter()
    await drive(mode, runnable, given, config(granularity=granularity))
    assert len(turns_told(sink)) == 1
    asked, answered = (event["properties"] for event in sink.events)
    assert "time_to_first_token" not in asked
    first = answered.get("time_to_first_token")
    if mode not in STREAMED:
        assert first is None
        return
    assert 0 < first < speaking.taken[1] - start
    assert first < answered["latency"]


class Watching(BaseCallbackHandler):
    """Notes what has been told by the time a model answers."""

    def __init__(self, sink: Sink) -> None:
        self.told: list[str] = []
        self._sink = sink

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        """Look at what has been told."""
        assert flush(10)
        self.told = [event["event"] for event in self._sink.events]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_prompt_comes_first(mode: Mode, sink: Sink) -> None:
    """A prompt is told when the first model starts, and does not wait for the answer."""
    watching = Watching(sink)
    handlers = [*config()["callbacks"], watching]
    await drive(mode, chain(), GIVEN, {"callbacks": handlers})
    assert watching.told == ["Prompt"]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_run_id_is_the_prompts(mode: Mode, sink: Sink) -> None:
    """A turn has the id of its root run, by which the app can know it."""
    run_id = uuid.uuid4()
    await drive(mode, chain(), GIVEN, {**config(), "run_id": run_id})
    turns_told(sink)
    assert {event["properties"]["$prompt_id"] for event in sink.events} == {str(run_id)}


@pytest.mark.parametrize("name", ["model", "chain"])
async def test_feedback_on_a_message(name: str, sink: Sink) -> None:
    """A feedback on the message that the app got is one on the answer that was told."""
    runnable: Any = model() if name == "model" else TEMPLATE | model()
    message = runnable.invoke(QUESTION if name == "model" else GIVEN, config())
    feedback(message, 1)
    assert flush(10)
    _, answered, rated = sink.events
    assert rated["event"] == "Feedback"
    for key in ("$generation_id", "$thread_id"):
        assert rated["properties"][key] == answered["properties"][key]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "batch", "abatch"])
async def test_no_model_no_event(mode: Mode, sink: Sink) -> None:
    """A root run that asks no model is nobody's question: a chain, a tool, a retriever."""

    @tool
    def look_up(x: str) -> str:
        """Look it up."""
        return x

    runnables: list[Any] = [
        TEMPLATE | RunnableLambda(str),
        look_up,
        Library() | RunnableLambda(len),
    ]
    for runnable, given in zip(runnables, [GIVEN, {"x": "1"}, QUESTION], strict=True):
        await drive(mode, runnable, given, config())
    assert turns_told(sink) == []
    assert_nothing_left()


@pytest.mark.parametrize("mode", ALONE)
async def test_suppressed(mode: Mode, sink: Sink) -> None:
    """What is asked inside of `suppress()` is not told, in any mode."""
    with suppress():
        await drive(mode, chain(), GIVEN, config())
        await drive(mode, model(), QUESTION, config())
    assert turns_told(sink) == []
    assert_nothing_left()


async def test_retrieved_texts_are_not_told(sink: Sink) -> None:
    """Of what retrievers find only the count is told, of all of them."""
    library: Any = Library()
    both: Any = RunnableLambda(lambda text: library.invoke(text) + library.invoke("more"))
    asked = both | (lambda found: [HumanMessage(f"{len(found)} found")]) | model() | WORDS
    await drive("invoke", asked, QUESTION, config())
    [[_, answered]] = turns_told(sink)
    assert answered["documents"] == 4
    assert "Something else" not in str(sink.events)


def test_what_langchain_asks_handlers_for() -> None:
    """It has nothing by which LangChain would take it for a tracer, or for nothing."""
    handler = TrubricsCallbackHandler()
    assert bool(handler)
    for name in ("tap_output_iter", "tap_output_aiter", "__len__", "__bool__"):
        assert not hasattr(TrubricsCallbackHandler, name)
    handler.on_interrupt(object())
    handler.on_resume(object())


async def test_a_stream_of_inputs_without_a_model(sink: Sink) -> None:
    """Where the input of a run comes with its end, and no model was asked, there is no fault."""
    echo: Any = RunnablePassthrough() | RunnableLambda(str)
    assert list(echo.transform(iter([QUESTION]), config())) == [QUESTION]
    assert turns_told(sink) == []
    assert not shield.faults()


async def test_who_called_a_tool(sink: Sink) -> None:
    """A tool is told as an act of the model that called it, whichever model was asked since."""

    @tool
    def look(x: str) -> str:
        """Look."""
        return x

    @tool
    def find(x: str) -> str:
        """Find."""
        return x

    def asked(text: str) -> str:
        callers = {"model-1": look, "model-2": find}
        said = [
            Scripted(rule=calls(used.name), model=name).invoke(text)
            for name, used in callers.items()
        ]
        for message, used in zip(said, callers.values(), strict=True):
            used.invoke({**message.tool_calls[0], "type": "tool_call"})
        return str(model().invoke(text).content)

    await drive("invoke", RunnableLambda(asked), QUESTION, config())
    [[_, *used, _]] = turns_told(sink)
    assert [(one["tool_name"], one["$assistant_id"]) for one in used] == [
        ("look", "model-1"),
        ("find", "model-2"),
    ]


class Nameless(Scripted):
    """A model that does not say its name."""

    def _get_ls_params(self, stop: list[str] | None = None, **_: Any) -> Any:
        return {"ls_provider": "local", "ls_model_type": "chat"}


@pytest.mark.parametrize(
    ("metadata", "name"), [({"model_name": "model-x-1"}, "model-x-1"), ({}, "scripted")]
)
async def test_a_model_without_a_name(metadata: dict[str, str], name: str, sink: Sink) -> None:
    """The assistant is whom the answer names, else its kind: not the model asked before it."""
    last = Nameless(rule=says(ANSWER, response_metadata=metadata), model="")
    await drive("invoke", model("Rewritten") | WORDS | last, QUESTION, config())
    [[_, told]] = turns_told(sink)
    assert (told["$text"], told["$assistant_id"]) == (ANSWER, name)


async def test_tools_around_a_model_without_a_name(sink: Sink) -> None:
    """A tool that the app runs itself is an act of the assistant of the turn, before and after."""

    @tool
    def look(x: str) -> str:
        """Look."""
        return x

    def asked(text: str) -> str:
        look.invoke({"x": "1"})
        said = str(Nameless(rule=says(ANSWER), model="").invoke(text).content)
        look.invoke({"x": "2"})
        return said

    await drive("invoke", RunnableLambda(asked), QUESTION, config())
    [[_, *told]] = turns_told(sink)
    assert [(one["event"], one.get("$assistant_id")) for one in told] == [
        ("Tool call", "scripted"),
        ("Tool call", "scripted"),
        ("Generation", "scripted"),
    ]


class Configured(Nameless):
    """A model that names itself only where it is asked."""

    asked_as: Any = Field(default_factory=dict)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**self.asked_as}


@pytest.mark.parametrize(
    "name", ["model", "model_name", "model_id", "deployment_name", "azure_deployment"]
)
async def test_a_model_named_where_it_is_asked(name: str, sink: Sink) -> None:
    """Where LangChain does not say which model it is, what the provider is told does."""
    asked = Configured(rule=says(ANSWER), model="", asked_as={name: "model-x"})
    await drive("invoke", TEMPLATE | asked, GIVEN, config())
    [turn] = turns_told(sink)
    assert [(one["model"], one.get("$assistant_id")) for one in turn] == [
        ("model-x", None),
        ("model-x", "model-x"),
    ]


class Odd(str):
    """A text that cannot be read."""

    __slots__ = ()

    def lower(self) -> str:
        """Raise."""
        raise LookupError


async def test_an_answer_that_cannot_be_read(sink: Sink) -> None:
    """It is told as such, and never guessed."""
    shield.set_strict(strict=False)
    odd = says(ANSWER, response_metadata={"finish_reason": Odd("stop")})
    await drive("invoke", Scripted(rule=odd), QUESTION, config())
    [[_, told]] = turns_told(sink)
    assert (told["event"], told.get("$text"), told["status"]) == ("Generation", None, "unread")
    assert shield.faults() == {"reading the answer": 1}


def test_the_call_that_a_tool_answers() -> None:
    """It is in the tool's message, or in the command that holds it; both before a start tells."""
    message = ToolMessage("Noted.", tool_call_id="call-1")
    assert call_id_in(message) == "call-1"
    assert call_id_in(SimpleNamespace(update={"messages": [message]})) == "call-1"
    assert call_id_in("Noted.") is None


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        (None, "openai"),
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://api.notopenai.com/v1", "api.notopenai.com"),
        ("https://openrouter.ai/api/v1", "openrouter.ai"),
        ("http://localhost:11434/v1", "localhost"),
        ("nowhere", "openai"),
        (7, "openai"),
    ],
)
def test_who_serves_an_openai_model(address: object, provider: str) -> None:
    """LangChain calls every host that speaks OpenAI's API "openai"; where it is, is its address."""
    serialized = {"kwargs": {"openai_api_base": address}}
    assert origin_of(serialized, {"ls_provider": "openai"}, {}, "chat").provider == provider
    assert origin_of(serialized, {"ls_provider": "xai"}, {}, "chat").provider == "xai"


def test_who_serves_where_the_environment_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client looks the address up itself where its class was told none."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1")
    given = {"kwargs": {"openai_api_base": "https://api.openai.com/v1"}}
    assert origin_of({}, {"ls_provider": "openai"}, {}, "chat").provider == "localhost"
    assert origin_of(given, {"ls_provider": "openai"}, {}, "chat").provider == "openai"
    assert origin_of({}, {"ls_provider": "anthropic"}, {}, "chat").provider == "anthropic"
