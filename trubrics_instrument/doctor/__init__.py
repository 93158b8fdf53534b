"""`trubrics-instrument doctor`: what is installed, patched, configured and reachable."""

from __future__ import annotations

from trubrics_instrument.doctor.examination import report
from trubrics_instrument.doctor.finding import Finding

__all__ = ["Finding", "report"]
