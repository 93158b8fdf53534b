"""The whole of it on this machine: users talk to chatbots, and the collector shows what they said.

    make demo                 keeps the page open until Ctrl-C
    make demo ARGS=--once     ends by itself; the exit code says whether all of it arrived

Without keys nothing leaves this machine: a rule-based model server answers. With OPENAI_API_KEY
the chatbots talk to OpenAI instead; with TRUBRICS_API_KEY what arrived goes to Trubrics as well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import sys
import tempfile
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fastapi_chatbot
import langchain_chain
import langgraph_agent
import model_server
import openai_chatbot
import responses_chatbot
from conversation import Script, Turn
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

import trubrics_instrument
from trubrics_instrument import TrubricsCallbackHandler, collector

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ADA = Script(
    "ada",
    "ada-tram-card",
    ("Hi, my name is Ada.", "How is the weather in Oslo?", "And in Lyon?", "What is 12 * 30?"),
)
BOB = Script("bob", "bob-opening-hours", ("My name is Bob.", "When do you open?", "Who am I?"))
CAROL = Script("carol", "carol-weekend", ("How is the weather in Porto?", "And in Oslo?", "Bye!"))
DAN = Script("dan", "dan-ticket", ("Good morning!", "Where is my ticket?", "It is 4711."))
EVE = Script("eve", "eve-first-ride", ("My name is Eve.", "What is 3 + 4?", "Who am I?"))
FINN = Script("finn", "finn-late", ("My name is Finn.", "When do you open?", "Who am I?"))
COLUMNS = (("user", 6), ("thread", 18), ("event", 11), ("model", 13), ("text", 60))


class Models(NamedTuple):
    """Where the chatbots find a model, and which one."""

    client: dict[str, Any]
    name: str


class Row(NamedTuple):
    """One event as the collector has it."""

    user: str
    thread: str
    event: str
    model: str
    text: str


def main() -> int:
    """Run the demo; return 0 if the collector has exactly what was said."""
    parser = argparse.ArgumentParser(description="Users talk to chatbots; the collector shows it.")
    parser.add_argument("--once", action="store_true", help="end when all has arrived")
    parser.add_argument("--port", type=int, default=0, help="the collector's port (default: free)")
    arguments = parser.parse_args()
    _leave_proxies_out()
    with (
        tempfile.TemporaryDirectory(prefix="trubrics-demo-") as folder,
        contextlib.ExitStack() as up,
    ):
        database = Path(folder) / "collector.sqlite"
        page = up.enter_context(collector.running(db=database, port=arguments.port))
        models = up.enter_context(_models())
        print(f"Collector  {page.url}\nModel      {models.name} at {models.client['base_url']}\n")
        trubrics_instrument.configure(host=page.url, environment="demo")
        said = list(_conversations(models))
        delivered = trubrics_instrument.flush(10)
        rows = _received(database)
        _show(rows)
        complete = delivered and _check(said, rows)
        _pass_on(database)
        if not arguments.once:
            _keep_open(page.url)
        trubrics_instrument.shutdown()
    return 0 if complete else 1


def _leave_proxies_out() -> None:
    """See that this machine is reached without a proxy of the environment's, which could not."""
    for name in ("no_proxy", "NO_PROXY"):
        others = os.environ.get(name)
        os.environ[name] = f"{others},127.0.0.1" if others else "127.0.0.1"


@contextlib.contextmanager
def _models() -> Generator[Models]:
    """Give OpenAI if there is a key for it, else the local stand-in."""
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        yield Models({"api_key": key, "base_url": base_url}, "gpt-4o-mini")
        return
    with model_server.running() as server:
        yield Models({"api_key": "demo", "base_url": server.base_url}, model_server.MODELS[0])


def _conversations(models: Models) -> Iterator[Turn]:
    """Have every conversation, and say so while it happens."""
    trubrics_instrument.patch_openai()
    handler = TrubricsCallbackHandler()
    chat_model = ChatOpenAI(model=models.name, **models.client)
    with OpenAI(**models.client) as client:
        yield from _aloud("OpenAI client", openai_chatbot.chat(client, models.name, ADA))
    chain = langchain_chain.build(chat_model)
    yield from _aloud("LangChain chain", langchain_chain.chat(chain, BOB, handler))
    agent = langgraph_agent.build(chat_model)
    yield from _aloud("LangGraph agent", langgraph_agent.chat(agent, CAROL, handler))
    yield from _aloud("Responses API", asyncio.run(_responses(models)))
    app = fastapi_chatbot.build(AsyncOpenAI(**models.client), models.name)
    with fastapi_chatbot.running(app) as url:
        yield from _aloud("FastAPI, two users at once", fastapi_chatbot.talk(url, (EVE, FINN)))


async def _responses(models: Models) -> list[Turn]:
    async with AsyncOpenAI(**models.client) as client:
        return await responses_chatbot.chat(client, models.name, DAN)


def _aloud(app: str, turns: Iterator[Turn] | list[Turn]) -> Iterator[Turn]:
    print(f"{app}:")
    for turn in turns:
        used = f"   [{', '.join(turn.tools)}]" if turn.tools else ""
        print(f"  {turn.user}: {turn.question}\n       {turn.answer}{used}", flush=True)
        yield turn
    print()


def _received(database: Path) -> list[Row]:
    """Return what the collector has, in the order in which it was said."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT user_id, thread_id, event, assistant_id, text, properties FROM events"
            " ORDER BY user_id, timestamp, id"
        ).fetchall()
    return [
        Row(user, thread, event, model or "", text or json.loads(properties).get("tool_name", ""))
        for user, thread, event, model, text, properties in found
    ]


def _show(rows: list[Row]) -> None:
    print("What the collector received:\n")
    print("  ".join(title.ljust(width) for title, width in COLUMNS))
    print("  ".join("-" * width for _, width in COLUMNS))
    for row in rows:
        cells = (str(cell).replace("\n", " ") for cell in row)
        widths = (width for _, width in COLUMNS)
        print(
            "  ".join(
                cell[:width].ljust(width) for cell, width in zip(cells, widths, strict=True)
            ).rstrip()
        )


def _check(said: list[Turn], rows: list[Row]) -> bool:
    """Compare what was said with what arrived, and say what differs."""
    expected: list[tuple[str, str, str, str]] = []
    for turn in sorted(said, key=lambda turn: turn.user):
        where = (turn.user, turn.thread)
        expected.append((*where, "Prompt", turn.question))
        expected.extend((*where, "Tool call", tool) for tool in turn.tools)
        expected.append((*where, "Generation", turn.answer))
    arrived = [(row.user, row.thread, row.event, row.text) for row in rows]
    if arrived == expected:
        print(f"\nExactly what was said: {len(said)} questions, {len(rows)} events.")
        return True
    print("\nNot what was said:")
    for line in [line for line in expected if line not in arrived]:
        print(f"  missing     {line}")
    for line in [line for line in arrived if line not in expected]:
        print(f"  unexpected  {line}")
    if sorted(arrived) == sorted(expected):
        print("  all of it is there, but in another order")
    return False


def _pass_on(database: Path) -> None:
    """Send what arrived to Trubrics as well, if there is a key for it."""
    key = os.environ.get("TRUBRICS_API_KEY")
    if not key:
        return
    trubrics_instrument.configure(key, host=os.environ.get("TRUBRICS_HOST"), environment="demo")
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        columns = "event, user_id, timestamp, properties"
        found = connection.execute(f"SELECT {columns} FROM events ORDER BY id").fetchall()
    for event, user, timestamp, properties in found:
        moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
        trubrics_instrument.track(event, json.loads(properties), user_id=user, timestamp=moment)
    arrived = trubrics_instrument.flush(30)
    print(f"Trubrics: {len(found)} events {'delivered' if arrived else 'not delivered in time'}.")


def _keep_open(url: str) -> None:
    with contextlib.suppress(KeyboardInterrupt):  # it may come as soon as the line is read
        print(f"\nLook at the conversations: {url}\nCtrl-C ends.", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
