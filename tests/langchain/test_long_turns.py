"""What is known of the models of a turn stays small, however many calls there are."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from trubrics_instrument._observing.reader import Usage
from trubrics_instrument.langchain.models import Models

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 5_000


@pytest.fixture
def restless() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("threads", [1, 8])
def test_sums(threads: int) -> None:
    """Calls and tokens are summed as they come, in one thread and in several."""
    models = Models()

    def call(key: int) -> None:
        models.started(key, "m")
        models.answered(Usage(1, 2, None, key % 2 or None), None)
        models.ended(key)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, range(CALLS)))
    assert models.asked() == CALLS
    assert models.usage() == Usage(CALLS, 2 * CALLS, None, CALLS // 2)
    assert max(len(models._asked), len(models._usages)) < CALLS // 10
