"""`trubrics-instrument doctor`: what is installed, patched, configured and reachable."""

from __future__ import annotations

from trubrics_instrument.doctor.finding import Finding
from trubrics_instrument.doctor.report import report

__all__ = ["Finding", "report"]
