"""An app that is observed by somebody else too, in a process of its own; tells what each saw.

    python -m tests.openai.beside logfire ours-first

One after the other: nobody, both on, one off, both off, ours on again. Prints the answers, our
events and their spans of each stage as JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_wire import Answer, chat_chunks, chat_completion

from tests.loopback import Loopback, Request
from tests.openai.asking import Mode, Way, ask, asking, client_of, close_client
from tests.replies import Reply, chat_stream, json_reply
from tests.sink import Sink
from trubrics_instrument import configure, flush, patch_openai, unpatch_openai

if TYPE_CHECKING:
    from collections.abc import Callable

MODES: tuple[Mode, ...] = ("sync", "async")
WAYS = [Way("chat", shape, mode) for shape in ("whole", "stream") for mode in MODES]
ANSWER = Answer("It is on time.")


def _imported(module: str, name: str) -> Any:
    """Return a name of a package that the project's own environment does not have."""
    return getattr(importlib.import_module(module), name)


TracerProvider = _imported("opentelemetry.sdk.trace", "TracerProvider")
Processor = _imported("opentelemetry.sdk.trace.export", "SimpleSpanProcessor")
SPANS = _imported(
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", "InMemorySpanExporter"
)()


class Other(NamedTuple):
    """Another instrumentation: how to put it on, and off if it can be taken off."""

    put_on: Callable[[], None]
    take_off: Callable[[], None] | None


def openinference(provider: Any) -> Other:
    """Return OpenInference, which wraps the same methods as we do."""
    instrumentor = _imported("openinference.instrumentation.openai", "OpenAIInstrumentor")()
    return Other(
        lambda: instrumentor.instrument(tracer_provider=provider), instrumentor.uninstrument
    )


def opentelemetry(provider: Any) -> Other:
    """Return OpenTelemetry, which wraps `create`."""
    instrumentor = _imported("opentelemetry.instrumentation.openai_v2", "OpenAIInstrumentor")()
    return Other(
        lambda: instrumentor.instrument(tracer_provider=provider), instrumentor.uninstrument
    )


def langfuse(provider: Any) -> Other:
    """Return Langfuse, which wraps `create` and the iterators of streams, for good."""

    def put_on() -> None:
        client = _imported("langfuse", "Langfuse")
        client(public_key="pk", secret_key="sk", tracer_provider=provider, span_exporter=SPANS)
        importlib.import_module("langfuse.openai")

    return Other(put_on, None)


def logfire(_: Any) -> Other:
    """Return Logfire, which replaces `request`, and puts back what it found."""
    _imported("logfire", "configure")(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[Processor(SPANS)],
        inspect_arguments=False,
    )
    managers: list[Any] = []

    def put_on() -> None:
        managers.append(_imported("logfire", "instrument_openai")())

    def take_off() -> None:
        with managers.pop():
            pass

    return Other(put_on, take_off)


OTHERS = {one.__name__: one for one in (openinference, opentelemetry, langfuse, logfire)}


def main(name: str, order: str) -> dict[str, Any]:
    """Run the app through all stages, and return what each stage brought."""
    provider = TracerProvider()
    if name not in {"langfuse", "logfire"}:
        provider.add_span_processor(Processor(SPANS))
    theirs = OTHERS[name](provider)
    with Sink() as sink, Loopback() as server:
        configure(host=sink.host, flush_interval_s=0.0, spool="off")
        server.always(_answer)
        stages = {"nobody": _stage(server, sink, provider)}
        steps: list[Callable[[], Any]] = [patch_openai, theirs.put_on]
        for step in steps if "ours-on-first" in order else reversed(steps):
            step()
        stages["both"] = _stage(server, sink, provider)
        offs: list[tuple[str, Callable[[], None] | None]] = [
            ("only theirs", unpatch_openai),
            ("only ours", theirs.take_off),
        ]
        for what, step in offs if "ours-off-first" in order else reversed(offs):
            if step is not None:
                step()
                stages[what if len(stages) == 2 else "nobody again"] = _stage(
                    server, sink, provider
                )
        patch_openai()
        stages["ours again"] = _stage(server, sink, provider)
        return stages


def _answer(request: Request) -> Reply:
    if request.json.get("stream"):
        return chat_stream(chat_chunks(ANSWER))
    return json_reply(chat_completion(ANSWER))


def _stage(server: Loopback, sink: Sink, provider: Any) -> dict[str, Any]:
    before = len(sink.events)
    SPANS.clear()
    answers = [repr(asyncio.run(_ask(server, way))) for way in WAYS]
    assert flush()
    provider.force_flush()
    return {
        "answers": answers,
        "events": [event["event"] for event in sink.events[before:]],
        "spans": sorted(str(span.name) for span in SPANS.get_finished_spans()),
    }


async def _ask(server: Loopback, way: Way) -> Any:
    client = client_of(server, way.mode)
    try:
        if way.mode == "sync" and way.streamed:
            # Others' streams have the methods of both kinds.
            async with asking(client, way) as stream:
                return list(stream)
        return await ask(client, way)
    finally:
        await close_client(client)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
