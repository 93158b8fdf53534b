"""What leaves the process: sampling, capture mode, truncation, and redaction that fails closed."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from trubrics_instrument._base import shield
from trubrics_instrument._config import Config
from trubrics_instrument._delivery import Skip
from trubrics_instrument._events import Event, to_wire
from trubrics_instrument._prepare import prepare
from trubrics_instrument._privacy import Rules, protect, redactors_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument._prepare import Origin

KEY = "sk-" + "proj-" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ"
CARD = "4111 1111 " + "1111 1111"
EVENT = Event("Prompt", "u-1", 0.0, text="hello", thread_id="t-1")


def protected(event: Event, **rules: Any) -> Event:
    """Return the event as its properties on the wire are after `protect`."""
    kept = to_wire(event, "u-1", event.properties or {})["properties"]
    protect(kept, Rules(**rules))
    fields = ("text", "thread_id", "assistant_id", "prompt_id", "generation_id")
    given = [name for name in fields if getattr(event, name) is not None]
    left: dict[str, Any] = {name: kept.pop(f"${name}", None) for name in given}
    return event._replace(**left, properties=kept)


def is_sampled(event: Event, rate: float) -> bool:
    """Tell whether the event is sent at this rate."""
    origin = SimpleNamespace(config=Config(), rules=Rules(sample_rate=rate), anonymous="anon")
    return prepare(cast("Origin", origin), event, "id-1") != Skip("sampled")


def hiding(_: str) -> str:
    """Hide everything."""
    return "***"


def failing(text: str) -> str:
    """Fail, quoting the text, as a careless redactor does."""
    raise RuntimeError(text)


@pytest.fixture
def lenient() -> None:
    """Let the shield stop exceptions, as it does in an app."""
    shield.set_strict(strict=False)


def test_text_and_properties_are_redacted_alike() -> None:
    """A secret goes from the text, from properties, nested ones and their keys."""
    event = EVENT._replace(
        text=f"use {KEY}",
        properties={"note": f"({KEY})", "deep": {"a": [KEY, {KEY: (1, None, True)}]}, "n": 3},
    )

    assert protected(event, redactors=redactors_from("secrets")) == EVENT._replace(
        text="use [API_KEY]",
        properties={
            "note": "([API_KEY])",
            "deep": {"a": ["[API_KEY]", {"[API_KEY]": [1, None, True]}]},
            "n": 3,
        },
    )


@pytest.mark.parametrize("redact", ["secrets", "pii", ["secrets", str.strip]])
def test_what_a_name_says_is_a_secret_goes(redact: Any) -> None:
    """A property holds under its name what a text would assign to it, nested or in a list."""
    key = "0123456789abcdef" * 2
    event = EVENT._replace(
        properties={
            "password": "hunter2",
            "login": {"x-api-key": key, "passwords": "two", "pwd": ["one", {"n": 1}]},
            "clientSecret": key,
            "token": "short",
            "DB_PASSWORD": "${DB_PASSWORD}",
            "passport": "none",
        }
    )

    assert protected(event, redactors=redactors_from(redact)).properties == {
        "password": "[SECRET]",
        "login": {"x-api-key": "[SECRET]", "passwords": "two", "pwd": ["[SECRET]", {"n": 1}]},
        "clientSecret": "[SECRET]",
        "token": "short",
        "DB_PASSWORD": "${DB_PASSWORD}",
        "passport": "none",
    }


@pytest.mark.parametrize("redact", [None, {"X": "x"}])
def test_a_name_says_nothing_without_the_rules_for_secrets(redact: Any) -> None:
    """An app that has rules of its own, or none, gets nothing else."""
    event = EVENT._replace(properties={"password": "hunter2"})

    assert protected(event, redactors=redactors_from(redact)) == event


def test_an_object_that_json_does_not_know_is_redacted_as_text() -> None:
    """What the encoder would turn into a str later is a redacted str already."""

    class Login:
        def __str__(self) -> str:
            return f"Login({KEY})"

    event = EVENT._replace(properties={"login": Login(), "keys": {KEY}})

    kept = protected(event, redactors=redactors_from("secrets"))

    assert kept.properties == {"login": "Login([API_KEY])", "keys": ["[API_KEY]"]}


def test_ids_and_our_own_properties_are_not_redacted() -> None:
    """A redactor that hides everything still leaves who, which conversation and which model."""
    event = EVENT._replace(
        user_id="jane@example.com",
        assistant_id="gpt-4o",
        properties={"model": "gpt-4o", "status": "ok", "$prompt_id": "p-1", "$plan": "pro"},
    )

    assert protected(event, redactors=(hiding,)) == event._replace(
        text="***",
        properties={"model": "gpt-4o", "status": "ok", "$prompt_id": "p-1", "$plan": "***"},
    )


@pytest.mark.parametrize("name", ["response_model", "finish_reason", "error_type"])
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("accounts/x/models/gpt-4o:free", True),
        ("claude-3-5-sonnet@20240620", True),
        ("content_filter", True),
        ("no words about ada", False),
        ("ada@example.com", False),
        ("a" * 129, False),
        ("", False),
    ],
)
def test_of_a_servers_words_identifiers_stay(name: str, said: str, *, kept: bool) -> None:
    """Its model, reason and code are no text: what is no identifier could quote the question."""
    event = EVENT._replace(properties={name: said, "status": "ok"})

    assert protected(event).properties == ({name: said} if kept else {}) | {"status": "ok"}


def test_metadata_sends_no_text() -> None:
    """`capture="metadata"` takes the text away, the app's `$text` too, and keeps the rest."""
    event = EVENT._replace(properties={"$text": "own words", "model": "gpt-4o", "note": KEY})

    kept = protected(event, capture="metadata", redactors=redactors_from("secrets"))

    assert kept == EVENT._replace(text=None, properties={"model": "gpt-4o", "note": "[API_KEY]"})


def test_the_text_of_a_tracked_event_is_a_text() -> None:
    """`$text` of the app's own event is cut and redacted like any text."""
    event = EVENT._replace(text=None, properties={"$text": f"{KEY} " + "word " * 10})

    kept = protected(event, redactors=redactors_from("secrets"), max_text_chars=45)

    assert kept.properties == {"$text": "[API_KEY] word word ", "text_truncated": True}


def test_a_long_text_is_cut_before_it_is_redacted() -> None:
    """The redactor sees at most `max_text_chars`, and the event says that it was cut."""
    seen: list[str] = []

    def redactor(text: str) -> str:
        seen.append(text)
        return text

    kept = protected(EVENT._replace(text="one two three"), redactors=(redactor,), max_text_chars=7)

    assert (kept.text, seen) == ("one two", ["one two"])
    assert kept.properties == {"text_truncated": True}


@pytest.mark.parametrize("secret", [KEY, CARD, "jane.doe@example.com", "+44 20 7946 0958"])
def test_nothing_of_a_secret_at_the_cut_is_left(secret: str) -> None:
    """Wherever the cut falls in a secret, no part of it is sent."""
    text = f"please look at {secret} and tell me"
    start = text.index(secret)
    redactors = redactors_from("pii")

    left = {
        protected(EVENT._replace(text=text), redactors=redactors, max_text_chars=at).text
        for at in range(start + 1, start + len(secret))
    }

    assert left == {"please look at "}


def test_a_private_key_at_the_cut_goes() -> None:
    """A private key without its end is redacted up to the end of the text."""
    text = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEpAIBAAKC\n" * 99

    kept = protected(
        EVENT._replace(text=text), redactors=redactors_from("secrets"), max_text_chars=300
    )

    assert kept.text == "[PRIVATE_KEY]"


def test_a_text_without_spaces_is_cut_where_asked() -> None:
    """Chinese has no spaces: only what keys are made of is taken back at the cut."""
    kept = protected(EVENT._replace(text="中" * 1000), max_text_chars=600)

    assert kept.text == "中" * 600


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("redactor", [failing, len])
def test_a_failing_redactor_costs_the_text_only(
    redactor: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The text goes, the event stays; one warning for each kind, without a word of the text."""
    event = EVENT._replace(text="very private", properties={"status": "ok", "note": "mine"})

    with caplog.at_level(logging.WARNING):
        kept = [protected(event, redactors=(redactor,)) for _ in range(3)]

    assert kept == [EVENT._replace(text=None, properties={"status": "ok"})] * 3
    assert shield.faults() == {"redacting a text": 3, "redacting a property": 3}
    assert len(caplog.records) == 2
    assert "private" not in caplog.text
    assert "mine" not in caplog.text


@pytest.mark.usefixtures("lenient")
def test_a_property_that_contains_itself_is_left_out() -> None:
    """A circle costs that property, not the event, and no time."""
    circle: list[object] = []
    circle.extend([circle] * 100)

    kept = protected(EVENT._replace(properties={"circle": circle, "plan": "pro"}))

    assert kept == EVENT._replace(properties={"plan": "pro"})


def test_redactors_run_in_the_order_given() -> None:
    """A list mixes names, callables, patterns and tagged patterns; each runs once."""
    redactors = redactors_from(
        [
            "pii",
            "secrets",
            {"EMPLOYEE": r"\bE\d{6}\b"},
            re.compile("hush"),
            str.upper,
        ]
    )

    text = f"{KEY} j@example.com E123456 hush"
    assert len(redactors) == 5
    kept = protected(EVENT._replace(text=text), redactors=redactors)
    assert kept.text == "[API_KEY] [EMAIL] [EMPLOYEE] [REDACTED]"


@pytest.mark.parametrize(
    ("redact", "names"),
    [
        ("secret", "'secret'"),
        (42, "42"),
        (["pii", None], "None"),
        ([["pii"]], "['pii']"),
        ({"CODE": "("}, "'CODE'"),
        ({"CODE": 3}, "'CODE'"),
        (re.compile(b"x"), "re.compile(b'x')"),
        (b"pii", "b'pii'"),
    ],
)
def test_an_impossible_redactor_is_refused(redact: Any, names: str) -> None:
    """The error names the value, and says what is allowed or what is wrong."""
    with pytest.raises(ValueError, match=re.escape(names)):
        redactors_from(redact)


def test_none_redacts_nothing() -> None:
    """`redact=None` sends the text as it is."""
    assert protected(EVENT._replace(text=KEY), redactors=redactors_from(None)).text == KEY


def test_a_conversation_is_sampled_as_a_whole() -> None:
    """All events of a thread share one fate, and the share of threads is about the rate."""
    fates = {
        f"t-{n}": {
            is_sampled(EVENT._replace(thread_id=f"t-{n}", user_id=f"u-{m}"), 0.3) for m in range(3)
        }
        for n in range(2000)
    }

    assert {len(fate) for fate in fates.values()} == {1}
    assert 500 < sum(fate == {True} for fate in fates.values()) < 700


def test_without_a_thread_the_user_decides() -> None:
    """Events without a conversation are sampled by user, and 0 and 1 mean none and all."""
    events = [EVENT._replace(thread_id=None, user_id=f"u-{n}") for n in range(50)]

    assert {is_sampled(one, 0.5) for one in events} == {True, False}
    assert {is_sampled(one, 0.0) for one in events} == {False}
    assert {is_sampled(one, 1.0) for one in events} == {True}


def test_every_process_samples_alike() -> None:
    """The choice does not hang on this process's hash seed."""
    program = (
        "from trubrics_instrument._privacy.rules import sampled\n"
        "print([n for n in range(200) if sampled(f't-{n}', 0.2)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(said) == 1
    assert len(said.pop()) > 100


def test_the_event_that_was_given_is_unchanged() -> None:
    """The app's own dict is never written to."""
    properties = {"$text": KEY, "note": KEY, "deep": {"a": KEY}}
    event = EVENT._replace(properties=properties)

    protected(event, redactors=redactors_from("secrets"))

    assert properties == {"$text": KEY, "note": KEY, "deep": {"a": KEY}}
