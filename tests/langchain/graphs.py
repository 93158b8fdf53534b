"""Shapes of apps that LangGraph and `create_agent` build, and what each is to be told as."""

# LangChain's and LangGraph's own types are unknown in part, and so are lambdas between them.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.func import entrypoint, task  # pyright: ignore[reportMissingTypeStubs] # it has types
from langgraph.graph import (  # pyright: ignore[reportMissingTypeStubs] # it has types
    START,
    MessagesState,
    StateGraph,
)
from langgraph.types import Command, Send

from tests.langchain.chains import ANSWER, QUESTION, Verdict, chain, model, weather
from tests.langchain.chains import asking as asking_tool
from tests.langchain.driving import (
    GRAPH,
    Mode,
    Shape,
    failed,
    failed_tool,
    generation,
    prompt,
    tokens,
    tool_call,
)
from tests.langchain.lines import line_of
from tests.langchain.models import Scripted, calls, refuses, says

ASKED = prompt(QUESTION, **GRAPH)
EVENTS = {"stream": "events"}
A_RUN: dict[str, Any] = {"$generation_id": "run"}
MESSAGE = {"$generation_id": "message"}
USER = {"messages": [{"role": "user", "content": QUESTION}]}
HISTORY = {"messages": [HumanMessage("Hello"), AIMessage("Hi", id="a-1"), HumanMessage(QUESTION)]}
TWICE: dict[str, Any] = {"model_calls": 2, **tokens(2)}
ALONE: tuple[Mode, ...] = ("invoke", "ainvoke", "stream", "astream", "events")


def answered(text: str = ANSWER, **more: Any) -> dict[str, Any]:
    """Return an answer that a graph gives as a message."""
    return generation(text, **{**GRAPH, **MESSAGE, **EVENTS, **more})


def used(name: str, **more: Any) -> dict[str, Any]:
    """Return a tool's run in a graph."""
    return tool_call(name, **{**GRAPH, "tool_call_id": f"call-{name}", **more})


class Trip(TypedDict):
    """A state of an app's own."""

    question: str
    notes: Annotated[list[str], operator.add]
    answer: str


class Opaque(TypedDict, total=False):
    """A state that does not tell what is what."""

    first: str
    second: str
    third: str


@tool
def research(x: str) -> str:
    """Ask another agent."""
    inner: Any = create_agent(Scripted(rule=calls("weather", then="Found.")), [weather])
    return str(inner.invoke({"messages": [("user", f"Research {x}")]})["messages"][-1].content)


@tool(return_direct=True)
def direct(x: str) -> str:
    """Answer the user."""
    return f"Directly {x}"


@tool
def broken(x: str) -> str:
    """Fail."""
    raise LookupError(x)


def agent(*tools: Any, rule: Any = None, **more: Any) -> Any:
    """Return an agent whose model calls each of its tools once."""
    names = [one.name for one in tools]
    rule = rule or (calls(*names, then=ANSWER) if names else says(ANSWER))
    return create_agent(Scripted(rule=rule), list(tools), **more)


def graph_of(state: Any) -> Any:
    """Return an empty graph."""
    return StateGraph(state)


def messages_graph(text: str = ANSWER) -> Any:
    """Return the graph of every tutorial."""
    return line_of(lambda state: {"messages": [model(text).invoke(state["messages"])]})


def trip_graph() -> Any:
    """Return a graph with two nodes at once, and one that joins them."""
    graph = graph_of(Trip)
    for name in ("hotel", "train"):
        graph.add_node(name, lambda state: {"notes": [chain("A note.").invoke(_asked(state))]})
        graph.add_edge(START, name)
        graph.add_edge(name, "join")
    graph.add_node("join", lambda state: {"answer": chain().invoke(_asked(state))})
    return graph.compile()


def opaque_graph() -> Any:
    """Return a graph whose state has names of its own."""
    return line_of(lambda state: {"third": model().invoke(state["second"]).content}, state=Opaque)


def subgraph() -> Any:
    """Return a graph with a graph inside."""
    return line_of(messages_graph())


def commanding() -> Any:
    """Return a graph whose nodes say where to go."""
    graph = graph_of(MessagesState)
    graph.add_node("first", lambda _: Command(goto="talk"), destinations=("talk",))
    graph.add_node("talk", lambda state: {"messages": [model().invoke(state["messages"])]})
    graph.add_edge(START, "first")
    return graph.compile()


def to_parent() -> Any:
    """Return a graph whose inner graph hands over to a node of the outer one."""
    inner = graph_of(MessagesState)
    inner.add_node("leave", lambda _: Command(goto="talk", graph=Command.PARENT))
    inner.add_edge(START, "leave")
    graph = graph_of(MessagesState)
    graph.add_node("inner", inner.compile(), destinations=("talk",))
    graph.add_node("talk", lambda state: {"messages": [model().invoke(state["messages"])]})
    graph.add_edge(START, "inner")
    return graph.compile()


def map_reduce() -> Any:
    """Return a graph that sends two pieces of work to the same node."""
    graph = graph_of(Trip)
    graph.add_node("note", lambda state: {"notes": [chain("A note.").invoke(_asked(state))]})
    graph.add_node("join", lambda state: {"answer": chain().invoke(_asked(state))})
    graph.add_conditional_edges(START, lambda state: [Send("note", state), Send("note", state)])
    graph.add_edge("note", "join")
    return graph.compile()


def failing() -> Any:
    """Return a graph whose model refuses."""
    refusing = Scripted(rule=refuses)
    return line_of(lambda state: {"messages": [refusing.invoke(state["messages"])]})


def modelless() -> Any:
    """Return a graph without a model."""
    return line_of(lambda _: {"messages": [AIMessage("Said by nobody.")]})


def functional() -> Any:
    """Return a workflow of the functional API."""

    @task
    def ask(text: str) -> str:
        return str(model().invoke(text).content)

    @entrypoint()
    def workflow(text: str) -> str:
        return ask(text).result()

    return workflow


def _asked(state: Trip) -> dict[str, str]:
    return {"question": state["question"]}


GRAPHS = (
    Shape("graph, messages", messages_graph, USER, [ASKED, answered()]),
    Shape("graph, a history", messages_graph, HISTORY, [ASKED, answered()]),
    Shape(
        "graph, two at once",
        trip_graph,
        {"question": QUESTION},
        [ASKED, generation(ANSWER, model_calls=3, **tokens(3), **GRAPH, **EVENTS)],
    ),
    Shape(
        "graph, map and reduce",
        map_reduce,
        {"question": QUESTION},
        [ASKED, generation(ANSWER, model_calls=3, **tokens(3), **GRAPH, **EVENTS)],
    ),
    Shape(
        "graph, a state of its own",
        opaque_graph,
        {"first": "x", "second": QUESTION},
        [ASKED, generation(ANSWER, **GRAPH, **EVENTS)],
    ),
    Shape("graph, a graph inside", subgraph, USER, [ASKED, answered()]),
    Shape("graph, commands", commanding, USER, [ASKED, answered()]),
    Shape("graph, a command to the parent", to_parent, USER, [ASKED, answered()]),
    Shape("graph, no model", modelless, USER, ()),
    Shape("graph, fails", failing, USER, [ASKED, failed(**GRAPH)], ALONE, raises=Exception),
    Shape(
        "graph, in a chain",
        lambda: messages_graph() | (lambda state: state["messages"][-1]),
        USER,
        [ASKED, answered()],
        modes=("invoke", "ainvoke", "batch", "abatch"),
    ),
    Shape("functional", functional, QUESTION, [ASKED, generation(ANSWER, **GRAPH, **EVENTS)]),
    Shape("agent, no tool", agent, USER, [ASKED, answered()]),
    Shape(
        "agent, with a system prompt",
        lambda: create_agent(model(), [], system_prompt="Be kind."),
        USER,
        [ASKED, answered()],
    ),
    Shape(
        "agent, a tool",
        lambda: agent(weather),
        USER,
        [ASKED, used("weather"), answered(tool_calls=1, **TWICE)],
    ),
    Shape(
        "agent, a tool that asks a model",
        lambda: agent(asking_tool),
        USER,
        [ASKED, used("asking"), answered(tool_calls=1, model_calls=3, **tokens(3))],
    ),
    Shape(
        "agent, an agent as a tool",
        lambda: agent(research),
        USER,
        [
            ASKED,
            used("weather"),
            used("research"),
            answered(tool_calls=2, model_calls=4, **tokens(4)),
        ],
    ),
    Shape(
        "agent, a tool that answers",
        lambda: agent(direct),
        USER,
        [ASKED, used("direct"), answered("Directly 1", tool_calls=1, **A_RUN)],
    ),
    Shape(
        "agent, a tool that fails",
        lambda: agent(broken),
        USER,
        [
            ASKED,
            failed_tool("broken", **GRAPH),
            failed("LookupError", **tokens(1), **GRAPH, **EVENTS),
        ],
        ALONE,
        raises=LookupError,
    ),
    Shape(
        "agent, a structured answer",
        lambda: agent(rule=calls("Verdict"), response_format=ToolStrategy(Verdict)),
        USER,
        [ASKED, answered('{"x": "1"}', **A_RUN)],
    ),
)
