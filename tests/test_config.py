"""Bad input is refused at set-up, by name, with what is allowed; good input is used."""

from __future__ import annotations

import io
import logging
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
import requests

from trubrics_instrument import _config, _public, _runtime, configure, patch_openai, stats, track
from trubrics_instrument._base.hosts import TRUBRICS_HOST
from trubrics_instrument._delivery import SenderOptions
from trubrics_instrument._privacy.redact import redactors_from

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sink import Sink


async def _later(_: object) -> None: ...


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"api_key": ""}, "api_key is empty: give a value, or leave it out"),
    ({"api_key": "  "}, "api_key is empty: give a value, or leave it out"),
    ({"api_key": 7}, "api_key must be a str, not int"),
    ({"api_key": "key\n"}, "api_key has a space, a line break or another sign"),
    ({"api_key": "a key"}, "api_key has a space, a line break or another sign"),
    ({"api_key": "schlüssel"}, "api_key has a space, a line break or another sign"),
    ({"api_key": "http://127.0.0.1:8782"}, "api_key is a URL: give that as the host"),
    ({"host": "http://ada:lovelace@x"}, "host names a user: the key is given as api_key"),
    ({"session": 5}, "session must be a requests.Session, not int"),
    ({"session": requests.Session}, "session must be a requests.Session, not a class"),
    ({"session": io.StringIO()}, "session must be a requests.Session, not StringIO"),
    ({"host": "app.trubrics.com"}, "host='app.trubrics.com' is no http(s) URL"),
    ({"host": "ftp://x"}, "host='ftp://x' is no http(s) URL"),
    ({"host": "http://"}, "host='http://' is no http(s) URL"),
    ({"host": "http://x?team=a"}, "host='http://x?team=a' is no http(s) URL"),
    ({"host": "http://x#a"}, "host='http://x#a' is no http(s) URL"),
    ({"host": "http://x:99999"}, "host='http://x:99999' is no http(s) URL"),
    ({"host": 3}, "host must be a str, not int"),
    ({"sample_rate": 1.5}, "sample_rate=1.5 must be a number from 0 to 1"),
    ({"sample_rate": -0.1}, "sample_rate=-0.1 must be a number from 0 to 1"),
    ({"sample_rate": float("nan")}, "sample_rate=nan must be a number from 0 to 1"),
    ({"sample_rate": "half"}, "sample_rate='half' must be a number from 0 to 1"),
    ({"sample_rate": True}, "sample_rate=True must be a number from 0 to 1"),
    ({"capture": "some"}, "capture='some' is unknown: use one of full, metadata"),
    ({"spool": "disk"}, "spool='disk' is unknown: use one of auto, always, strict, off"),
    ({"redact": "everything"}, "everything"),
    ({"redact": {"CODE": "("}}, "redact: the pattern of 'CODE' does not compile"),
    ({"before_send": "f"}, "before_send must be callable, not str"),
    ({"before_send": _later}, "before_send must be a plain function: an async one"),
    ({"redact": ["pii", _later]}, "redact must be a plain function: an async one"),
    ({"on_drop": _later}, "on_drop must be a plain function: an async one"),
    ({"prices": _later}, "prices must be a plain function: an async one"),
    ({"on_drop": 1}, "on_drop must be callable, not int"),
    ({"max_text_chars": 0}, "max_text_chars=0 must be a whole number from 1 to 10000000"),
    ({"max_text_chars": 2.5}, "max_text_chars=2.5 must be a whole number"),
    ({"max_batch": 101}, "max_batch=101 must be a whole number from 1 to 100"),
    ({"flush_interval_s": -1}, "flush_interval_s=-1 must be a number from 0 to 60"),
    ({"enabled": "no"}, "enabled='no' must be True or False"),
    ({"properties": [1]}, "properties must be a dict, not list"),
    ({"user_id": lambda: "ada"}, "user_id must be an id, not a function: an observer asks one"),
    ({"properties": {"plan": "pro", "status": "x"}}, "properties: 'status' is a name of ours"),
    ({"properties": {"$thread_id": "x"}}, "properties: '$thread_id' is a name of ours"),
    ({"prices": {"m": 3}}, "prices: 'm': 3 is no price"),
    ({"event_names": {"Prompt": None}}, "event_names: 'Prompt' can be renamed, but not switched"),
    ({"event_names": {"Feedback": ""}}, "event_names: the name of 'Feedback' must be a str"),
    ({"event_names": {"Promt": "Question"}}, "event_names: 'Promt' is no event that is sent"),
    (
        {"event_names": {"tool_call": None}},
        "'tool_call' is no event that is sent: is it 'Tool call'",
    ),
]


@pytest.mark.parametrize(
    ("given", "message"), IMPOSSIBLE, ids=lambda value: str(value).partition(" at 0x")[0][:40]
)
def test_impossible_values(given: dict[str, Any], message: str) -> None:
    """An impossible value raises ValueError that names it, and changes nothing."""
    configure(user_id="before", host="http://127.0.0.1:9")
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        configure(**given)
    assert message in str(error.value)
    assert _runtime.config().user_id == "before"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TRUBRICS_ENABLED", "perhaps", "TRUBRICS_ENABLED='perhaps' is neither yes nor no"),
        ("TRUBRICS_SAMPLE_RATE", "half", "TRUBRICS_SAMPLE_RATE='half' is no number"),
        ("TRUBRICS_CAPTURE", "some", "TRUBRICS_CAPTURE='some' is unknown"),
        ("TRUBRICS_REDACT", "pi", "TRUBRICS_REDACT='pi' is unknown: use one of secrets, pii, none"),
        ("TRUBRICS_HOST", "nowhere", "TRUBRICS_HOST='nowhere' is no http(s) URL"),
    ],
)
def test_impossible_environment(name: str, value: str, message: str) -> None:
    """The environment is checked like arguments, and named as what it is."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        _config.build({name: value}, {})
    assert message in str(error.value)


def test_no_credential_is_shown() -> None:
    """Error reports hold messages and the values of local variables: no key is in either."""
    options = SenderOptions("https://a.com", "my-key")
    config = _config.build({}, {"api_key": "my-key", "host": "https://a.com"})
    for holder in (config, config.destination(api_key=None, host=None), options):
        assert "my-key" not in repr(holder)
    impossible: list[dict[str, Any]] = [
        {"api_key": "my-key\n"},
        {"host": "https://ada:my-key@a.com"},
        {"host": "my-key-0123456789"},
    ]
    for given in impossible:
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is looked at below
            configure(**given)
        assert "my-key" not in str(error.value)


def test_the_environment_in_capitals() -> None:
    """A choice in the environment may be written in capitals."""
    given = {"TRUBRICS_REDACT": "PII", "TRUBRICS_CAPTURE": "Metadata", "TRUBRICS_SPOOL": "OFF"}
    config = _config.build(given, {})
    assert (config.redact, config.capture, config.spool) == ("pii", "metadata", "off")
    for name in _config.REDACTORS:
        assert redactors_from(cast("Any", name))


def test_an_impossible_environment_at_run_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It reaches no app: one line says what is wrong, and nothing is sent."""
    _runtime.forget()
    monkeypatch.setenv("TRUBRICS_REDACT", "pi")
    assert stats().accepted == 0
    assert not _runtime.config().enabled
    assert "TRUBRICS_REDACT='pi'" in caplog.text


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    """What the standard library takes for a folder is one."""
    assert _config.build({}, {"spool_dir": tmp_path}).spool_dir == str(tmp_path)


def test_where_values_come_from() -> None:
    """What is given wins over the environment, which wins over the default."""
    environ = {"TRUBRICS_SAMPLE_RATE": "0.5", "TRUBRICS_CAPTURE": "metadata", "TRUBRICS_HOST": " "}
    config = _config.build(environ, {"capture": "full", "host": "http://localhost:1/x/"})
    assert (config.sample_rate, config.capture, config.spool) == (0.5, "full", "auto")
    assert config.host == "http://localhost:1/x"


@pytest.mark.parametrize("off", ["0", "false", "No", "OFF"])
def test_the_kill_switch(off: str) -> None:
    """Whoever runs the app can switch us off, whatever the code says."""
    assert not _config.build({"TRUBRICS_ENABLED": off}, {"enabled": True}).enabled
    assert not _config.build({"TRUBRICS_ENABLED": "1"}, {"enabled": False}).enabled


@pytest.mark.parametrize(
    ("configured", "own", "expected"),
    [
        ({}, {}, None),
        ({"api_key": "k"}, {}, (TRUBRICS_HOST, "k")),
        ({"host": "http://127.0.0.1:1"}, {}, ("http://127.0.0.1:1", None)),
        ({"host": "http://[::1]:1"}, {}, ("http://[::1]:1", None)),
        ({"host": "https://example.com"}, {}, None),
        ({"api_key": "k", "host": "https://a.com"}, {}, ("https://a.com", "k")),
        ({"api_key": "k"}, {"host": "https://b.com"}, None),
        ({"api_key": "k"}, {"host": "http://localhost:1"}, ("http://localhost:1", None)),
        ({"api_key": "k"}, {"host": "https://b.com", "api_key": "b"}, ("https://b.com", "b")),
        ({"api_key": "k"}, {"api_key": "b"}, (TRUBRICS_HOST, "b")),
    ],
)
def test_a_key_goes_to_its_own_host(
    configured: dict[str, str], own: dict[str, str], expected: tuple[str, str | None] | None
) -> None:
    """The configured key goes to the configured host only; a loopback host needs none."""
    config = _config.build({}, configured)
    found = config.destination(api_key=own.get("api_key"), host=own.get("host"))
    assert found == expected


def test_configured_later(caplog: pytest.LogCaptureFixture, sink: Sink) -> None:
    """Who patches first and configures then is not told that nothing is sent."""
    _runtime.forget()
    with caplog.at_level(logging.INFO, "trubrics_instrument"):
        patch_openai()
        configure(host=sink.host, flush_interval_s=0.0)
        assert track("Sign in")
    assert sink.wait_for(1)
    assert caplog.records == []


def test_nothing_configured(caplog: pytest.LogCaptureFixture) -> None:
    """Without key and host the app runs as ever; one INFO line says which two ways there are."""
    with caplog.at_level(logging.INFO, "trubrics_instrument"):
        for _ in range(3):
            assert not track("Sign in")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "TRUBRICS_API_KEY" in caplog.text
    assert "trubrics-instrument collector" in caplog.text
    assert stats().dropped == {"not_configured": 3}


def test_a_host_that_needs_a_key(caplog: pytest.LogCaptureFixture) -> None:
    """Another machine's host without a key is a mistake, and one WARNING says which."""
    configure(host="http://10.1.2.3:8782")
    for _ in range(3):
        assert not track("Sign in")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "needs a key" in caplog.text
    assert stats().dropped == {"not_configured": 3}


def test_disabled(sink: Sink) -> None:
    """`enabled=False` takes nothing."""
    configure(host=sink.host, enabled=False)
    assert not track("Sign in")
    assert stats().accepted == 0


def test_common_properties_and_names(sink: Sink) -> None:
    """Configured properties, environment and names are on every event; its own words win."""
    configure(
        host=sink.host,
        environment="staging",
        properties={"app": "bot", "plan": "free"},
        event_names={"Sign in": "Login", "Sign out": None},
    )
    track("Sign in", {"plan": "pro"}, user_id="ada")
    track("Sign out", user_id="ada")
    assert _public.flush(5)
    (event,) = sink.wait_for(1)
    properties = event["properties"]
    assert (event["event"], event["user_id"]) == ("Login", "ada")
    assert (properties["app"], properties["plan"]) == ("bot", "pro")
    assert properties["environment"] == "staging"


def test_before_send(sink: Sink) -> None:
    """`before_send` may change an event, or drop it, which is counted."""

    def before_send(event: dict[str, Any]) -> dict[str, Any] | None:
        if event["event"] == "Secret":
            return None
        event["properties"]["seen"] = True
        return event

    configure(host=sink.host, before_send=before_send)
    track("Secret", user_id="ada")
    track("Open", user_id="ada")
    (event,) = sink.wait_for(1)
    assert event["event"] == "Open"
    assert event["properties"]["seen"] is True
    assert _public.flush(5)
    assert stats().dropped == {"before_send": 1}


@pytest.mark.parametrize("returned", ["nothing of use", KeyError("prompt text")])
def test_before_send_at_fault(
    returned: object, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """A `before_send` that raises or returns nonsense costs that event, counted and warned of."""

    def before_send(event: dict[str, Any]) -> Any:
        if event["event"] == "Good":
            return event
        if isinstance(returned, Exception):
            raise returned
        return returned

    configure(host=sink.host, before_send=before_send)
    for _ in range(2):
        track("Bad", user_id="ada")
    track("Good", user_id="ada")
    assert [event["event"] for event in sink.wait_for(1)] == ["Good"]
    assert _public.flush(5)
    assert sum(stats().dropped.values()) == 2
    assert len(caplog.records) == 1
    assert "prompt text" not in caplog.text


def test_prices(sink: Sink) -> None:
    """An answer whose price is known carries what it cost, once; no other event does."""
    configure(host=sink.host, prices={"my-model": (2.0, 10.0)})
    tokens = {"model": "my-model", "input_tokens": 1_000_000, "output_tokens": 100_000}
    track("Answered", tokens, user_id="ada")
    track("Answered", {**tokens, "model": "unknown-model"}, user_id="ada")
    track("Asked", {"model": "my-model"}, user_id="ada")
    costs = [event["properties"].get("cost_usd") for event in sink.wait_for(3)]
    assert costs == [3.0, None, None]


def test_configuring_again(sink: Sink) -> None:
    """A new configuration replaces the old one; events under way still arrive."""
    track("One", user_id="ada")
    configure(host=sink.host, user_id="bob", flush_interval_s=0.05)
    track("Two")
    assert _public.flush(5)
    assert {(event["event"], event["user_id"]) for event in sink.wait_for(2)} == {
        ("One", "ada"),
        ("Two", "bob"),
    }
    assert stats().delivered == 2


def test_shutdown_before_the_first_event(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """Where no sender was built yet, none is built after it, and what comes is counted as well."""
    assert _public.shutdown(5)
    assert not track("One", user_id="ada")
    assert "after shutdown()" in caplog.text
    assert _public.stats().dropped == {"closed": 1}
    assert sink.events == []


def test_an_answer_that_ends_after_the_shutdown(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, and nothing is logged: that may be in a finaliser, in the app's own log."""
    assert _public.shutdown(5)
    assert not _runtime.accept(_runtime.state(), "Generation", None, ())
    assert _public.stats().dropped == {"closed": 1}
    assert caplog.records == []


def test_shutdown(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """After a shutdown nothing more is accepted, until it is configured again.

    It is counted, and said once: who meant `flush()` would lose everything but the first answer.
    """
    track("One", user_id="ada")
    assert _public.shutdown(5)
    assert caplog.records == []
    assert not track("Two", user_id="ada")
    assert not track("Two", user_id="ada")
    assert _public.stats().dropped == {"closed": 2}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "shutdown()" in caplog.text
    assert "flush()" in caplog.text
    configure(host=sink.host)
    assert track("Three", user_id="ada")
    assert [event["event"] for event in sink.wait_for(2)] == ["One", "Three"]
    configure(host=sink.host, enabled=False)
    _public.shutdown(5)
    assert not track("Four", user_id="ada")
    assert len(caplog.records) == 1


def test_flush_in_before_send(sink: Sink) -> None:
    """A `before_send` that flushes would wait for itself: it is told at once that this failed."""
    flushed: list[tuple[bool, bool]] = []

    def before_send(event: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        done = _public.flush(4)
        flushed.append((done, time.monotonic() - began < 2))
        return event

    configure(host=sink.host, before_send=before_send)
    track("One", user_id="ada")
    assert [event["event"] for event in sink.wait_for(1, 10)] == ["One"]
    assert flushed == [(False, True)]
