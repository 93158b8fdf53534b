"""The clients that are compared: each one tracks an event and flushes, with its own defaults."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Client(NamedTuple):
    """What the measurements need of a client."""

    track: Callable[[str, str, Mapping[str, object]], object]  # user, event's name, properties
    flush: Callable[[], object]


def ours(url: str, *, roomy: bool) -> Client:
    """Return `trubrics_instrument.track`, all defaults."""
    del roomy  # it has no bound that a burst would hit
    import trubrics_instrument

    trubrics_instrument.configure(api_key="key", host=url)
    send = trubrics_instrument.track

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        send(event, properties, user_id=user)

    return Client(track, lambda: trubrics_instrument.flush(timeout_s=120))


def trubrics(url: str, *, roomy: bool) -> Client:
    """Return the official client; its queue has no bound."""
    del roomy
    from trubrics import Trubrics

    logging.getLogger("trubrics").setLevel(logging.CRITICAL)
    client: Any = Trubrics(api_key="key", host=url)

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        client.track(user_id=user, event=event, properties=properties)

    return Client(track, client.flush)


def posthog(url: str, *, roomy: bool) -> Client:
    """Return PostHog's client."""
    from posthog import Posthog

    bound = {"max_queue_size": 1_000_000} if roomy else {}
    client: Any = Posthog("key", host=url, disable_geoip=True, **bound)

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        client.capture(event, distinct_id=user, properties=properties)

    return Client(track, client.flush)


def segment(url: str, *, roomy: bool) -> Client:
    """Return Segment's client."""
    from segment.analytics.client import Client as Segment

    bound = {"max_queue_size": 1_000_000} if roomy else {}
    client: Any = Segment("key", host=url, **bound)

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        client.track(user, event, properties)

    return Client(track, client.flush)


def otel(url: str, *, roomy: bool) -> Client:
    """Return OpenTelemetry's batch span processor with the OTLP/HTTP exporter."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider: Any = TracerProvider()
    bound = {"max_queue_size": 1_000_000} if roomy else {}
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, **bound))
    tracer: Any = provider.get_tracer("benchmark")

    def track(user: str, event: str, properties: Mapping[str, object]) -> None:
        span = tracer.start_span(event, attributes={"user_id": user, **properties})
        span.end()

    return Client(track, lambda: provider.force_flush(120_000))


CLIENTS: dict[str, Callable[..., Client]] = {
    "trubrics-instrument": ours,
    "trubrics": trubrics,
    "posthog": posthog,
    "segment": segment,
    "opentelemetry": otel,
}
IMPORTS = {
    "trubrics-instrument": "trubrics_instrument",
    "trubrics": "trubrics",
    "posthog": "posthog",
    "segment": "segment.analytics",
    "opentelemetry": "opentelemetry.sdk.trace.export, "
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
