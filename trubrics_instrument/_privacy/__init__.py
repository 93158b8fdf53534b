"""What leaves the process: sampling, capture mode, truncation, redaction."""

from __future__ import annotations

from trubrics_instrument._privacy.protect import Rules, protect, rules_of, sampled
from trubrics_instrument._privacy.redact import Redactor, redactors_from

__all__ = ["Redactor", "Rules", "protect", "redactors_from", "rules_of", "sampled"]
