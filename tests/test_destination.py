"""Where an observer's events go: another project's key, the host configured before or after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trubrics_instrument
from tests.sink import Sink
from trubrics_instrument import _runtime
from trubrics_instrument._events import Event

if TYPE_CHECKING:
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
