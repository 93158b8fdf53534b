"""Recorded exchanges with the real API, through the real SDK: the events say what they say."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest

from tests.openai.asking import MODES, Mode, client_of, close_client, in_this_sdk, pieces, settled
from tests.openai.recorded import Exchange, expected, recordings
from tests.replies import raw_reply
from tests.told import told
from trubrics_instrument import context, flush, patch_openai

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

pytestmark = pytest.mark.anyio

RECORDINGS = recordings()


def _name(recording: list[Exchange]) -> str:
    return recording[0].source.rpartition("/")[2].removesuffix(".yaml")


@pytest.mark.skipif(not RECORDINGS, reason="the recordings are not here")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("recording", RECORDINGS, ids=map(_name, RECORDINGS))
async def test_a_recording(
    recording: list[Exchange], mode: Mode, sink: Sink, server: Loopback
) -> None:
    """What the real API was asked and answered is what the events tell, in every field."""
    if not in_this_sdk(recording[0].endpoint.split("/")[1]):
        pytest.skip("this SDK has no such endpoint")
    patch_openai()
    clients: dict[str, Any] = {}
    with context(thread_id="the thread"):
        for exchange in recording:
            if exchange.path not in clients:
                clients[exchange.path] = _client(exchange, mode, server)
            await _replay(exchange, clients[exchange.path], server)
    for client in clients.values():
        await close_client(client)
    assert flush()
    wanted = expected(recording)
    events = told(sink, len(wanted))
    for event in events:
        assert event.pop("cost_usd", 0.0) >= 0  # no recording knows its price
    assert events == wanted


async def _replay(exchange: Exchange, client: Any, server: Loopback) -> None:
    kind = "text/event-stream" if exchange.streamed else "application/json"
    reply = raw_reply(exchange.response.encode(), exchange.status, content_type=kind)
    server.script(reply, path=exchange.path)
    if exchange.status != 200:
        with pytest.raises(openai.APIStatusError):
            await settled(_create(client, exchange))
        return
    answer = await settled(_create(client, exchange))
    if exchange.streamed:
        assert [piece async for piece in pieces(answer)]


def _client(exchange: Exchange, mode: Mode, server: Loopback) -> Any:
    url = urlsplit(exchange.url)
    base_url = server.url + url.path.removesuffix(exchange.endpoint)
    if "/deployments/" not in url.path:
        return client_of(server, mode, base_url=base_url)
    kind = openai.AzureOpenAI if mode == "sync" else openai.AsyncAzureOpenAI
    version = parse_qs(url.query)["api-version"][0]
    return kind(base_url=base_url, api_version=version, api_key="k", max_retries=0)


def _create(client: Any, exchange: Exchange) -> Any:
    """Ask as the recording did; what this SDK has no argument for goes into the body as it is."""
    resource = client
    for name in exchange.endpoint.split("/")[1:]:
        resource = getattr(resource, name)
    known = inspect.signature(resource.create).parameters
    request = exchange.request
    more = {name: value for name, value in request.items() if name not in known}
    given = {name: value for name, value in request.items() if name in known}
    return resource.create(**given, extra_body=more or None)
