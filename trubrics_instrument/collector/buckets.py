"""Latencies, counted in buckets: their percentiles can be read from sums."""

from __future__ import annotations

import math

STEP = 1.05  # a latency is known to within 2.5 %


def to_bucket(latency_s: float) -> int:
    """Return the latency's bucket: bucket b is around `STEP` ** b milliseconds."""
    return max(0, round(math.log(max(latency_s * 1000, 1), STEP)))


def from_bucket(bucket: int) -> float:
    """Return the latency, in seconds, that a bucket stands for."""
    return float(STEP**bucket) / 1000
