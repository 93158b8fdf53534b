"""What may leave the process: applied to each event on the sender's thread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from trubrics_instrument._base.shield import stopped
from trubrics_instrument._events import IDS, NAMING, OF_DELIVERY, SERVERS_WORDS, TEXT
from trubrics_instrument._privacy.redact import redact_secrets, redactors_from
from trubrics_instrument._privacy.secret_kinds import holds_secret

if TYPE_CHECKING:
    from trubrics_instrument._config import Config
    from trubrics_instrument._privacy.redact import Redactor

# Ids and names of the configuration: not free text. The text has its own way.
_ALWAYS_OURS = IDS | OF_DELIVERY | {"environment", TEXT}
# What observers fill in, neither. Redacting it would let a callable that hides everything hide
# which model answered. In what an app tells by `track()` and `feedback()`, these names are its own.
_OBSERVERS_OWN = _ALWAYS_OURS | NAMING
# A version is behind an "@" at Vertex AI.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/+-]{1,128}(?:@[A-Za-z0-9]{1,16})?")


class Rules(NamedTuple):
    """What holds for every event, built once from the configuration.

    Attributes:
        capture: "full", or "metadata" for no text at all.
        redactors: Applied to every text and custom property, in this order.
        max_text_chars: Longer texts are cut.
        sample_rate: The share of conversations that is sent, 0 to 1.
    """

    capture: Literal["full", "metadata"] = "full"
    redactors: tuple[Redactor, ...] = ()
    max_text_chars: int = 20_000
    sample_rate: float = 1.0


def rules_of(config: Config) -> Rules:
    """Return the rules that a configuration sets.

    Raises:
        ValueError: An unknown redactor, or a pattern that does not compile.
    """
    return Rules(
        capture=config.capture,
        redactors=redactors_from(config.redact),
        max_text_chars=config.max_text_chars,
        sample_rate=config.sample_rate,
    )


def protect(properties: dict[str, object], rules: Rules, *, observed: bool = True) -> None:
    """Leave, of an event's properties on the wire, only what may leave the process; in place.

    The ids of user, conversation and messages stay: they are what the events are joined by. What
    cannot be redacted does not leave. `observed` says whether an observer tells it, not the app.
    """
    ours = _OBSERVERS_OWN if observed else _ALWAYS_OURS
    if TEXT in properties:
        _protect_text(properties, rules)
    if observed:
        _drop_sentences(properties)
    unredacted: list[str] = []
    for name, value in properties.items():
        if type(value) in _WITHOUT_TEXT or name in ours:
            continue
        try:
            properties[name] = _redacted_value(value, rules.redactors, (), name)
        except Exception as error:
            unredacted.append(name)
            stopped("redacting a property", error)
    for name in unredacted:
        del properties[name]


def _drop_sentences(properties: dict[str, object]) -> None:
    """Drop, of what a server puts into words, what is no identifier: it could quote the text."""
    for name in SERVERS_WORDS:
        said = properties.get(name)
        if isinstance(said, str) and not _IDENTIFIER.fullmatch(said):
            del properties[name]


def _protect_text(properties: dict[str, object], rules: Rules) -> None:
    """Cut and redact the text, or take it away."""
    value = properties.pop(TEXT)
    if rules.capture == "metadata":
        return
    try:
        text = value if isinstance(value, str) else str(value)
        short = cut(text, rules.max_text_chars)
        properties[TEXT] = redacted(short, rules.redactors)
        if len(short) < len(text):
            properties["text_truncated"] = True
    except Exception as error:
        stopped("redacting a text", error)


def sampled(conversation: str, rate: float) -> bool:
    """Whether a conversation is sent: the same answer in every process, for each of its events."""
    if rate >= 1:
        return True
    digest = blake2b(conversation.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2**64


_STRADDLE_CHARS = 512
# ASCII; Latin, Greek and Cyrillic letters; hyphens and dashes.
_OF_WORDS = re.compile("[!-~À-ԯ\u2010-\u2015]")


def cut(text: str, max_chars: int) -> str:
    """Return at most `max_chars` characters, without the rest of something that the cut halves.

    Half a key or half a card number has not the shape that a redactor knows. So the word at the
    cut goes, and the words of digits or capitals before it, up to 512 characters.
    """
    if len(text) <= max_chars:
        return text
    at, floor = max_chars, max(0, max_chars - _STRADDLE_CHARS)
    halved = not (text[at].isspace() or text[at - 1].isspace())
    while at > floor:
        end = _before_spaces(text, at, floor)
        start = _before_word(text, end, floor)
        if start == end or not (halved or _like_a_number(text[start:end])):
            break
        at, halved = start, False
    return text[:at]


def _before_spaces(text: str, at: int, floor: int) -> int:
    while at > floor and text[at - 1].isspace():
        at -= 1
    return at


def _before_word(text: str, at: int, floor: int) -> int:
    """Go back over what keys, addresses and numbers have: no Chinese, which has no spaces."""
    while at > floor and _OF_WORDS.match(text, at - 1):
        at -= 1
    return at


def _like_a_number(word: str) -> bool:
    """Whether a word may be a part of a number in groups; an IBAN has groups of capitals too."""
    return word.isupper() or any(c.isdigit() for c in word)


_WITHOUT_TEXT = frozenset({type(None), bool, int, float})


def _redacted_value(
    value: object, redactors: tuple[Redactor, ...], within: tuple[int, ...], name: str
) -> Any:
    """Return a value of JSON's own types, its strings redacted; other objects become `str`.

    `name` is that of the property that holds it, which may say that it is a secret.
    """
    if isinstance(value, str):
        if redact_secrets in redactors and holds_secret(name, value):
            return "[SECRET]"
        return redacted(value, redactors)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return redacted(str(value), redactors)
    container = cast("Mapping[object, object] | Iterable[object]", value)
    if id(container) in within:
        raise ValueError("a property that contains itself")
    within += (id(container),)
    if isinstance(container, Mapping):
        pairs = cast("Mapping[object, object]", container).items()
        return {
            redacted(str(key), redactors): _redacted_value(one, redactors, within, str(key))
            for key, one in pairs
        }
    return [_redacted_value(one, redactors, within, name) for one in container]


def redacted(text: str, redactors: tuple[Redactor, ...]) -> str:
    """Return the text after all redactors.

    Raises:
        TypeError: A redactor returned something else than a str.
    """
    for redactor in redactors:
        text = redactor(text)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - the app's
            raise TypeError("a redactor returned no str")
    return text
