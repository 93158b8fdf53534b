"""What a callback handler costs a LangChain run: ours, none, one that does nothing, and the others.

    python -m benchmarks.langchain_runs [--rounds 9] [--only invoke astream] [--memory]

CPU time per run, in two tables: of the whole process, background threads and the final flush
included, and of the calling thread alone, which is what the user of the app waits for. (A handler
that LangChain calls in other threads, as it does in asynchronous code unless the handler asks to
be run inline, shows less in the second table than it takes.) A fake model, so that nothing hides
the cost. All candidates take turns, and each ratio is the median of the ratios of the rounds.
Everybody exports to a sink on this machine, in a process of its own. A handler that does nothing
is the floor: it shows what LangChain's own dispatch costs. "two events" reads nothing either, and
sends what ours sends, ready made: the floor for a handler that sends two events a run. With
`--memory` it measures instead what ten thousand cancelled runs leave in memory, of which LangChain
reports no end.

The others are measured where they are installed: langfuse, posthog,
openinference-instrumentation-langchain with opentelemetry-exporter-otlp-proto-http.
"""

# The others' types are unknown in part, and where they are not installed, altogether.
# pyright: basic

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import multiprocessing
import os
import statistics
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from benchmarks.ready_events import tell_two
from trubrics_instrument import TrubricsCallbackHandler, configure, flush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

TOKENS = 200

Row: TypeAlias = "dict[str, list[float]]"
Table: TypeAlias = "dict[str, Row]"


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


class TwoEvents(Nothing):
    """A handler that reads nothing, and sends two events for each root run."""

    def on_llm_end(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
        """Send them, if the model is the root."""
        if parent_run_id is None:
            tell_two()

    def on_chain_end(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
        """Send them, if the chain is the root."""
        if parent_run_id is None:
            tell_two()


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


class _Stuck(FakeListChatModel):
    """A model that never answers."""

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        await asyncio.Event().wait()
        raise AssertionError


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
        Candidate("two events", _with(TwoEvents()), flush),
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


class Cost(NamedTuple):
    """The CPU time of one run, in microseconds."""

    process: float
    thread: float


def measure(candidate: Candidate, column: Column) -> Cost:
    """Return what one run costs."""
    with candidate.on() as callbacks:
        config = {"callbacks": callbacks} if callbacks else None
        asyncio.run(_runs(column, config, 2))
        candidate.flush()
        gc.collect()  # nobody pays for what another one left
        process_s, thread_s = time.process_time(), time.thread_time()
        asyncio.run(_runs(column, config, column.runs))
        thread_s = time.thread_time() - thread_s
        candidate.flush()
        process_s = time.process_time() - process_s
        return Cost(process_s / column.runs * 1e6, thread_s / column.runs * 1e6)


async def _runs(column: Column, config: Any, count: int) -> None:
    for _ in range(count):
        result = column.run(config)
        if asyncio.iscoroutine(result):
            await result


def report(title: str, table: Table) -> None:
    """Print microseconds, how often the bare run's, and how much cheaper than the best other."""
    names = list(table["none"])
    print(f"{title:18}" + "".join(f"{name:>18}" for name in names))
    for candidate, row in table.items():
        cells = (
            f"{statistics.median(row[name]):9.0f} ({_ratio(row, table['none'], name):5.2f})"
            for name in names
        )
        print(f"{candidate:18}" + "".join(f"{cell:>18}" for cell in cells))
    floor = (f"{_ratio(table['trubrics'], table['do-nothing'], name):.2f}" for name in names)
    print(f"{'ours / do-nothing':18}" + "".join(f"{cell:>18}" for cell in floor))
    own = {"none", "do-nothing", "two events", "trubrics"}
    others = [table[name] for name in table if name not in own]
    if others:
        times = (f"{_times_cheaper(table, others, name):.1f} x" for name in names)
        print(f"{'best other / ours':18}" + "".join(f"{cell:>18}" for cell in times))
    print()


def _ratio(row: Row, base: Row, name: str) -> float:
    return statistics.median(one / bare for one, bare in zip(row[name], base[name], strict=True))


def _times_cheaper(table: Table, others: list[Row], name: str) -> float:
    """Return how often what we add fits into what the best of the others adds."""
    return min(_added(row, table, name) for row in others) / _added(table["trubrics"], table, name)


def _added(row: Row, table: Table, name: str) -> float:
    """Return the CPU time that a candidate adds to a bare run, in microseconds."""
    added = (one - bare for one, bare in zip(row[name], table["none"][name], strict=True))
    return statistics.median(added)


async def _cancelled(count: int, config: Any) -> None:
    """Start so many runs, a hundred at a time, and cancel them."""
    stuck = _Stuck(responses=["never"])
    for start in range(0, count, 100):
        tasks = [
            asyncio.ensure_future(stuck.ainvoke(f"{number}", config))
            for number in range(start, start + 100)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def memory(url: str) -> None:
    """Print how much memory cancelled runs leave: the first ten thousand fill what is bounded."""
    configure(host=url, spool="off")
    handler = TrubricsCallbackHandler("ada", thread_id="t-1")
    for count in range(10_000, 60_000, 10_000):
        asyncio.run(_cancelled(10_000, {"callbacks": [handler]}))
        flush(30)
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        objects = len(gc.get_objects())
        print(f"{count:6} cancelled runs: {resident / 2**20:6.1f} MiB, {objects} objects")


def _serve(ready: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    ready.send(server.server_address[1])
    server.serve_forever()


def main() -> None:
    """Measure against a sink in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", help="these columns only, such as: invoke astream")
    parser.add_argument("--memory", action="store_true", help="what cancelled runs leave")
    arguments = parser.parse_args()
    rounds, only = arguments.rounds, arguments.only
    os.environ.pop("TRUBRICS_HOST", None)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=_serve, args=(there,), daemon=True)
    sink.start()
    url = f"http://127.0.0.1:{here.recv()}"
    if arguments.memory:
        memory(url)
    else:
        compare(url, rounds, only)
    sink.terminate()


def compare(url: str, rounds: int, only: list[str] | None) -> None:
    """Measure everybody in turns, and print the medians."""
    everybody = candidates(url)
    chosen = [column for column in columns() if not only or column.name in only]
    process: Table = {one.name: {column.name: [] for column in chosen} for one in everybody}
    thread: Table = {one.name: {column.name: [] for column in chosen} for one in everybody}
    for _ in range(rounds):
        for column in chosen:
            for candidate in everybody:
                cost = measure(candidate, column)
                process[candidate.name][column.name].append(cost.process)
                thread[candidate.name][column.name].append(cost.thread)
    report("CPU us, process", process)
    report("CPU us, caller", thread)


if __name__ == "__main__":
    main()
