"""The three endpoints, over a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests

from tests.collector.conftest import TIMEOUT_S, Collector, event
from trubrics_instrument import collector
from trubrics_instrument.collector.ingest import MAX_BODY_BYTES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("prefix", ["", "api/ingestion/"])
def test_an_event_is_stored_with_its_properties_in_columns(server: Collector, prefix: str) -> None:
    """What the documentation names has a column of its own; the rest is JSON."""
    properties = {
        "$text": "Hi",
        "$thread_id": "t",
        "$assistant_id": "gpt-4o",
        "$prompt_id": "p",
        "$generation_id": "g",
        "latency": 1.5,
        "input_tokens": 3,
        "output_tokens": 4,
        "cost_usd": 0.25,
        "event_id": "run-1",
        "plan": "pro",
    }
    answer = server.post(f"{prefix}publish_event", event(event="Generation", properties=properties))
    assert (answer.status_code, answer.json()) == (200, {"stored": 1, "duplicates": 0})
    (row,) = server.select("SELECT * FROM events")
    assert row[:-1] == (
        1,
        "run-1",
        "ada",
        "Generation",
        "generation",
        "2024-10-09T13:21:46.182Z",
        "Hi",
        "t",
        "gpt-4o",
        "p",
        "g",
        1.5,
        7,
        0.25,
    )
    kept = {name: value for name, value in properties.items() if not name.startswith("$")}
    assert json.loads(str(row[-1])) == kept


def test_an_event_goes_out_as_it_came_in(server: Collector) -> None:
    """The raw JSON of an event is what was sent."""
    sent = event(properties={"$text": "Hi", "$thread_id": "t", "nested": {"a": [1, None]}})
    assert server.post("publish_event", sent).status_code == 200
    assert server.get("/events/1.json").json() == sent


def test_one_bad_event_is_named_and_nothing_of_its_array_is_stored(server: Collector) -> None:
    """The answer says which event and which field, as FastAPI would."""
    events = [event() for _ in range(40)]
    del events[37]["user_id"]
    events[38]["timestamp"] = "yesterday"
    answer = server.post("publish_events", events)
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {"loc": ["body", 37, "user_id"], "msg": "Field required", "type": "missing"},
            {
                "loc": ["body", 38, "timestamp"],
                "msg": "Input should be a valid datetime",
                "type": "datetime_parsing",
            },
        ]
    }
    assert server.select("SELECT count(*) FROM events") == [(0,)]


def test_an_array_has_at_most_100_events(server: Collector) -> None:
    """100 are taken, 101 are not, and none of these is stored."""
    assert server.post("publish_events", [event()] * 100).json()["stored"] == 100
    answer = server.post("publish_events", [event()] * 101)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "too_long")
    assert server.select("SELECT count(*) FROM events") == [(100,)]


def test_an_event_id_is_stored_once(server: Collector) -> None:
    """A retry, and a repetition in one array, change nothing, not even the sums."""
    events = [event(properties={"event_id": name, "$thread_id": "t"}) for name in "aba"]
    assert server.post("publish_events", events).json() == {"stored": 2, "duplicates": 1}
    assert server.post("publish_events", events).json() == {"stored": 0, "duplicates": 3}
    assert server.select("SELECT events, prompts FROM threads") == [(2, 2)]


def test_a_question_and_its_answer_become_two_events(server: Collector) -> None:
    """`publish_llm_events`: the prompt is as much earlier as the answer took."""
    entry = {
        "user_id": "ada",
        "prompt": "Why?",
        "generation": "Because.",
        "assistant_id": "gpt-4o",
        "timestamp": "2024-10-09T13:21:46.182+00:00",
        "latency": 2.5,
        "thread_id": "t",
        "properties": {"plan": "pro"},
    }
    assert server.post("publish_llm_events", [entry]).status_code == 200
    stored = server.select(
        "SELECT event, kind, timestamp, text, thread_id, assistant_id, latency_s FROM events"
    )
    assert stored == [
        ("Prompt", "prompt", "2024-10-09T13:21:43.682Z", "Why?", "t", None, None),
        ("Generation", "generation", "2024-10-09T13:21:46.182Z", "Because.", "t", "gpt-4o", 2.5),
    ]
    (same,) = server.select("SELECT count(DISTINCT prompt_id) FROM events")
    assert same == (1,)


@pytest.mark.parametrize(
    ("body", "location", "kind"),
    [
        (b"{", ["body"], "json_invalid"),
        (b"\xff", ["body"], "json_invalid"),
        (b"[" * 100_000, ["body"], "json_invalid"),
        ({}, ["body"], "list_type"),
        ([1], ["body", 0], "dict_type"),
        ([event(user_id=7)], ["body", 0, "user_id"], "string_type"),
        ([event(user_id="x" * 1001)], ["body", 0, "user_id"], "string_too_long"),
        ([event(timestamp="2024-13-09T13:21:46Z")], ["body", 0, "timestamp"], "datetime_parsing"),
        ([event(timestamp="0001-01-01T00:00+14:00")], ["body", 0, "timestamp"], "datetime_parsing"),
        ([event(properties=[])], ["body", 0, "properties"], "dict_type"),
        (
            [event(properties={"$thread_id": "x" * 1001})],
            ["body", 0, "properties", "$thread_id"],
            "string_too_long",
        ),
        (
            [event(properties={"deep": json.loads("[" * 200 + "]" * 200)})],
            ["body", 0, "properties"],
            "recursion_loop",
        ),
    ],
)
def test_a_refusal_says_where(
    server: Collector, body: object, location: list[object], kind: str
) -> None:
    """Whatever a body is instead of events, the answer is a 422 that names the place."""
    answer = server.post("publish_events", body)
    assert answer.status_code == 422
    first = answer.json()["detail"][0]
    assert (first["loc"], first["type"]) == (location, kind)


def test_a_body_that_is_too_large_is_refused(server: Collector) -> None:
    """413, whether the size is announced or found out while reading."""
    body = b" " * (MAX_BODY_BYTES + 1)
    assert server.post("publish_events", body).status_code == 413
    in_pieces = requests.post(f"{server.url}/publish_events", iter([body]), timeout=TIMEOUT_S)
    assert in_pieces.status_code == 413
    assert server.post("publish_events", [event()]).status_code == 200


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\ud800 alone", "\N{REPLACEMENT CHARACTER} alone"),
        ("a\x00b", "a\x00b"),
        ("x" * 5_000_000, "x" * 5_000_000),
        ("\u202etxt", "\u202etxt"),
    ],
)
def test_any_text_is_taken(server: Collector, text: str, kept: str) -> None:
    """A prompt may be anything; only what is no text at all is replaced."""
    properties = {"$text": text, "$thread_id": text[:10], "note": [text[:10], float("inf")]}
    answer = server.post("publish_event", event(user_id=text[:10], properties=properties))
    assert answer.status_code == 200
    assert server.get("/events/1.txt").content.decode() == kept
    assert server.get("/events/1.json").json() == event(
        user_id=kept[:10],
        properties={"$text": kept, "$thread_id": kept[:10], "note": [kept[:10], None]},
    )
    assert server.get("/").status_code == 200


def test_a_key_is_demanded_when_one_is_set(tmp_path: Path) -> None:
    """No key, or another, is a 401; the key may also stand in the address, as it once did."""
    with collector.running(tmp_path / "db", api_key="s3cret") as running:
        for headers, expected in (
            ({}, 401),
            ({"x-api-key": "x"}, 401),
            ({"x-api-key": "s3cret"}, 200),
        ):
            sender = Collector(running.url, tmp_path / "db", headers)
            assert sender.post("publish_event", event()).status_code == expected
        anonymous = Collector(running.url, tmp_path / "db", {})
        answer = anonymous.post("publish_event?project_api_key=s3cret", event())
        assert answer.status_code == 200


def test_another_host_is_refused(server: Collector) -> None:
    """A name that resolves to this machine by rebinding gets nothing."""
    assert server.get("/", Host="evil.example").status_code == 421
    assert server.get("/", Host="localhost:1").status_code == 200
    assert server.get("/", Host="[::1]:1").status_code == 200
    assert server.get("/", Host="[").status_code == 421
