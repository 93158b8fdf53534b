"""The decision table, row by row; it is pure."""

from __future__ import annotations

import email.utils

import pytest

from trubrics_instrument._delivery.retry import (
    BATCH_ENDPOINT,
    SINGLE_ENDPOINT,
    Action,
    Answer,
    decide,
    delay_s,
    named_events,
    retry_after_s,
)

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("status", "on_batch", "on_single"),
    [
        (None, Action.RETRY, Action.RETRY),
        (200, Action.DONE, Action.DONE),
        (202, Action.DONE, Action.DONE),
        (301, Action.PROBE, Action.PROBE),
        (400, Action.ISOLATE, Action.ISOLATE),
        (401, Action.PROBE, Action.PROBE),
        (403, Action.PROBE, Action.PROBE),
        (404, Action.SINGLES, Action.PROBE),
        (405, Action.SINGLES, Action.PROBE),
        (408, Action.RETRY, Action.RETRY),
        (410, Action.PROBE, Action.PROBE),
        (413, Action.HALVE, Action.HALVE),
        (422, Action.ISOLATE, Action.ISOLATE),
        (425, Action.RETRY, Action.RETRY),
        (429, Action.RETRY, Action.RETRY),
        (500, Action.RETRY, Action.RETRY),
        (503, Action.RETRY, Action.RETRY),
    ],
)
def test_each_answer_has_its_action(
    status: int | None, on_batch: Action, on_single: Action
) -> None:
    """What the sender does depends on the status and the endpoint."""
    answer = Answer(status)
    actions = decide(answer, BATCH_ENDPOINT), decide(answer, SINGLE_ENDPOINT)
    assert actions == (on_batch, on_single)


@pytest.mark.parametrize(
    ("status", "on_batch"),
    [(200, Action.RETRY), (401, Action.PROBE), (404, Action.SINGLES), (503, Action.RETRY)],
)
def test_a_page_is_no_success(status: int, on_batch: Action) -> None:
    """It only matters where the status says that all is well."""
    answer = Answer(status, content_type="text/html", body=b"<html>")
    assert decide(answer, BATCH_ENDPOINT) is on_batch


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        (email.utils.formatdate(NOW_S + 30, usegmt=True), 30.0),
        (email.utils.formatdate(NOW_S - 30, usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    """Anything else counts as if it had not been said."""
    assert retry_after_s(value, NOW_S) == expected


def test_the_backoff_doubles_with_full_jitter_up_to_a_minute() -> None:
    """From 0.5 s, a random share of it, never nothing at all."""
    answer = Answer(503)
    most = [delay_s(Action.RETRY, answer, failures, 1.0, NOW_S) for failures in range(1, 10)]
    assert most == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert delay_s(Action.RETRY, answer, 5, 0.5, NOW_S) == 4.0
    assert delay_s(Action.RETRY, answer, 5, 0.0, NOW_S) == 0.05
    assert delay_s(Action.RETRY, answer, 10**9, 1.0, NOW_S) == 60.0


def test_a_wrong_set_up_is_probed_each_minute_up_to_a_quarter_of_an_hour() -> None:
    """Nobody waits for milliseconds there, and the answer will hardly change by itself."""
    waits = [delay_s(Action.PROBE, Answer(401), failures, 0.3, NOW_S) for failures in range(1, 7)]
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


def test_a_retry_after_is_kept_to_the_second_then_jittered() -> None:
    """Never earlier, a tenth later at most, and never longer than 15 minutes."""
    asked = Answer(429, retry_after="20")
    assert delay_s(Action.RETRY, asked, 1, 0.0, NOW_S) == 20.0
    assert delay_s(Action.RETRY, asked, 1, 1.0, NOW_S) == 22.0
    assert delay_s(Action.RETRY, Answer(503, retry_after="86400"), 1, 0.0, NOW_S) == 900.0


@pytest.mark.parametrize("retry_after", ["0", "1", email.utils.formatdate(NOW_S - 30, usegmt=True)])
def test_a_retry_after_makes_no_wait_shorter(retry_after: str) -> None:
    """A host may say so with each answer, or have a clock that is wrong."""
    asked = [Answer(status, retry_after=retry_after) for status in (503, 401)]
    waits = [
        [delay_s(action, answer, failures, 1.0, NOW_S) for failures in (3, 4)]
        for action, answer in zip((Action.RETRY, Action.PROBE), asked, strict=True)
    ]
    assert waits == [[2.0, 4.0], [240.0, 480.0]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"detail": [{"loc": ["body", 37, "n"]}, {"loc": ["body", 2]}]}', [2, 37]),
        (b'{"detail": [{"loc": ["body", 37]}, {"loc": ["body", 37]}]}', [37]),
        (b'{"detail": [{"loc": ["body", 100]}]}', []),
        (b'{"detail": [{"loc": ["body", -1]}]}', []),
        (b'{"detail": [{"loc": ["body", true]}]}', []),
        (b'{"detail": [{"loc": ["body"]}]}', []),
        (b'{"detail": [{"loc": "body"}]}', []),
        (b'{"detail": "bad"}', []),
        (b'{"detail": 7}', []),
        (b"[]", []),
        (b"<html>", []),
        (b"", []),
        (b"[" * 100_000, []),
    ],
)
def test_a_refusal_names_events_or_nobody(body: bytes, expected: list[int]) -> None:
    """Whatever is not FastAPI's shape names nobody, and the batch is bisected."""
    assert named_events(body, 100) == expected
