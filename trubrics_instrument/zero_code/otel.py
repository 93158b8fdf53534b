"""The way in for `opentelemetry-instrument`, which calls what it finds in every environment."""

from __future__ import annotations

import os

from trubrics_instrument import _config, _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._libraries import LIBRARIES
from trubrics_instrument.zero_code.imports import patch_library


class TrubricsInstrumentor:
    """What the entry point group `opentelemetry_instrumentor` wants: it needs no OpenTelemetry.

    Whoever runs `opentelemetry-instrument` gets it without having asked: without a key, and
    without a host, it does nothing.

    Source: opentelemetry-instrumentation 0.50b0 to 0.66b2, `load_instrumentor`.
    """

    def instrument(self, **_: object) -> None:
        """Patch what the app imports, now or later, if there is somewhere to send it."""
        with shield("starting from OpenTelemetry"):
            config = _config.build(os.environ, {})
            if config.enabled and config.destination(api_key=None, host=None) is not None:
                for library in LIBRARIES:
                    patch_library(library.module)

    def uninstrument(self, **_: object) -> None:
        """Take the patches off."""
        with shield("stopping for OpenTelemetry"):
            for patch in list(_runtime.state().patches.values()):
                patch.undo()
