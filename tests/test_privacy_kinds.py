"""What the recognisers find, on the labelled strings, and in how much time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.labelled import Labelled, Score, labelled, scores, table
from trubrics_instrument._privacy import redactors_from
from trubrics_instrument._privacy.key_kinds import KEYS
from trubrics_instrument._privacy.redact import redact_pii, redact_secrets
from trubrics_instrument._privacy.rules import cut
from trubrics_instrument._privacy.secret_kinds import ASSIGNED, BEARERS, FRAMED

STRINGS = labelled()
UNMARKED = [one for one in STRINGS if not one.marks]
# What the set marks and the recognisers leave, on purpose: keys without a shape, words without a
# separator, addresses and numbers that are spelt out. The table of docs/how-to/privacy.md.
KNOWN_MISSES = {
    "api_key": 3,
    "secret": 3,
    "email": 2,
    "phone": 3,
    "ssn": 1,
}
HOSTILE_CHARS = 200_000
HOSTILE_S = 15.0  # about 1 s is usual; a quadratic pattern takes a minute

# One a line, some with a space at their end.
HOSTILE = """\
sk-
sk-a1
eyJ
eyJ.
eyJaaaaaaaaaaaaaaaaaaaaaa.
AKIA
xoxb-
ghp_a
SG.
SG.aaaaaaaaaaaaaaaaaaaaaaaa.
hooks.slack.com/services/A/
1:AA
8Q~
.atlasv1.
fw_
pat
token=
token:
token: a1
password=a
password="
password="a1b2c3\x20
password="a1b2c3\x20password='a1b2c3\x20
password=\"
password="\\
--
--password\x20
--password\x20a1b2c3\x20
password is\x20
password=\x20
key="
"=
=
:
a=
a1:
://
://a:
://a:b@
-----BEGIN\x20
-----BEGIN PRIVATE\x20KEY-----
bearer\x20
Basic\x20
authorization: token\x20
Bearer a\x20
@
a@
a@b.
и@и.
a@xn--
a.
1.
1.1.
::
1::
1
1\x20
1-
1/
1 (
(1
(
+1
+(
00\x20
0\u2013
1\u00a0
1\u00a01
1010 010\x20
4111\x20
DE
DE89
DE89\x20
A
0a
_
-
é
"""


def redacted(text: str) -> str:
    """Return the text as `redact="pii"` leaves it."""
    for redactor in redactors_from("pii"):
        text = redactor(text)
    return text


def test_the_set_is_large_enough() -> None:
    """At least 300 strings, a good part of them with nothing to find."""
    assert len(STRINGS) > 300
    assert len(UNMARKED) > 150


@pytest.mark.parametrize("score", scores(redacted, STRINGS), ids=lambda score: score.kind)
def test_recall_is_what_the_documentation_says(score: Score) -> None:
    """No kind finds less than it did, and none takes what is not its own."""
    assert (len(score.missed), score.wrong) == (KNOWN_MISSES.get(score.kind, 0), ())


def test_the_documentation_shows_what_is_measured() -> None:
    """The table of the how-to is the benchmark's."""
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "privacy.md").read_text()

    for row in table(scores(redacted, STRINGS)):
        assert row in page


@pytest.mark.parametrize("string", UNMARKED, ids=lambda string: string.text[:40])
def test_text_without_secrets_is_left_alone(string: Labelled) -> None:
    """Dates, versions, code and ids come through unchanged."""
    assert redacted(string.text) == string.text


def pieces_of_texts() -> st.SearchStrategy[str]:
    """Return what secrets begin with and are made of, and pieces of the labelled strings."""
    prefixes = [gate for one in (*KEYS, *FRAMED, *BEARERS, *ASSIGNED) for gate in one.gates]
    alphabet = "abcXYZ0123789_-.:/~+=@ \t\n\"'é界"
    return st.one_of(
        st.sampled_from(prefixes),
        st.sampled_from("aA0_- ").flatmap(
            lambda c: st.integers(14, 40).map(lambda n: (c + "b7") * n)
        ),
        st.text(alphabet, max_size=24),
        st.sampled_from(STRINGS).flatmap(
            lambda one: st.integers(0, len(one.text)).map(lambda at: one.text[at:])
        ),
    )


@given(st.lists(pieces_of_texts(), max_size=8).map("".join))
@example("\n".join(one.text for one in STRINGS))
@example("BEARER    a1b2c3d4e5f6g7h8\nauthorization: bearer\t\t\t\ta1b2c3d4e5f6g7h8")
def test_the_short_cuts_miss_nothing(text: str) -> None:
    """A text that is searched only where a secret may be is redacted as one searched whole."""
    whole = text
    for recogniser in (*KEYS, *FRAMED, *BEARERS, *ASSIGNED):
        whole = recogniser.redact(whole)

    assert redact_secrets(text) == whole


def test_no_cut_leaves_the_start_of_a_secret() -> None:
    """Wherever `max_text_chars` falls in a marked value, not even its first characters are left.

    A private key's first line is no secret: the cut may leave it.
    """
    for text, marks in STRINGS:
        for kind, value in marks:
            start = text.index(value)
            known = value not in redacted(text) and kind != "private_key"
            if not known or value[:4] in text[:start]:
                continue
            for at in range(start + 4, start + len(value), 3):
                assert value[:4] not in redacted(cut(text, at)), (text, at)


@pytest.mark.parametrize(
    "key",
    [
        "7747249299:" + "AAHiVB2fphlRDJ3vJRUPgIJUw2rpwao8rgH",
        "aB3" + "8Q~" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ_2.4-6~8",
    ],
    ids=["Telegram", "Azure AD"],
)
def test_a_key_that_is_told_by_its_middle_goes_from_its_start(key: str) -> None:
    """With the id or the letters before it, and not what stands before those."""
    assert redact_secrets(f"use {key} please") == "use [API_KEY] please"


@pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN=", '"refresh_token": "', "password: "])
def test_a_long_value_is_redacted_to_its_end(name: str) -> None:
    """As long as a token with claims in it is."""
    text = f"export {name}{'aB3/' * 300} and so on"
    assert redact_secrets(text) == f"export {name}[SECRET] and so on"


@pytest.mark.parametrize(
    "value", ["a$b;c(1)&d*e", "hunter22 and more", r"pa\"ss\"word1", "aB3/" * 225]
)
def test_a_quoted_value_is_redacted_up_to_its_closing_quote(value: str) -> None:
    """Whatever is inside, and no further."""
    assert redact_secrets(f'set(password="{value}", n="1")') == 'set(password="[SECRET]", n="1")'


def test_a_value_in_json_within_json_keeps_the_text_json() -> None:
    """Its quotes have a backslash before them, which stays."""
    text = r'{"body": "{\"password\": \"hunter22 x\", \"n\": 1}"}'
    assert redact_secrets(text) == r'{"body": "{\"password\": \"[SECRET]\", \"n\": 1}"}'


def test_tags_are_not_redacted_again() -> None:
    """A second pass, such as a replay's, changes nothing."""
    for string in STRINGS:
        once = redacted(string.text)
        assert redacted(once) == once


@pytest.mark.parametrize("start", ["", "sk-"])
@pytest.mark.parametrize("piece", HOSTILE.splitlines())
def test_hostile_text_takes_linear_time(piece: str, start: str) -> None:
    """200,000 characters that begin a match again and again, or one, are done with soon."""
    text = start + (piece * HOSTILE_CHARS)[:HOSTILE_CHARS]
    started = time.process_time()

    redact_secrets(text)
    redact_pii(text)

    assert time.process_time() - started < HOSTILE_S
