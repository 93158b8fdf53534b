"""What the rules of privacy mean at the other end, and on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from trubrics_instrument import configure, feedback, flush, track

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sink import Sink

KEY = "sk-" + "proj-" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ"


def encoding(text: str) -> str:
    """Return the text; a redactor of an app's that encodes what it gets."""
    return text.encode().decode()


@dataclass
class Account:
    """What an app may have at hand."""

    key: str


def test_secrets_are_redacted_by_default(sink: Sink) -> None:
    """Nobody has to ask: text, own properties and configured ones arrive without the key."""
    configure(host=sink.host, properties={"banner": f"v1 {KEY}"})

    assert track("Note", {"$text": f"use {KEY}", "deep": {"k": [KEY]}}, user_id="ada")

    (event,) = sink.wait_for(1)
    properties = event["properties"]
    assert properties["$text"] == "use [API_KEY]"
    assert properties["deep"] == {"k": ["[API_KEY]"]}
    assert properties["banner"] == "v1 [API_KEY]"


def test_names_of_ours_are_the_apps_in_what_it_tells(sink: Sink) -> None:
    """What an observer fills with names is free text in an event of the app's own."""
    said = {"status": "ask ada@example.com", "model": "of ada@example.com"}
    hidden = {"status": "ask [EMAIL]", "model": "of [EMAIL]"}
    configure(host=sink.host, redact="pii")
    track("Sign up", dict(said), user_id="ada")
    feedback("answer-1", 1, user_id="ada", properties=dict(said))
    for event in sink.wait_for(2):
        assert hidden.items() <= event["properties"].items()


def test_before_send_sees_what_would_be_sent(sink: Sink) -> None:
    """It comes after the redaction, so that it cannot log a secret."""
    seen: list[object] = []

    def look(event: dict[str, object]) -> dict[str, object]:
        seen.append(event["properties"])
        return event

    configure(host=sink.host, before_send=look)
    assert track("Note", {"$text": KEY}, user_id="ada")

    (event,) = sink.wait_for(1)
    assert seen == [event["properties"]]
    assert KEY not in str(seen)


@pytest.mark.parametrize("before_send", [None, dict], ids=["", "before_send"])
def test_whatever_a_property_is(before_send: Any, sink: Sink) -> None:
    """What has no JSON is absent or in words, without secrets, whoever looks at it first."""
    configure(host=sink.host, before_send=before_send, redact=["secrets", encoding])
    odd: list[dict[Any, Any]] = [
        {"flat": "Tram", "yes": True, "one": 1, "half": 0.5, "none": None},
        {"flat": "Tram", "number": float("nan")},
        {"letter": "\ud800", "large": 10**30, 7: "seven", ("a", 1): "pair", None: "none"},
        {"object": Account(KEY), "flat": "Tram"},
    ]
    for properties in odd:
        assert track("Note", properties, user_id="ada")
    told = [event["properties"] for event in sink.wait_for(len(odd))]
    for properties in told:
        del properties["source"], properties["event_id"]
    assert told == [
        {"flat": "Tram", "yes": True, "one": 1, "half": 0.5},
        {"flat": "Tram"},
        {"letter": "\ufffd", "large": 10**30, "7": "seven", "('a', 1)": "pair", "None": "none"},
        {"object": {"key": "[API_KEY]"}, "flat": "Tram"},
    ]


def test_nothing_unredacted_reaches_the_disk(tmp_path: Path) -> None:
    """Even `spool="strict"`, which writes before the call returns, writes redacted events."""
    configure(host="http://127.0.0.1:9", spool="strict", spool_dir=str(tmp_path))

    assert track("Note", {"$text": f"use {KEY} now"}, user_id="ada")
    flush(1)

    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"use [API_KEY] now" in written
    assert KEY.encode() not in written


def test_no_text_with_metadata_only(sink: Sink) -> None:
    """The event arrives, with its ids and properties and without a word."""
    configure(host=sink.host, capture="metadata")

    assert track("Note", {"$text": "private words", "plan": "pro"}, user_id="ada")

    (event,) = sink.wait_for(1)
    assert event["properties"]["plan"] == "pro"
    assert "$text" not in event["properties"]
