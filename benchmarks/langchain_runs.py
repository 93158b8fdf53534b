"""What a callback handler costs a LangChain run: ours, none, one that does nothing, and the others.

    python -m benchmarks.langchain_runs [--rounds 9]

CPU time of the whole process, background threads and the final flush included, per run; a fake
model, so that nothing hides the cost. All candidates take turns within one run: compare columns of
one table, never two tables. Everybody exports to a sink on this machine, in a process of its own.
A handler that does nothing is the floor: it shows what LangChain's own dispatch costs.

The others are measured where they are installed: langfuse, posthog,
openinference-instrumentation-langchain with opentelemetry-exporter-otlp-proto-http.
"""

# The others' types are unknown in part, and where they are not installed, altogether.
# pyright: basic

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import multiprocessing
import os
import statistics
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from trubrics_instrument import TrubricsCallbackHandler, configure, flush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

TOKENS = 200


class Candidate(NamedTuple):
    """Something that observes: what it is called, how to switch it on, and how to end its work."""

    name: str
    on: Callable[[], contextlib.AbstractContextManager[list[Any]]]
    flush: Callable[[], object] = lambda: None


class Column(NamedTuple):
    """One way to run LangChain, and how many runs make one measurement."""

    name: str
    run: Callable[[Any], Any]
    runs: int


class Nothing(BaseCallbackHandler):
    """A handler that does nothing, where it is called."""

    run_inline = True


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take everything."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "13")
        self.end_headers()
        self.wfile.write(b'{"status": 1}')

    do_GET = do_POST  # noqa: N815 - as above

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Agent(FakeListChatModel):
    """A model that calls a tool, and then answers."""

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        """Return the model: it knows its tool."""
        return self

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        use = {"name": "look_up", "args": {"x": "it"}, "id": "call-1"}
        done = isinstance(messages[-1], ToolMessage)
        message = AIMessage("Found.") if done else AIMessage("", tool_calls=[use])
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def look_up(x: str) -> str:
    """Look it up."""
    return x


def columns() -> list[Column]:
    """Return the ways to run LangChain."""
    short = FakeListChatModel(responses=["Yes, it is."])
    long = FakeListChatModel(responses=["x" * TOKENS])
    prompt = ChatPromptTemplate.from_template("The question is: {question}")
    chain = prompt | short | StrOutputParser()
    given = {"question": "On time?"}
    found = [
        Column("invoke", lambda config: short.invoke("On time?", config), 100),
        Column("ainvoke", lambda config: short.ainvoke("On time?", config), 100),
        Column("stream", lambda config: list(long.stream("On time?", config)), 24),
        Column("astream", lambda config: _drain(long.astream("On time?", config)), 24),
        Column("chain", lambda config: chain.invoke(given, config), 50),
        Column("achain", lambda config: chain.ainvoke(given, config), 50),
    ]
    with contextlib.suppress(ImportError):
        agents = importlib.import_module("langchain.agents")
        agent = agents.create_agent(_Agent(responses=["x"]), [look_up])
        ask = {"messages": [("user", "On time?")]}
        found.append(Column("agent", lambda config: agent.invoke(ask, config), 16))
    return found


async def _drain(pieces: Any) -> None:
    async for _ in pieces:
        pass


def candidates(url: str) -> list[Candidate]:
    """Return who is measured: the others only where they are installed."""
    configure(host=url, spool="off")
    ours = TrubricsCallbackHandler("ada", thread_id="t-1")
    found = [
        Candidate("none", _with(None)),
        Candidate("do-nothing", _with(Nothing())),
        Candidate("trubrics", _with(ours), flush),
    ]
    others = (_made(make, url) for make in (_langfuse, _posthog, _openinference))
    return found + [other for other in others if other is not None]


def _made(make: Callable[[str], Candidate], url: str) -> Candidate | None:
    try:
        return make(url)
    except ImportError as error:
        print(f"left out: {error}")
        return None


def _with(handler: Any) -> Callable[[], contextlib.AbstractContextManager[list[Any]]]:
    return lambda: contextlib.nullcontext([] if handler is None else [handler])


def _langfuse(url: str) -> Candidate:
    langfuse = importlib.import_module("langfuse")
    client = langfuse.Langfuse(public_key="pk-lf-k", secret_key="sk-lf-k", host=url)
    handler = importlib.import_module("langfuse.langchain").CallbackHandler()
    return Candidate("langfuse", _with(handler), client.flush)


def _posthog(url: str) -> Candidate:
    client = importlib.import_module("posthog").Posthog("k", host=url)
    module = importlib.import_module("posthog.ai.langchain")
    handler = module.CallbackHandler(client=client, distinct_id="ada")
    return Candidate("posthog", _with(handler), client.flush)


def _openinference(url: str) -> Candidate:
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    instrumentor = importlib.import_module("openinference.instrumentation.langchain")
    provider = sdk.TracerProvider()
    exporter = otlp.OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(exporter))

    @contextlib.contextmanager
    def on() -> Iterator[list[Any]]:
        one = instrumentor.LangChainInstrumentor()
        one.instrument(tracer_provider=provider)
        yield []
        one.uninstrument()

    return Candidate("openinference", on, provider.force_flush)


def measure(candidate: Candidate, column: Column) -> float:
    """Return the CPU time of one run, in microseconds."""
    with candidate.on() as callbacks:
        config = {"callbacks": callbacks} if callbacks else None
        asyncio.run(_runs(column, config, 2))
        candidate.flush()
        start_s = time.process_time()
        asyncio.run(_runs(column, config, column.runs))
        candidate.flush()
        return (time.process_time() - start_s) / column.runs * 1e6


async def _runs(column: Column, config: Any, count: int) -> None:
    for _ in range(count):
        result = column.run(config)
        if asyncio.iscoroutine(result):
            await result


def report(table: dict[str, dict[str, float]]) -> None:
    """Print microseconds, how often the bare run's, and how much cheaper than the best other."""
    names = list(table["none"])
    print(f"{'CPU us a run':14}" + "".join(f"{name:>18}" for name in names))
    for candidate, row in table.items():
        cells = (f"{row[name]:9.0f} ({row[name] / table['none'][name]:5.2f})" for name in names)
        print(f"{candidate:14}" + "".join(f"{cell:>18}" for cell in cells))
    floor = (f"{table['trubrics'][name] / table['do-nothing'][name]:.2f}" for name in names)
    print(f"{'/ do-nothing':14}" + "".join(f"{cell:>18}" for cell in floor))
    others = [table[name] for name in table if name not in {"none", "do-nothing", "trubrics"}]
    if not others:
        return
    times: list[str] = []
    for name in names:
        own = table["trubrics"][name] - table["none"][name]
        best = min(row[name] for row in others) - table["none"][name]
        times.append(f"{best / own:.1f} x")
    print(f"{'best other':14}" + "".join(f"{cell:>18}" for cell in times))


def _serve(ready: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    ready.send(server.server_address[1])
    server.serve_forever()


def main() -> None:
    """Measure everybody in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    os.environ.pop("TRUBRICS_HOST", None)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=_serve, args=(there,), daemon=True)
    sink.start()
    everybody = candidates(f"http://127.0.0.1:{here.recv()}")
    seen: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for column in columns():
            for candidate in everybody:
                seen.setdefault((candidate.name, column.name), []).append(
                    measure(candidate, column)
                )
    names = [column.name for column in columns()]
    report(
        {
            candidate.name: {name: statistics.median(seen[candidate.name, name]) for name in names}
            for candidate in everybody
        }
    )
    sink.terminate()


if __name__ == "__main__":
    main()
