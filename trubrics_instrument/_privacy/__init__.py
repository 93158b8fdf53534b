"""What leaves the process: sampling, capture mode, truncation, redaction."""

from __future__ import annotations

from trubrics_instrument._privacy.redact import Redactor, redactors_from
from trubrics_instrument._privacy.rules import Rules, protect, rules_of, sampled

__all__ = ["Redactor", "Rules", "protect", "redactors_from", "rules_of", "sampled"]
