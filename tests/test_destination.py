"""Where an observer's events go: another project's key, the host configured before or after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

import trubrics_instrument
from tests.sink import Sink
from trubrics_instrument import TrubricsCallbackHandler, _runtime
from trubrics_instrument._base.hosts import TRUBRICS_HOST
from trubrics_instrument._events import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_key_given_before_the_host_is_configured_goes_to_that_host(tmp_path: Path) -> None:
    """`patch_openai(api_key=...)` may come before `configure(host=...)`."""
    with Sink() as sink:
        target = _runtime.destination(api_key="another", host=None)
        trubrics_instrument.configure(api_key="key", host=sink.host, spool_dir=str(tmp_path))

        assert _runtime.emit(Event("Prompt", "u", 0.0), target)

        assert trubrics_instrument.flush(5)
        assert [event["event"] for event in sink.events] == ["Prompt"]
        trubrics_instrument.shutdown()


@pytest.mark.parametrize(
    "environment",
    [{"TRUBRICS_HOST": "nowhere"}, {"TRUBRICS_API_KEY": "k", "TRUBRICS_SAMPLE_RATE": "half"}],
)
def test_an_impossible_environment_costs_a_request_nothing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler made for each request raises for its own arguments alone; one line says why."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options: list[dict[str, Any]] = [{}, {"host": TRUBRICS_HOST}, {"api_key": "another"}]
    for given in options:
        handler = TrubricsCallbackHandler("ada", **given)
        FakeListChatModel(responses=["Yes."]).invoke("On time?", {"callbacks": [handler]})

    (line,) = caplog.messages
    assert line.startswith(f"Trubrics: nothing is sent, because {list(environment)[-1]}=")
    assert trubrics_instrument.stats().accepted == 0
    with pytest.raises(ValueError, match="host='here' is no http"):
        TrubricsCallbackHandler(host="here")


@pytest.mark.parametrize(
    "patch", [trubrics_instrument.patch_openai, trubrics_instrument.patch_langchain]
)
def test_an_impossible_environment_stops_a_set_up(
    patch: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patch is put on once, where a mistake is best told."""
    monkeypatch.setenv("TRUBRICS_HOST", "nowhere")
    with pytest.raises(ValueError, match="TRUBRICS_HOST='nowhere' is no http"):
        patch()
