"""The agents of LangChain before 1.0, where langchain-classic is: one pair for each question.

`make test-versions` has an environment with it.
"""

# Its types are unknown where it is not installed.
# pyright: basic

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langchain_classic.agents")

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from tests.langchain.chains import ANSWER, MESSAGE, QUESTION
from tests.langchain.driving import (
    LOST_IN_FUNCTIONS,
    Mode,
    assert_nothing_left,
    config,
    drive,
    generation,
    let_go,
    prompt,
    tokens,
    tool_call,
    turns_told,
)
from tests.langchain.models import Scripted, calls, says
from trubrics_instrument import TrubricsCallbackHandler, patch_langchain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sink import Sink

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MODES: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")
TEMPLATE = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer shortly."),
        ("placeholder", "{chat_history}"),
        ("human", "{input}"),
        ("placeholder", "{agent_scratchpad}"),
    ]
)
# An executor streams its model in every mode.
STREAM = {"stream": True}


@tool
def look_up(x: str) -> str:
    """Look it up."""
    return f"Found {x}"


@tool
def broken(x: str) -> str:
    """Fail."""
    raise LookupError(x)


def executor(*tools: Any) -> Any:
    """Return an agent whose model calls each tool once, and then answers."""
    agents: Any = pytest.importorskip("langchain_classic.agents")
    talker = Scripted(rule=calls(*[one.name for one in tools], then=ANSWER))
    return agents.AgentExecutor(
        agent=agents.create_tool_calling_agent(talker, tools, TEMPLATE), tools=tools
    )


def expected(granularity: str) -> list[dict[str, Any]]:
    """Return a turn with one tool; its run does not tell the id of its call, the model does."""
    if granularity == "turn":
        answered = generation(ANSWER, model_calls=2, tool_calls=1, **tokens(2))
        return [prompt(QUESTION), tool_call("look_up"), answered | STREAM]
    answered = generation(ANSWER, model_calls=2, tool_calls=1, **MESSAGE)
    use = tool_call("look_up", tool_call_id="call-look_up", **tokens(1))
    return [prompt(QUESTION), use | STREAM, answered | STREAM]


@pytest.mark.parametrize("granularity", ["turn", "call"])
@pytest.mark.parametrize("mode", [pytest.param(one, marks=LOST_IN_FUNCTIONS) for one in MODES])
async def test_each_question(mode: Mode, granularity: str, sink: Sink) -> None:
    """Each question is one pair, with the tool that was run in between; its history is none."""
    agent = executor(look_up)
    about = config(granularity)
    history = [HumanMessage("Hello"), AIMessage("Hi there.")]
    await drive(mode, agent, {"input": QUESTION}, about)
    await drive(mode, agent, {"input": QUESTION, "chat_history": history}, about)
    assert turns_told(sink) == [expected(granularity)] * 2
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
async def test_what_it_is_configured_with(mode: Mode, sink: Sink) -> None:
    """Who asks, and where, may be said in `configurable`, as with any other runnable."""
    about: Any = {"callbacks": [TrubricsCallbackHandler()]}
    about["configurable"] = {"user_id": "ada", "thread_id": "t-1"}
    await drive(mode, executor(), {"input": QUESTION}, about)
    assert len(turns_told(sink)) == 1
    places = [(one["user_id"], one["properties"]["$thread_id"]) for one in sink.events]
    assert places == [("ada", "t-1")] * 2


async def test_left_at_the_tool(sink: Sink) -> None:
    """A stream that is left when the tool is called is one question, with no answer yet."""
    next(executor(look_up).stream({"input": QUESTION}, config()))
    await let_go()
    [turn] = turns_told(sink)
    assert [(one["event"], one.get("status")) for one in turn] == [
        ("Prompt", None),
        ("Generation", "incomplete"),
    ]
    assert_nothing_left()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_failing_tool(mode: Mode, sink: Sink) -> None:
    """A tool that fails is told, and fails its turn, as it does for the app."""
    with pytest.raises(LookupError):
        await drive(mode, executor(broken), {"input": QUESTION}, config())
    [[asked, called, ended]] = turns_told(sink)
    failure = {"status": "error", "error_type": "LookupError"}
    assert [asked, called] == [prompt(QUESTION), tool_call("broken", **failure)]
    told = (ended["event"], ended["error_type"], ended["total_tokens"])
    assert told == ("Generation failed", "LookupError", 5)
    assert_nothing_left()


def with_memory() -> Any:
    """Return a chain whose memory has a model that sums up what was said."""
    chains: Any = pytest.importorskip("langchain_classic.chains")
    memories: Any = pytest.importorskip("langchain_classic.memory")
    talker = Scripted(rule=says(ANSWER))
    return chains.ConversationChain(
        llm=talker, memory=memories.ConversationSummaryMemory(llm=talker)
    )


def of_ones_own() -> Any:
    """Return a chain of an app's own, that asks two models."""
    base: Any = pytest.importorskip("langchain_classic.chains.base")

    def call(_: Any, inputs: Any, run_manager: Any = None) -> Any:
        talker = Scripted(rule=says(ANSWER))
        found = talker.invoke(f"Rewrite: {inputs['input']}").content
        return {"output": talker.invoke(f"Context: {found}").content}

    async def acall(_: Any, inputs: Any, run_manager: Any = None) -> Any:
        return call(_, inputs)

    names = {"input_keys": property(lambda _: ["input"]), "_call": call, "_acall": acall}
    return type("Own", (base.Chain,), {**names, "output_keys": property(lambda _: ["output"])})()


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")
@pytest.mark.parametrize(
    ("build", "mode"),  # asynchronously, such a memory sums nothing up
    [(with_memory, "invoke"), (of_ones_own, "invoke"), (of_ones_own, "ainvoke")],
)
async def test_what_an_older_chain_asks_by_itself(
    build: Callable[[], Any], mode: Mode, sink: Sink
) -> None:
    """It is a part of the turn, though the chain hands no callbacks on."""
    chain = build()
    with patch_langchain("ada", thread_id="t-1"):
        await drive(mode, chain, {"input": QUESTION}, {})
    [[asked, told]] = turns_told(sink)
    assert (asked["event"], asked["$text"]) == ("Prompt", QUESTION)
    assert (told["event"], told["$text"]) == ("Generation", ANSWER)
    assert (told["model_calls"], told["total_tokens"]) == (2, 10)
    assert_nothing_left()
