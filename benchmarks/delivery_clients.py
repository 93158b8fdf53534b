"""The clients that are compared: each one tracks an event and flushes, with its own defaults."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A request of ours.
MOST_EVENTS = 100
MOST_BYTES = 2**20 - 2**15
WITH_JSON = "with json"
FLOOR = "requests alone"


class Client(NamedTuple):
    """What the measurements need of a client."""

    track: Callable[[str, str, Mapping[str, object]], object]  # user, event's name, properties
    flush: Callable[[], object]


def ours(url: str, *, roomy: bool) -> Client:
    """Return `trubrics_instrument.track`, all defaults."""
    del roomy  # it has no bound that a burst would hit
    package = _load("trubrics_instrument")
    package.configure(api_key="key", host=url)
    send = package.track

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        send(event, properties, user_id=user)

    return Client(track, lambda: package.flush(timeout_s=120))


def ours_with_json(url: str, *, roomy: bool) -> Client:
    """Return the same where orjson is not installed, so that Python's own `json` encodes."""
    sys.modules["orjson"] = None  # type: ignore[assignment]  # how an import is made to fail
    return ours(url, roomy=roomy)


def requests_alone(url: str, *, roomy: bool) -> Client:
    """Return the floor of all that post with `requests`: batches of ready-made events, no more."""
    del roomy  # it sends at once
    session = _load("requests").Session()
    made: dict[int, bytes] = {}
    batch: list[bytes] = []

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        size = len(str(properties["$text"]))
        if size not in made:
            body = {"user_id": user, "event": event, "properties": properties}
            made[size] = json.dumps(body).encode()
        batch.append(made[size])
        if len(batch) == MOST_EVENTS or len(batch) * size > MOST_BYTES:
            flush()

    def flush() -> None:
        session.post(f"{url}/publish_events", data=b"[" + b",".join(batch) + b"]")
        batch.clear()

    return Client(track, flush)


def trubrics(url: str, *, roomy: bool) -> Client:
    """Return the official client; its queue has no bound."""
    del roomy
    logging.getLogger("trubrics").setLevel(logging.CRITICAL)
    client = _load("trubrics").Trubrics(api_key="key", host=url)

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        client.track(user_id=user, event=event, properties=properties)

    return Client(track, client.flush)


def posthog(url: str, *, roomy: bool) -> Client:
    """Return PostHog's client."""
    bound = {"max_queue_size": 1_000_000} if roomy else {}
    client = _load("posthog").Posthog("key", host=url, disable_geoip=True, **bound)

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        client.capture(event, distinct_id=user, properties=properties)

    return Client(track, client.flush)


def segment(url: str, *, roomy: bool) -> Client:
    """Return Segment's client."""
    bound = {"max_queue_size": 1_000_000} if roomy else {}
    client = _load("segment.analytics.client").Client("key", host=url, **bound)

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        client.track(user, event, properties)

    return Client(track, client.flush)


def otel(url: str, *, roomy: bool) -> Client:
    """Return OpenTelemetry's batch span processor with the OTLP/HTTP exporter."""
    trace = _load("opentelemetry.sdk.trace")
    export = _load("opentelemetry.sdk.trace.export")
    otlp = _load("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    provider = trace.TracerProvider()
    bound = {"max_queue_size": 1_000_000} if roomy else {}
    exporter = otlp.OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(exporter, **bound))
    tracer = provider.get_tracer("benchmark")

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        span = tracer.start_span(event, attributes={"user_id": user, **properties})
        span.end()

    return Client(track, lambda: provider.force_flush(120_000))


def _load(module: str) -> Any:
    """Import a module of the client that is measured; the others cost this process nothing."""
    return importlib.import_module(module)


CLIENTS: dict[str, Callable[..., Client]] = {
    "trubrics-instrument": ours,
    "trubrics": trubrics,
    "posthog": posthog,
    "segment": segment,
    "opentelemetry": otel,
    WITH_JSON: ours_with_json,
    FLOOR: requests_alone,
}
IMPORTS = {
    "trubrics-instrument": "trubrics_instrument",
    "trubrics": "trubrics",
    "posthog": "posthog",
    "segment": "segment.analytics",
    "opentelemetry": "opentelemetry.sdk.trace.export, "
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
