"""Who asks, and where: DESIGN's order, and right however many ask at once."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from tests.langchain.chains import GIVEN, QUESTION, TEMPLATE, chain, model
from tests.langchain.driving import LOST_IN_FUNCTIONS, assert_nothing_left, turns_told
from tests.langchain.models import Scripted, Stuck, says
from trubrics_instrument import TrubricsCallbackHandler, configure, context, identify, stats

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

OWN = {"trubrics_user_id": "own", "trubrics_thread_id": "own-t"}
METADATA = {"user_id": "meta", "thread_id": "meta-t"}
CONFIGURABLE = {"user_id": "conf", "thread_id": "conf-t"}


def who(sink: Sink) -> list[tuple[str, str]]:
    """Return the user and the thread of each turn, the same in all its events."""
    turns_told(sink)
    turns: dict[str, set[tuple[str, str]]] = {}
    for event in sink.events:
        properties = event["properties"]
        told = turns.setdefault(properties["$prompt_id"], set())
        told.add((event["user_id"], properties["$thread_id"]))
    assert all(len(one) == 1 for one in turns.values())
    return [next(iter(one)) for one in turns.values()]


ORDER: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, str]]] = [
    (
        "own keys",
        {"metadata": {**OWN, **METADATA}, "configurable": CONFIGURABLE},
        {"user_id": "said", "thread_id": "said-t"},
        {"user_id": "told", "thread_id": "told-t"},
        ("own", "own-t"),
    ),
    (
        "context",
        {"metadata": METADATA, "configurable": CONFIGURABLE},
        {"user_id": "said", "thread_id": "said-t"},
        {"user_id": "told", "thread_id": "told-t"},
        ("said", "said-t"),
    ),
    (
        "arguments",
        {"metadata": METADATA, "configurable": CONFIGURABLE},
        {},
        {"user_id": "told", "thread_id": lambda: "told-t"},
        ("told", "told-t"),
    ),
    (
        "configurable",
        {"metadata": METADATA, "configurable": CONFIGURABLE},
        {},
        {},
        ("conf", "conf-t"),
    ),
    ("metadata", {"metadata": METADATA}, {}, {}, ("meta", "meta-t")),
    (
        "each from where it is",
        {"metadata": {"user_id": "meta"}, "configurable": {"session_id": "conf-s"}},
        {},
        {},
        ("meta", "conf-s"),
    ),
]


# There `metadata` hides it: LangChain copies `configurable` into it, but for the keys it has.
HIDDEN = ("configurable", "async")
CASES = [
    pytest.param(
        *(row, mode),
        id=f"{row[0]}-{mode}",
        marks=LOST_IN_FUNCTIONS if (row[0], mode) == HIDDEN else (),
    )
    for row in ORDER
    for mode in ("sync", "async")
]


@pytest.mark.parametrize(("source", "mode"), CASES)
async def test_order(source: Any, mode: str, sink: Sink) -> None:
    """The first source that says so wins: own keys, context, arguments, configurable, metadata."""
    _, config, said, told, expected = source
    everything: Any = {**config, "callbacks": [TrubricsCallbackHandler(**told)]}
    with context(**said):
        if mode == "sync":
            chain().invoke(GIVEN, everything)
        else:
            await chain().ainvoke(GIVEN, everything)
    assert who(sink) == [expected]


async def test_order_of_a_bare_model(sink: Sink) -> None:
    """A model that is asked directly knows the same sources; `configurable`: see test_found."""
    callbacks: list[Any] = [TrubricsCallbackHandler("told")]
    both: dict[str, Any] = {**OWN, **METADATA}
    model().invoke(QUESTION, {"callbacks": callbacks, "metadata": both})
    model().invoke(QUESTION, {"callbacks": callbacks, "metadata": dict(METADATA)})
    model().invoke(QUESTION, {"callbacks": [TrubricsCallbackHandler()], "metadata": dict(METADATA)})
    assert who(sink) == [("own", "own-t"), ("told", "meta-t"), ("meta", "meta-t")]


async def test_identify_and_default(sink: Sink) -> None:
    """`identify()` counts as context does, and the configured user comes last."""
    configure(host=sink.host, user_id="default")
    callbacks: Any = {"callbacks": [TrubricsCallbackHandler(thread_id="t")]}

    async def request() -> None:
        identify("ada")
        await chain().ainvoke(GIVEN, callbacks)

    await asyncio.create_task(request())
    chain().invoke(GIVEN, callbacks)
    assert who(sink) == [("ada", "t"), ("default", "t")]


async def test_nobody(sink: Sink) -> None:
    """Without a user there is an anonymous one for the thread, and a made up thread says so."""
    callbacks: Any = {"callbacks": [TrubricsCallbackHandler()]}
    chain().invoke(GIVEN, callbacks)
    [turn] = turns_told(sink)
    for event in turn:
        assert event["user_id"] == "anon 1"
        assert event["anonymous"]
        assert event["thread_inferred"]


async def test_history_names_the_thread(sink: Sink) -> None:
    """A run that resends its history goes on with the conversation, without any id."""
    config: Any = {"callbacks": [TrubricsCallbackHandler("ada")]}
    runnables: list[Any] = [model(), RunnableLambda(lambda messages: messages) | model()]
    for runnable in runnables:
        messages: list[Any] = [HumanMessage(f"{QUESTION} {len(str(runnable))}")]
        messages.append(runnable.invoke(messages, config))
        messages.append(HumanMessage("Really?"))
        runnable.invoke(messages, config)
    threads = [thread for _, thread in who(sink)]
    assert threads[0] == threads[1]
    assert threads[2] == threads[3]
    assert threads[0] != threads[2]


async def test_callable_is_asked_at_the_start(sink: Sink) -> None:
    """A callable is asked once a run, where the run begins."""
    asked: list[int] = []

    def user() -> str:
        asked.append(threading.get_ident())
        return "ada"

    config: Any = {"callbacks": [TrubricsCallbackHandler(user, thread_id="t")]}
    list(chain().stream(GIVEN, config))
    assert who(sink) == [("ada", "t")]
    assert asked == [threading.get_ident()]


async def test_a_thread_that_changes_before_the_model(sink: Sink) -> None:
    """So is one for the thread, whoever the user is: the app may serve another one by then."""
    threads = ["first"]

    def prepare(given: Any) -> Any:
        threads.append("second")
        return given

    handler = TrubricsCallbackHandler("ada", thread_id=lambda: threads[-1])
    (RunnableLambda(prepare) | model()).invoke(QUESTION, {"callbacks": [handler]})
    assert who(sink) == [("ada", "first")]


def echoing() -> Any:
    """Return a chain whose answer repeats the question."""
    rule = lambda messages: AIMessage(f"Re: {messages[-1].content}")  # noqa: E731 - a rule
    return TEMPLATE | Scripted(rule=rule)


def assert_pairs(sink: Sink, count: int) -> None:
    """Check that each answer belongs to its question, its user and its thread."""
    turns_told(sink)
    turns: dict[str, list[dict[str, Any]]] = {}
    for event in sink.events:
        turns.setdefault(event["properties"]["$prompt_id"], []).append(event)
    assert len(turns) == count
    for asked, answered in turns.values():
        number = asked["properties"]["$text"]
        assert (asked["event"], answered["event"]) == ("Prompt", "Generation")
        assert answered["properties"]["$text"] == f"Re: The question is: {number}"
        for event in (asked, answered):
            assert event["user_id"] == f"user-{number}"
            assert event["properties"]["$thread_id"] == f"thread-{number}"
    assert_nothing_left()
    assert stats().faults == {}


def config_of(handler: TrubricsCallbackHandler, number: int) -> Any:
    """Return one request's config, with the shared handler."""
    configurable = {"user_id": f"user-{number}", "thread_id": f"thread-{number}"}
    return {"callbacks": [handler], "configurable": configurable}


async def test_threads(sink: Sink, portion: int) -> None:
    """One handler, 50 threads with 40 turns each: every pair is right, and nothing is left."""
    handler, talker = TrubricsCallbackHandler(), echoing()
    count = 40 // portion

    def turns(worker: int) -> None:
        for number in range(worker * count, worker * count + count):
            talker.invoke({"question": str(number)}, config_of(handler, number))

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(turns, range(50)))
    assert_pairs(sink, 50 * count)


async def test_tasks(sink: Sink) -> None:
    """One handler, 100 tasks with 10 turns each, half of them streamed: the same."""
    handler, talker = TrubricsCallbackHandler(), echoing()

    async def turns(worker: int) -> None:
        for number in range(worker * 10, worker * 10 + 10):
            config = config_of(handler, number)
            if number % 2:
                await talker.ainvoke({"question": str(number)}, config)
            else:
                [_ async for _ in talker.astream({"question": str(number)}, config)]

    await asyncio.gather(*(turns(worker) for worker in range(100)))
    assert_pairs(sink, 1000)


async def test_cancelled_runs_leave_nothing(sink: Sink, portion: int) -> None:
    """10,000 cancelled runs are all told as such, and leave nothing behind."""
    handler, stuck = TrubricsCallbackHandler("ada", thread_id="t"), Stuck(rule=says("Never."))
    config: Any = {"callbacks": [handler]}
    hundreds = 100 // portion
    for hundred in range(hundreds):
        tasks = [
            asyncio.ensure_future(stuck.ainvoke(f"{hundred} {number}", config))
            for number in range(100)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.cancel() for task in tasks] == [True] * 100
        await asyncio.gather(*tasks, return_exceptions=True)
        del tasks
        await asyncio.sleep(0)
    turns_told(sink)
    assert_nothing_left()
    told = Counter((event["event"], event["properties"].get("status")) for event in sink.events)
    count = hundreds * 100
    assert told == {("Prompt", None): count, ("Generation", "incomplete"): count}


async def test_own_keys_of_a_model(sink: Sink) -> None:
    """Our own keys in the metadata of a chain's model count, where the chain's own has none."""
    owned: Any = TEMPLATE | model().with_config(metadata=dict(OWN))
    metadata: dict[str, Any] = dict(METADATA)
    callbacks: list[Any] = [TrubricsCallbackHandler("told", thread_id="told-t")]
    owned.invoke(GIVEN, {"callbacks": callbacks, "metadata": metadata})
    owned.invoke(GIVEN, {"callbacks": callbacks, "metadata": {"trubrics_user_id": "root"}})
    assert who(sink) == [("own", "own-t"), ("root", "own-t")]


def test_a_config_of_the_apps(sink: Sink) -> None:
    """What the app's own code calls its config is not what the run is configured with."""

    def serve(config: dict[str, Any]) -> None:
        assert config
        model().invoke(QUESTION, {"callbacks": [TrubricsCallbackHandler()]})
        chain().invoke(GIVEN, {"callbacks": [TrubricsCallbackHandler(thread_id="t-1")]})

    serve({"configurable": dict(CONFIGURABLE)})
    asked, chained = who(sink)
    assert asked[0].startswith("anon-")
    assert chained[0].startswith("anon-")


async def test_a_user_that_changes_before_the_model(sink: Sink) -> None:
    """And one for the user, whichever the thread is."""
    users = ["ada"]

    def prepare(given: Any) -> Any:
        users.append("bob")
        return given

    handler = TrubricsCallbackHandler(lambda: users[-1], thread_id="t")
    (RunnableLambda(prepare) | model()).invoke(QUESTION, {"callbacks": [handler]})
    assert who(sink) == [("ada", "t")]


def test_the_thread_of_the_run_itself(sink: Sink) -> None:
    """What a run is configured with wins over the run around it, which has no handler."""
    handlers = [TrubricsCallbackHandler("ada")]
    inner: Any = {"callbacks": handlers, "configurable": {"thread_id": "inner"}}
    outer: Any = RunnableLambda(lambda _: model().invoke(QUESTION, inner))
    outer.invoke("anything", {"configurable": {"thread_id": "outer"}})
    assert who(sink) == [("ada", "inner")]
