"""Graphs whose nodes run one after another, wherever LangGraph is installed, in any version."""

# LangChain's and LangGraph's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda

if TYPE_CHECKING:
    from collections.abc import Mapping


def line_of(
    *nodes: Any, state: Any = None, compiled: Mapping[str, Any] | None = None, **of_each: Any
) -> Any:
    """Return a graph of these nodes, with a state of messages if no other is given.

    Args:
        nodes: What runs, called `node-0`, `node-1` and so on.
        state: The state's class.
        compiled: What `compile` is told.
        of_each: What `add_node` is told.
    """
    graphs = pytest.importorskip("langgraph.graph")
    graph: Any = graphs.StateGraph(state or graphs.MessagesState)
    last = graphs.START
    for number, node in enumerate(nodes):
        graph.add_node(f"node-{number}", node, **of_each)
        graph.add_edge(last, f"node-{number}")
        last = f"node-{number}"
    return graph.compile(**compiled or {})


def kept_line(*nodes: Any, state: Any = None, **compiled: Any) -> Any:
    """Return such a graph that keeps its state, with what else `compile` is told."""
    memory = pytest.importorskip("langgraph.checkpoint.memory")
    return line_of(*nodes, state=state, compiled={"checkpointer": memory.MemorySaver(), **compiled})


def graph_around(talker: Any) -> Any:
    """Return a graph whose one node asks this model, in either way, and in any Python."""

    def talk(state: Any, config: Any) -> Any:
        return {"messages": [talker.invoke(state["messages"], config)]}

    async def talk_async(state: Any, config: Any) -> Any:
        return {"messages": [await talker.ainvoke(state["messages"], config)]}

    return line_of(RunnableLambda(talk, afunc=talk_async))
