"""A graph that stops for a human in one worker process, and goes on in another one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langchain.agents.middleware", reason="needs langchain 1.x")

from tests.told import told
from tests.workers import Worker, environ

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm")

SET_UP = """
import collections
import pathlib
import pickle
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langgraph.checkpoint.memory import MemorySaver
from langgraph.types import Command
from tests.langchain.chains import weather
from tests.langchain.models import Scripted, calls
saver = MemorySaver()
agent = create_agent(
    Scripted(rule=calls("weather")),
    [weather],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"weather": True})],
    checkpointer=saver,
)
"""
# A node speaks as the user, before a breakpoint.
CRITIQUE = """
from langchain_core.messages import HumanMessage
from langgraph.graph import MessagesState
from tests.langchain.lines import line_of
from tests.langchain.models import says
def writes(state):
    return {"messages": [Scripted(rule=says("A draft.")).invoke(state["messages"])]}
def criticises(_):
    return {"messages": [HumanMessage("Too long.")]}
compiled = {"checkpointer": saver, "interrupt_before": ["node-2"]}
agent = line_of(writes, criticises, writes, state=MessagesState, compiled=compiled)
"""
# What a checkpointer with a database does.
DRIVE = """
if pathlib.Path(kept).exists():
    storage, saver.writes, blobs = pickle.loads(pathlib.Path(kept).read_bytes())
    for thread, spaces in storage.items():
        saver.storage[thread].update(spaces)
    saver.blobs.update(blobs)
    saver.writes = collections.defaultdict(dict, saver.writes)
given = Command(resume={"decisions": [yes]}) if yes else None
if asks:
    given = {"messages": [("user", asks)]}
handler = trubrics_instrument.TrubricsCallbackHandler("ada")
with trubrics_instrument.context(prompt_id=prompt_id):
    agent.invoke(given, {"callbacks": [handler], "configurable": {"thread_id": "t-1"}})
storage = {thread: dict(spaces) for thread, spaces in saver.storage.items()}
parts = (storage, dict(saver.writes), dict(saver.blobs))
pathlib.Path(kept).write_bytes(pickle.dumps(parts))
"""
YES = {"type": "approve"}


def drive(
    worker: Worker,
    folder: Path,
    asks: str | None = None,
    prompt_id: str | None = None,
    yes: Mapping[str, str] | None = YES,
) -> None:
    """Have a worker ask, or approve what waits, or just go on."""
    worker.run(DRIVE, kept=str(folder / "kept"), asks=asks, yes=yes, prompt_id=prompt_id)


def assert_two_turns(sink: Sink) -> None:
    """Check that two questions were told, each with the tool that was approved."""
    names = ["Prompt", "Generation", "Tool call", "Generation"]
    events: list[dict[str, Any]] = told(sink, 8)
    assert [(one["event"], one["$prompt_id"]) for one in events] == [
        *((name, "prompt 1") for name in names),
        *((name, "prompt 2") for name in names),
    ]
    assert {(one["user_id"], one["$thread_id"]) for one in events} == {("ada", "thread 1")}


@pytest.mark.parametrize("again", ["The weather?", "And the weather now?"])
def test_approved_elsewhere(again: str, tmp_path: Path, server: Loopback, sink: Sink) -> None:
    """What follows is of the turn that waits in the thread, whichever process has begun it."""
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        drive(one, tmp_path, "The weather?")
        drive(other, tmp_path)
        # What stood in a process is no turn of the thread's any more, once that went on elsewhere.
        drive(other, tmp_path, again)
        drive(one, tmp_path)
    assert_two_turns(sink)


def test_a_prompt_of_the_apps(tmp_path: Path, server: Loopback, sink: Sink) -> None:
    """A turn whose prompt the app has named waits where it is, and not as an earlier one."""
    with Worker(environ(server, sink), SET_UP) as one:
        drive(one, tmp_path, "The weather?")
        drive(one, tmp_path)
        drive(one, tmp_path, "The weather?", prompt_id="message-2")
        drive(one, tmp_path)
    assert_two_turns(sink)
    assert sink.events[7]["properties"]["$prompt_id"] == "message-2"


def test_criticised_elsewhere(tmp_path: Path, server: Loopback, sink: Sink) -> None:
    """What a node says to the model is nobody's question, whichever process goes on with it."""
    around, set_up = environ(server, sink), SET_UP + CRITIQUE
    with Worker(around, set_up) as one, Worker(around, set_up) as other:
        drive(one, tmp_path, "Write!")
        drive(other, tmp_path, yes=None)
    events: list[dict[str, Any]] = told(sink, 3)
    assert [one["event"] for one in events] == ["Prompt", "Generation", "Generation"]
