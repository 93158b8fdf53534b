"""What stands around an agent's model and its tools: middleware, limits, tools that fail."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import pytest

pytest.importorskip("langchain.agents", reason="needs langchain 1.x")

from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    SummarizationMiddleware,
    after_model,
    before_model,
    wrap_model_call,
    wrap_tool_call,
)
from langchain.tools import InjectedState
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import START, MessagesState
from langgraph.types import Command, interrupt

from tests.langchain.chains import ANSWER, QUESTION, broken, model, refusing, weather
from tests.langchain.driving import (
    GRAPH,
    IN_NODES,
    Mode,
    Shape,
    assert_nothing_left,
    case_id,
    cases,
    drive,
    drive_shape,
    expected,
    failed,
    failed_tool,
    tokens,
    turns_told,
)
from tests.langchain.graphs import (
    A_RUN,
    ALONE,
    ASKED,
    EVENTS,
    TWICE,
    USER,
    agent,
    answered,
    graph_of,
    used,
)
from tests.langchain.models import USAGE, Scripted, calls
from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

LIMIT = "Model call limits exceeded: run limit (1/1)"
SECOND: dict[str, Any] = {"model": "model-2", "$assistant_id": "model-2"}
TOLD: list[Any] = [HumanMessage("Hello"), AIMessage("Hi", id="a-1")] * 2
LONG = {"messages": [*TOLD, HumanMessage(QUESTION)]}


@tool
def counting(x: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Look at the state of the graph around."""
    return f"{len(state['messages'])} messages"


@tool
def unhappy(x: str) -> str:
    """Fail in a way that the agent is to know of."""
    raise ToolException(x)


unhappy.handle_tool_error = True


def around(*middleware: Any, talker: Any = None, tools: Any = (weather,)) -> Any:
    """Return an agent with these middlewares, whose model calls its tools once."""
    names = [one.name for one in tools]
    talker = talker or Scripted(rule=calls(*names, then=ANSWER))
    return create_agent(talker, list(tools), middleware=list(middleware))


@before_model(can_jump_to=["end"])
def blocked(_: Any, __: Any) -> Any:
    """Answer without a model."""
    return {"jump_to": "end", "messages": [AIMessage("Blocked.")]}


@after_model
def rewritten(state: Any, _: Any) -> Any:
    """Put something else in place of what the model said."""
    return {"messages": [AIMessage("Rewritten.", id=state["messages"][-1].id)]}


@wrap_model_call
def asked_twice(request: Any, handler: Any) -> Any:
    """Ask the model twice, and take its second answer."""
    handler(request)
    return handler(request)


@wrap_tool_call
def made_up(request: Any, _: Any) -> Any:
    """Answer instead of the tool."""
    return ToolMessage("Sunny.", tool_call_id=request.tool_call["id"])


def endless(messages: list[Any]) -> AIMessage:
    """Call a tool, whatever comes."""
    use = {"name": "weather", "args": {"x": "1"}, "id": "call-weather"}
    return AIMessage("", tool_calls=[use], usage_metadata=dict(USAGE))


def with_tool_node(**how: Any) -> Any:
    """Return a graph whose tools run at once, and of which one fails."""
    try:
        from langgraph.prebuilt import ToolNode, tools_condition
    except ImportError:
        pytest.skip("this langgraph-prebuilt is not of this langgraph")
    talker = Scripted(rule=calls("weather", "broken", then=ANSWER))
    graph = graph_of(MessagesState)
    graph.add_node("talk", lambda state: {"messages": [talker.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([weather, broken], **how))
    graph.add_edge(START, "talk")
    graph.add_conditional_edges("talk", tools_condition)
    graph.add_edge("tools", "talk")
    return graph.compile()


def summing() -> Any:
    """Return the middleware that sums up what was said, by another model."""
    other: Any = model("A summary.", name="model-2")
    about: dict[str, Any] = {"trigger": ("messages", 3), "keep": ("messages", 1)}
    if "trigger" not in inspect.signature(SummarizationMiddleware.__init__).parameters:
        about = {"max_tokens_before_summary": 1, "messages_to_keep": 1}  # langchain 1.0
    return SummarizationMiddleware(other, **about)


USED = used("weather")
SHAPES = (
    Shape(
        "a tool that sees the state",
        lambda: agent(counting),
        USER,
        [ASKED, used("counting"), answered(tool_calls=1, **TWICE)],
    ),
    Shape(
        "a tool whose failure is handled",
        lambda: agent(unhappy),
        USER,
        [ASKED, used("unhappy"), answered(tool_calls=1, **TWICE)],
    ),
    Shape(
        "another model in need",
        lambda: around(ModelFallbackMiddleware(model(name="model-2")), talker=refusing(), tools=()),
        USER,
        [ASKED, answered(model_calls=2, **SECOND)],
    ),
    Shape(
        "a limit that ends it",
        lambda: around(ModelCallLimitMiddleware(run_limit=1, exit_behavior="end")),
        USER,
        [ASKED, USED, answered(LIMIT, tool_calls=1, **A_RUN)],
        ALONE,
    ),
    Shape(
        "a limit that raises",
        lambda: around(ModelCallLimitMiddleware(run_limit=1, exit_behavior="error")),
        USER,
        [ASKED, USED, failed("ModelCallLimitExceededError", **tokens(1), **GRAPH, **EVENTS)],
        ALONE,
        raises=Exception,
    ),
    Shape(
        "blocked",
        lambda: around(blocked),
        USER,
        (),
    ),
    Shape(
        "rewritten",
        lambda: around(rewritten, tools=(), talker=model()),
        USER,
        [ASKED, answered("Rewritten.")],
    ),
    Shape(
        "asked twice",
        lambda: around(asked_twice, tools=(), talker=model()),
        USER,
        [ASKED, answered(**TWICE)],
        ("invoke", "stream"),
    ),
    Shape(
        "a tool's answer made up",
        lambda: around(made_up),
        USER,
        [ASKED, answered(**TWICE)],
        ("invoke", "stream"),
    ),
    Shape(
        "going round",
        lambda: create_agent(Scripted(rule=endless), [weather]),
        USER,
        [ASKED, USED, USED, failed("GraphRecursionError", **tokens(3), **GRAPH, **EVENTS)],
        ALONE,
        config={"recursion_limit": 5},
        raises=RecursionError,
    ),
    Shape(
        "tools at once, a failure handled",
        lambda: with_tool_node(handle_tool_errors=True),
        USER,
        [ASKED, USED, failed_tool("broken", **GRAPH), answered(tool_calls=2, **TWICE)],
        ("invoke", "stream"),
    ),
    Shape(
        "tools at once, a failure raised",
        lambda: with_tool_node(handle_tool_errors=False),
        USER,
        [
            ASKED,
            USED,
            failed_tool("broken", **GRAPH),
            failed("LookupError", **tokens(1), **GRAPH, **EVENTS),
        ],
        ("invoke", "stream"),
        raises=LookupError,
    ),
)


@pytest.mark.parametrize(
    ("shape", "mode"),
    cases([one._replace(marks=IN_NODES if one.events else {}) for one in SHAPES]),
    ids=case_id,
)
async def test_shape(shape: Shape, mode: Mode, sink: Sink) -> None:
    """Each shape is told exactly as written beside it, in each of its modes."""
    await drive_shape(shape, mode)
    turns = turns_told(sink)
    for turn in turns:  # tools that run at once end in any order
        turn[1:-1] = sorted(turn[1:-1], key=lambda one: "status" in one)
    assert turns == expected(shape, mode)
    assert_nothing_left()


@pytest.mark.parametrize("mode", [pytest.param(one, marks=IN_NODES.get(one, ())) for one in ALONE])
async def test_summarization(mode: Mode, sink: Sink) -> None:
    """The question is the user's, and the answer the agent's, whatever else is summed up."""
    built = around(summing(), tools=(), talker=model())
    await drive(mode, built, LONG, {"callbacks": [TrubricsCallbackHandler("ada", thread_id="t")]})
    [[asked, told]] = turns_told(sink)
    assert (asked["event"], asked["$text"]) == ("Prompt", QUESTION)
    shown = [told[name] for name in ("event", "$text", "$assistant_id", "model_calls")]
    assert shown == ["Generation", ANSWER, "model-1", 2]
    assert told["total_tokens"] == tokens(2)["total_tokens"]
    assert_nothing_left()


@tool
def refund(x: str) -> str:
    """Ask a human first."""
    return str(interrupt({"question": f"Refund {x}?"}))


@tool
def clerk(x: str) -> str:
    """Ask the agent that can do it."""
    inner: Any = create_agent(Scripted(rule=calls("refund", then="It is done.")), [refund])
    return str(inner.invoke({"messages": [("user", x)]})["messages"][-1].content)


@pytest.mark.parametrize("mode", [pytest.param(one, marks=IN_NODES.get(one, ())) for one in ALONE])
async def test_sub_agent_asks_a_human(mode: Mode, sink: Sink) -> None:
    """What an agent inside asks the human is an answer, and what the human says a prompt."""
    built = create_agent(
        Scripted(rule=calls("clerk", then=ANSWER)), [clerk], checkpointer=MemorySaver()
    )
    about: Any = {
        "callbacks": [TrubricsCallbackHandler("ada")],
        "configurable": {"thread_id": "t-1"},
    }
    await drive(mode, built, USER, about)
    await drive(mode, built, Command(resume="Yes, do."), about)
    keys = ("event", "$text", "tool_name", "status")
    assert [[tuple(one.get(key) for key in keys) for one in turn] for turn in turns_told(sink)] == [
        [("Prompt", QUESTION, None, None), ("Generation", "Refund 1?", None, "incomplete")],
        [
            ("Prompt", "Yes, do.", None, None),
            ("Tool call", None, "refund", None),
            ("Tool call", None, "clerk", None),
            ("Generation", ANSWER, None, "ok"),
        ],
    ]
    assert_nothing_left()
