"""`generate` with several prompts, text-completion models, and answers out of caches."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import RunnableLambda

from tests.langchain.chains import (
    ANSWER,
    GIVEN,
    MESSAGE,
    QUESTION,
    STREAM,
    TEMPLATE,
    WORDS,
    model,
)
from tests.langchain.driving import (
    FULL_REPORTS,
    MODES,
    STREAMED,
    Mode,
    assert_nothing_left,
    drive,
    generation,
    let_go,
    prompt,
    tokens,
    turns_told,
)
from tests.langchain.models import Completing, Refused, Scripted, says
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument.langchain.reader import ResultReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.sink import Sink

pytestmark = pytest.mark.anyio

BOTH = ("generate", "agenerate")
WHOLE: tuple[Mode, ...] = ("invoke", "ainvoke", "batch", "abatch")
TEXT = {"model": "text-1", "operation": "completion"}
TEXT_PROMPT = prompt(QUESTION, **TEXT)


def handlers() -> list[Any]:
    """Return a list with a handler."""
    return [TrubricsCallbackHandler("ada", thread_id="t-1")]


def known(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what is unknown."""
    return {key: value for key, value in event.items() if value is not None}


def completed(text: str, **more: Any) -> dict[str, Any]:
    """Return a text-completion model's answer as it is to be told."""
    event = generation(text, **TEXT, **{"$assistant_id": "text-1"}, **tokens(0))
    return known({**event, **more})


def without_tokens(event: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as it is to be told if its tokens were counted before."""
    return {key: value for key, value in event.items() if key not in tokens(1)}


class Word(Completing):
    """A text-completion model that streams word by word."""

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> Iterator[GenerationChunk]:
        for word in ("One ", "two ", "three"):
            if run_manager:
                run_manager.on_llm_new_token(word)
            yield GenerationChunk(text=word)


class AsyncWord(Word):
    """The same, asynchronously."""

    async def _astream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> AsyncIterator[GenerationChunk]:
        for word in ("One ", "two ", "three"):
            if run_manager:
                await run_manager.on_llm_new_token(word)
            yield GenerationChunk(text=word)


async def generated(how: str, asked: Any, prompts: Any, **more: Any) -> Any:
    """Generate, whichever way."""
    result = getattr(asked, how)(prompts, **more)
    return await result if how == "agenerate" else result


@pytest.mark.parametrize("how", BOTH)
async def test_several_chats(how: str, sink: Sink) -> None:
    """Each list of messages is a turn, with its own question, answer and tokens."""
    asked = [[SystemMessage("Be kind."), HumanMessage(text)] for text in ("One?", "Two?")]
    await generated(how, model(), asked, callbacks=handlers())
    assert turns_told(sink) == [
        [prompt(text), generation(ANSWER, **MESSAGE)] for text in ("One?", "Two?")
    ]
    assert_nothing_left()


@pytest.mark.parametrize("how", BOTH)
async def test_several_texts(how: str, sink: Sink) -> None:
    """Each text for a completion model is a turn, whether or not it streams."""
    await generated(how, Completing(), ["One?", "Two?"], callbacks=handlers())
    # LangChain does not say there which model it is.
    nameless: Any = {"model": None, "provider": None}
    asked = [prompt(text, operation="completion", **nameless) for text in ("One?", "Two?")]
    answer = completed("Completed.", **nameless, **{"$assistant_id": "completing"})
    assert turns_told(sink) == [[known(one), answer] for one in asked]
    assert_nothing_left()


@pytest.mark.parametrize("how", [*BOTH, "generate_prompt", "agenerate_prompt"])
async def test_in_a_run(how: str, sink: Sink) -> None:
    """What a step generates is counted in the turn of its run."""

    async def step(text: str, config: Any) -> str:
        prompts: Any = [[HumanMessage(f"{text} {n}")] for n in range(2)]
        if how.endswith("prompt"):
            prompts = [TEMPLATE.invoke({"question": text})] * 2
        result = getattr(model(), how)(prompts, callbacks=config["callbacks"])
        if how.startswith("a"):
            result = await result
        return str(result.generations[0][0].text)

    await RunnableLambda(step).ainvoke(QUESTION, {"callbacks": handlers()})
    two = {"model_calls": 2, **tokens(2)}
    assert turns_told(sink) == [[prompt(QUESTION), generation(ANSWER, **two)]]
    assert_nothing_left()


@pytest.mark.parametrize("how", BOTH)
async def test_one_of_several_fails(how: str, sink: Sink) -> None:
    """Where one of several chats fails, each turn still has exactly one end."""

    class Picky(Scripted):
        def _generate(self, messages: Any, *args: Any, **more: Any) -> Any:
            if messages[-1].content == "bad":
                raise Refused
            return super()._generate(messages, *args, **more)

    asked = [[HumanMessage(text)] for text in ("good", "bad")]
    with pytest.raises(Refused):
        await generated(how, Picky(rule=says(ANSWER)), asked, callbacks=handlers())
    assert [[one["event"] for one in turn] for turn in turns_told(sink)] == [
        ["Prompt", "Generation"],
        ["Prompt", "Generation failed"],
    ]
    assert_nothing_left()


@pytest.mark.parametrize("kind", [Word, AsyncWord])
@pytest.mark.parametrize("mode", MODES)
async def test_text_model_streams(mode: Mode, kind: Any, sink: Sink) -> None:
    """A completion model that streams is told with its whole text, in every mode."""
    await drive(mode, kind(text="One two three"), QUESTION, {"callbacks": handlers()})
    streamed = STREAM if mode in STREAMED else {}
    turn = [TEXT_PROMPT, completed("One two three", **streamed)]
    assert turns_told(sink) == [turn] * (3 if "batch" in mode else 1)
    assert_nothing_left()


@FULL_REPORTS
@pytest.mark.parametrize("mode", ["stream", "astream"])
async def test_text_stream_left_early(mode: Mode, sink: Sink) -> None:
    """A completion model's stream that is left is told with what LangChain says had come by then.

    Source: langchain-core 0.3.86 to 1.8.3, `BaseLLM.stream`, which loses the last piece.
    """
    config: Any = {"callbacks": handlers()}
    if mode == "stream":
        for piece in Word().stream(QUESTION, config):
            if piece == "two ":
                break
    else:
        async for piece in AsyncWord().astream(QUESTION, config):
            if piece == "two ":
                break
    await let_go()
    assert turns_told(sink) == [
        [TEXT_PROMPT, completed("One ", status="incomplete", **STREAM)],
    ]
    assert_nothing_left()


@FULL_REPORTS
@pytest.mark.parametrize("where", ["model", "process"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["model", "chain"])
@pytest.mark.parametrize("mode", WHOLE)
async def test_cache(mode: Mode, wrapped: bool, where: str, sink: Sink) -> None:
    """A cached answer of a chat model is an answer, whose tokens are not counted again."""
    talker = model()
    cache = InMemoryCache()
    if where == "model":
        talker.cache = cache
    else:
        set_llm_cache(cache)
    try:
        runnable, given = (TEMPLATE | talker | WORDS, GIVEN) if wrapped else (talker, QUESTION)
        await drive("invoke", runnable, given, None)
        await drive(mode, runnable, given, {"callbacks": handlers()})
    finally:
        set_llm_cache(None)
    more = {} if wrapped else {**MESSAGE, "cached": True}
    turn = [prompt(QUESTION), without_tokens(generation(ANSWER, **more))]
    assert turns_told(sink) == [turn] * (3 if "batch" in mode else 1)
    assert_nothing_left()


@pytest.mark.parametrize("wrapped", [False, True], ids=["model", "chain"])
@pytest.mark.parametrize("mode", WHOLE)
async def test_cache_of_texts(mode: Mode, wrapped: bool, sink: Sink) -> None:
    """LangChain reports no model run for a cached completion, so there is nothing to tell."""
    talker = Completing(cache=InMemoryCache())
    runnable: Any = (lambda text: text) | talker if wrapped else talker
    await drive("invoke", runnable, QUESTION, None)
    await drive(mode, runnable, QUESTION, {"callbacks": handlers()})
    assert turns_told(sink) == []
    assert_nothing_left()


@FULL_REPORTS
async def test_caches_keep_the_tokens_of_a_turn_apart(sink: Sink) -> None:
    """A turn with a cached answer and a fresh one has the tokens of the fresh one."""
    talker = model()
    talker.cache = InMemoryCache()
    (TEMPLATE | talker).invoke({"question": "Tram?"})
    both: Any = TEMPLATE | talker | (lambda message: message.content) | model("Fresh.")
    await drive("invoke", both, {"question": "Tram?"}, {"callbacks": handlers()})
    answer = generation("Fresh.", model_calls=2, **MESSAGE)
    assert turns_told(sink) == [[prompt("Tram?"), answer]]


COUNTS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"token_usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}, (3, 2, 5)),
    ({"usage": {"input_tokens": 3, "output_tokens": 2}}, (3, 2, None)),
    ({"token_usage": {}, "usage": {"input_tokens": 3}}, (3, None, None)),
    ({"token_usage": {"prompt_tokens": "3", "completion_tokens": 2.0}}, (None, None, None)),
    ({"token_usage": {"prompt_tokens": True, "total_tokens": 0}}, (None, None, 0)),
    ({"token_usage": 5}, (None, None, None)),
]


@pytest.mark.parametrize(("output", "expected"), COUNTS, ids=str)
def test_tokens_beside_the_answer(output: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Tokens that a provider counts beside the message are told by either of their names."""
    result = LLMResult(generations=[[Generation(text=ANSWER)]], llm_output=output)
    assert ResultReader("langchain").read(result)[0].usage[:3] == expected
