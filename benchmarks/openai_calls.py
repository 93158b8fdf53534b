"""What observing costs a call of the OpenAI client: ours, nobody, and the others.

    python -m benchmarks.openai_calls [--rounds 9] [--memory]

CPU time per call of the whole process, background threads and the final flush included; a model
server and a sink on this machine, in processes of their own. Each candidate lives in a process of
its own, because some cannot be taken off, and all take turns within one run: compare the lines of
one table, never two tables. "two events" reads nothing and sends what ours sends, ready made: the
floor for whoever sends two events a call. --memory adds what 100,000 calls and 10,000 abandoned
streams leave.

The others are measured where they are installed (.venv-versions/others): langfuse, posthog,
openinference-instrumentation-openai with opentelemetry-exporter-otlp-proto-http.
"""

# The others' types are unknown, and where they are not installed, altogether.
# pyright: basic

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import multiprocessing
import statistics
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import openai
import wrapt

import trubrics_instrument
from benchmarks.ready_events import tell_two

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

CHUNKS = 200
CALLS = {"whole": 60, "stream": 15, "async whole": 60, "async stream": 15}
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "On time?"}]}
_HEAD = b'"id": "c-1", "created": 1, "model": "m"'
_DELTA = (
    b'{%s, "object": "chat.completion.chunk", '
    b'"choices": [{"index": 0, "delta": {"content": "so "}}]}'
)
_MESSAGE = b'{"role": "assistant", "content": "It is on time."}'
_WHOLE = (
    b'{%s, "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", '
    b'"message": %s}], "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}}'
)
WHOLE = _WHOLE % (_HEAD, _MESSAGE)
STREAM = b"".join([b"data: %s\n\n" % (_DELTA % _HEAD)] * CHUNKS) + b"data: [DONE]\n\n"


class _Server(BaseHTTPRequestHandler):
    """A model server, and the ingestion endpoint of everybody."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer a question, or take a batch of whatever it is."""
        asked = self.rfile.read(int(self.headers.get("content-length", "0")))
        streamed = self.path.endswith("completions") and b'"stream":true' in asked
        body = STREAM if streamed else WHOLE if self.path.endswith("completions") else b"{}"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


def _serve(ready: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    ready.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


def nobody(_: str) -> Callable[[], object]:
    """Observe nothing."""
    return lambda: None


def ours(sink: str) -> Callable[[], object]:
    """Put our patch on."""
    trubrics_instrument.configure(host=sink, spool="off")
    trubrics_instrument.patch_openai()
    return lambda: trubrics_instrument.flush(10)


def two_events(sink: str) -> Callable[[], object]:
    """Read nothing, and send two events for each call."""
    trubrics_instrument.configure(host=sink, spool="off")

    def telling(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        tell_two()
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper("openai", "OpenAI.request", telling)
    wrapt.wrap_function_wrapper("openai", "AsyncOpenAI.request", telling)
    return lambda: trubrics_instrument.flush(10)


def openinference(sink: str) -> Any:
    """Put OpenInference on, with OpenTelemetry's batches over HTTP."""
    trace = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    instrumentation = importlib.import_module("openinference.instrumentation.openai")
    provider = trace.TracerProvider()
    exporter = otlp.OTLPSpanExporter(endpoint=f"{sink}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    instrumentation.OpenAIInstrumentor().instrument(tracer_provider=provider)
    return provider.force_flush


def langfuse(sink: str) -> Any:
    """Put Langfuse on."""
    client = importlib.import_module("langfuse").Langfuse(
        public_key="pk", secret_key="sk", base_url=sink
    )
    importlib.import_module("langfuse.openai")
    return client.flush


def posthog(sink: str) -> Any:
    """Use PostHog's clients in the place of the SDK's."""
    client = importlib.import_module("posthog").Posthog("key", host=sink)
    theirs = importlib.import_module("posthog.ai.openai")

    def bound(kind: Any) -> Callable[..., Any]:
        return lambda **options: kind(posthog_client=client, **options)

    openai.OpenAI = bound(theirs.OpenAI)  # type: ignore[assignment,misc] # for this process only
    openai.AsyncOpenAI = bound(theirs.AsyncOpenAI)  # type: ignore[assignment,misc] # the same
    return client.flush


CANDIDATES = (nobody, two_events, ours, openinference, langfuse, posthog)


def _candidate(put_on: Callable[[str], Callable[[], object]], url: str, pipe: Connection) -> None:
    """Run what is asked for, in this process, and tell the CPU seconds that it took."""
    try:
        flush = put_on(url)
    except ImportError as error:
        pipe.send(f"{put_on.__name__} is not installed: {error}")
        return
    pipe.send(None)
    loop = asyncio.new_event_loop()
    runs = _runs(f"{url}/v1", loop)
    with contextlib.suppress(EOFError):  # the end of the benchmark
        while True:
            column, calls = pipe.recv()
            gc.collect()
            start_s = time.process_time()
            runs[column](calls)
            flush()
            pipe.send((time.process_time() - start_s, _resident_bytes()))


def _runs(base_url: str, loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[int], None]]:
    options: dict[str, Any] = {"base_url": base_url, "api_key": "k"}
    chat = openai.OpenAI(**options).chat.completions
    async_chat = openai.AsyncOpenAI(**options).chat.completions

    def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
        def run(calls: int) -> None:
            for _ in range(calls):
                call()

        return run

    async def async_stream() -> int:
        return len([one async for one in await async_chat.create(**ASK, stream=True)])

    return {
        "whole": repeated(lambda: chat.create(**ASK)),
        "stream": repeated(lambda: list(chat.create(**ASK, stream=True))),
        "abandoned": repeated(lambda: next(iter(chat.create(**ASK, stream=True)))),
        "async whole": repeated(lambda: loop.run_until_complete(async_chat.create(**ASK))),
        "async stream": repeated(lambda: loop.run_until_complete(async_stream())),
    }


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - Linux's own file
        return int(statm.read().split()[1]) * 4096


def main() -> None:
    """Measure all in turns, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", action="store_true", help="100,000 calls: some minutes more")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready, other = context.Pipe()
    context.Process(target=_serve, args=(other,), daemon=True).start()
    url = ready.recv()
    pipes = _started(context, url)
    seconds = _measured(pipes, options.rounds)
    _print_table(seconds)
    if options.memory:
        _print_memory(pipes["ours"])


def _started(context: Any, url: str) -> dict[str, Connection]:
    pipes: dict[str, Connection] = {}
    for put_on in CANDIDATES:
        mine, theirs = context.Pipe()
        context.Process(target=_candidate, args=(put_on, url, theirs), daemon=True).start()
        problem = mine.recv()
        if problem:
            print(problem)
        else:
            pipes[put_on.__name__] = mine
    return pipes


def _measured(pipes: dict[str, Connection], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return CPU seconds per call, by candidate and column; the first round only warms up."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", flush=True)
        for column, calls in CALLS.items():
            for name, pipe in pipes.items():
                pipe.send((column, calls))
                took_s, _ = pipe.recv()
                if number:
                    seconds.setdefault((name, column), []).append(took_s / calls)
    return seconds


def _print_table(seconds: dict[tuple[str, str], list[float]]) -> None:
    print("\nCPU per call in µs, what it adds to nobody's, and in brackets what it adds per chunk")
    print(f"{'':16}" + "".join(f"{column:>26}" for column in CALLS))
    for name in dict.fromkeys(name for name, _ in seconds):
        cells = [_cell(seconds[name, one], seconds["nobody", one], one) for one in CALLS]
        print(f"{name:16}" + "".join(f"{cell:>26}" for cell in cells))


def _cell(own: list[float], nobodys: list[float], column: str) -> str:
    """Return the median, and the median of the ratios within each round."""
    added = statistics.median(mine / base - 1 for mine, base in zip(own, nobodys, strict=True))
    text = f"{statistics.median(own) * 1e6:.0f} {added:+.1%}"
    per_chunk_s = added * statistics.median(nobodys) / CHUNKS
    return f"{text} ({per_chunk_s * 1e6:+.2f})" if "stream" in column else text


def _print_memory(pipe: Connection) -> None:
    for column, calls in (("whole", 100_000), ("abandoned", 10_000)):
        pipe.send((column, calls // 10))
        _, warm_bytes = pipe.recv()
        pipe.send((column, calls))
        _, after_bytes = pipe.recv()
        print(f"{calls} calls {column}: {(after_bytes - warm_bytes) / 2**20:+.1f} MiB resident")


if __name__ == "__main__":
    main()
