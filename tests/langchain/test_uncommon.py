"""Ways to build and to run that are less common: each is one pair, or says why it is not."""

# LangChain's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import AsyncCallbackManager, CallbackManager, dispatch_custom_event
from langchain_core.callbacks.manager import atrace_as_chain_group, trace_as_chain_group
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import (
    ConfigurableField,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)

from tests.langchain.chains import (
    ANSWER,
    ASKED,
    EVENTS,
    GIVEN,
    MESSAGE,
    PAIR,
    QUESTION,
    STREAM,
    TEMPLATE,
    TWICE,
    WORDS,
    chain,
    model,
    refusing,
)
from tests.langchain.driving import (
    IN_FUNCTIONS,
    MODES,
    Mode,
    Shape,
    assert_nothing_left,
    assert_told,
    case_id,
    cases,
    drive,
    failed,
    generation,
    prompt,
    tokens,
    turns_told,
)
from trubrics_instrument import TrubricsCallbackHandler, patch_langchain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings(
        "ignore::langchain_core._api.deprecation.LangChainDeprecationWarning"
    ),
    pytest.mark.filterwarnings(
        "ignore::langchain_core._api.deprecation.LangChainPendingDeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
]

ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
OWN: dict[str, Any] = {"model": None, "provider": None}


def handler(**more: Any) -> TrubricsCallbackHandler:
    """Return a handler."""
    return TrubricsCallbackHandler("ada", thread_id="t-1", **more)


class OnlyWhole(BaseChatModel):
    """A chat model of the app's own that knows one way, and says nothing of itself."""

    @property
    def _llm_type(self) -> str:
        return "own"

    def _get_ls_params(self, *_: Any, **__: Any) -> Any:
        return {}

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(ANSWER))])


class OnlyStreamed(OnlyWhole):
    """The same that can only stream."""

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for word in ("Yes, ", "it is."):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


def configurable() -> Any:
    """Return a chain whose model is chosen by the config.

    LangChain before 1.3 makes metadata of other names, and so they are properties.
    """
    talker: Any = model().configurable_alternatives(
        ConfigurableField(id="__which"), other=model("No.", name="model-2")
    )
    return TEMPLATE | talker | WORDS


def custom_event(given: Any, config: Any) -> str:
    """Tell the app's own handlers something, and ask a model."""
    dispatch_custom_event("progress", {"done": 1}, config=config)
    return str(model().invoke(given["question"], config).content)


OWN_PROMPT = prompt(QUESTION, **OWN)
OWN_ANSWER = generation(ANSWER, **OWN, **tokens(0), **MESSAGE, **STREAM, **{"$assistant_id": "own"})
CALL = {"granularity": "call"}
STUFFED = f"The question is: {QUESTION}"

SHAPES = (
    Shape("assigned", lambda: RunnablePassthrough.assign(answer=chain()), GIVEN, PAIR),
    Shape(
        "assigned twice",
        lambda: RunnablePassthrough.assign(topic=chain("Trams.")).assign(answer=chain()),
        GIVEN,
        [ASKED, {**PAIR[1], **TWICE}],
    ),
    Shape("picked", lambda: RunnablePassthrough.assign(answer=chain()).pick("answer"), GIVEN, PAIR),
    Shape("a chain out of a function", lambda: RunnableLambda(lambda _: chain()), GIVEN, PAIR),
    Shape("listened to", lambda: chain().with_listeners(on_end=lambda _: None), GIVEN, PAIR),
    Shape(
        "a model that the config chooses",
        configurable,
        GIVEN,
        [
            prompt(QUESTION, model="model-2"),
            generation("No.", model="model-2", **{"$assistant_id": "model-2"}, **STREAM),
        ],
        config={"configurable": {"__which": "other"}},
    ),
    Shape(
        "an event of the app's own",
        lambda: RunnableLambda(custom_event),
        GIVEN,
        [ASKED, generation(ANSWER, **EVENTS)],
        marks=IN_FUNCTIONS,
    ),
    Shape(
        "a chain as a tool",
        lambda: chain().as_tool(name="ask", description="Ask.", arg_types={"question": str}),
        GIVEN,
        (ASKED, generation(ANSWER)),
        modes=("invoke", "ainvoke"),
    ),
    Shape(
        "for each of several",
        lambda: chain().map(),
        [GIVEN, GIVEN],
        [prompt(STUFFED), generation(ANSWER, **TWICE)],
        modes=("invoke", "ainvoke"),
    ),
    Shape(
        "handlers of its own",
        lambda: chain().with_config(callbacks=[handler(), handler()]),
        GIVEN,
        PAIR,
    ),
    Shape(
        "a handler for calls, which comes first",
        lambda: chain().with_config(callbacks=[handler(**CALL)]),
        GIVEN,
        [prompt(STUFFED), generation(ANSWER, **MESSAGE, **STREAM)],
    ),
    Shape(
        "fallbacks of a chain",
        lambda: (TEMPLATE | refusing() | WORDS).with_fallbacks([chain()]),
        GIVEN,
        [ASKED, generation(ANSWER, model_calls=2, **STREAM)],
    ),
    Shape(
        "a model that cannot stream",
        OnlyWhole,
        QUESTION,
        [OWN_PROMPT, {name: one for name, one in OWN_ANSWER.items() if name != "stream"}],
    ),
    Shape(
        "a model that can only stream",
        OnlyStreamed,
        QUESTION,
        [OWN_PROMPT, OWN_ANSWER],
        modes=("stream", "astream", "events"),
    ),
    Shape(
        "a model that can only stream, asked as a whole",
        OnlyStreamed,
        QUESTION,
        [OWN_PROMPT, failed("NotImplementedError", **OWN, **{"$assistant_id": "own"})],
        modes=("invoke", "ainvoke"),
        raises=NotImplementedError,
    ),
)


@pytest.mark.parametrize(("shape", "mode"), cases(SHAPES), ids=case_id)
async def test_shape(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each shape is told exactly as written beside it, in each of its modes."""
    await assert_told(shape, mode, sink)


def spoken(pieces: Iterator[Any]) -> Iterator[str]:
    """Ask a model in a generator, and hand out what it streams."""
    for piece in pieces:
        for chunk in model().stream(piece):
            yield str(chunk.content)


async def spoken_async(pieces: AsyncIterator[Any]) -> AsyncIterator[str]:
    """Do the same asynchronously."""
    async for piece in pieces:
        async for chunk in model().astream(piece):
            yield str(chunk.content)


@pytest.mark.parametrize("mode", [pytest.param(m, marks=IN_FUNCTIONS.get(m, ())) for m in MODES])
async def test_generator(mode: Mode, sink: Sink) -> None:
    """A generator that streams a model is one pair, streamed in every mode."""
    runnable: Any = RunnableGenerator(spoken, spoken_async)
    await drive(mode, runnable, QUESTION, {"callbacks": [handler()]})
    pair = [prompt(QUESTION), generation(ANSWER, **STREAM)]
    assert turns_told(sink) == [pair] * (3 if "batch" in mode else 1)
    assert_nothing_left()


async def given_later(value: Any) -> AsyncIterator[Any]:
    """Be an input that comes in its own time."""
    yield value


async def log(about: Any) -> list[Any]:
    """Read the older way to see what a run does."""
    return [one async for one in chain().astream_log(GIVEN, about)]


async def first_events(about: Any) -> list[Any]:
    """Read the first version of the events."""
    return [one async for one in chain().astream_events(GIVEN, about, version="v1")]


async def transformed(about: Any) -> list[Any]:
    """Transform an input that comes in its own time."""
    return [one async for one in chain().atransform(given_later(GIVEN), about)]


async def in_two_threads(about: Any) -> list[Any]:
    """Begin a stream in one thread, and read it to its end in another."""
    stream = chain().stream(GIVEN, about)
    first = next(stream)
    with ThreadPoolExecutor(1) as pool:
        return [first, *pool.submit(list, stream).result()]


async def transformed_sync(about: Any) -> list[Any]:
    """Transform an input synchronously."""
    return list(chain().transform(iter([GIVEN]), about))


STREAMS = (log, first_events, transformed, transformed_sync, in_two_threads)


@pytest.mark.parametrize("read", STREAMS, ids=lambda read: read.__name__)
async def test_stream(read: Any, sink: Sink) -> None:
    """Every way to read a stream is one pair."""
    assert await read({"callbacks": [handler()]})
    assert turns_told(sink) == [[ASKED, generation(ANSWER, **STREAM)]]
    assert_nothing_left()


async def test_managers_made_by_hand(sink: Sink) -> None:
    """A manager in the config is as good as a list, if it hands the handler on."""
    one: list[Any] = [handler()]
    chain().invoke(GIVEN, {"callbacks": CallbackManager(one, one)})
    await chain().ainvoke(GIVEN, {"callbacks": AsyncCallbackManager(one, one)})
    chain().invoke(GIVEN, {"callbacks": CallbackManager([], inheritable_handlers=one)})
    first = [ASKED, generation(ANSWER)]
    assert turns_told(sink)[:2] == [first, first]
    assert_nothing_left()


async def test_never_read(sink: Sink) -> None:
    """A stream that nobody reads has asked no model."""
    about: Any = {"callbacks": [handler()]}
    chain().stream(GIVEN, about)
    model().stream(QUESTION, about)
    assert turns_told(sink) == []
    assert_nothing_left()


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_group(told: bool, sink: Sink) -> None:
    """A group that the app makes of several runs is one turn, in either kind of code."""
    inputs: Any = GIVEN if told else None
    output = {"output": "Both."} if told else {}
    with patch_langchain("ada", thread_id="t-1"):
        with trace_as_chain_group("both", inputs=inputs) as group:
            for text in ("One.", "Two."):
                chain(text).invoke(GIVEN, {"callbacks": group})
            group.on_chain_end(output)
        async with atrace_as_chain_group("both", inputs=inputs) as agroup:
            for text in ("One.", "Two."):
                await chain(text).ainvoke(GIVEN, {"callbacks": agroup})
            await agroup.on_chain_end(output)
    asked, answer = (QUESTION, "Both.") if told else (STUFFED, "Two.")
    assert turns_told(sink) == [[prompt(asked), generation(answer, **TWICE)]] * 2
    assert_nothing_left()
