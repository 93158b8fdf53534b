"""The secrets that people paste into prompts, told by what stands around them.

Passwords, tokens and private keys; the keys that have a shape of their own are in `key_kinds.py`.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING

from trubrics_instrument._privacy.key_kinds import has_random_run
from trubrics_instrument._privacy.recogniser import Recogniser, Span

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_CHARS = 16

_TOKEN_NAME = re.compile(
    r"(?:(?:api|access|account|app|auth|azure|encryption|gemini|master|openai|private|secret"
    r"|signing|subscription)[ _-]?key|secret|token)\Z",
    re.IGNORECASE,
)
# Of an environment's other keys (`MAPS_KEY`), those with a value that is no word.
_VARIABLE_NAME = re.compile(r"[A-Z0-9]_KEY\Z")
_PASSWORD_NAME = re.compile(
    r"(?:passw(?:or)?d|passphrase|pwd|(?<![a-z])pass|(?:pass|kenn)wort|wachtwoord|mot de passe"
    r"|contraseña|senha|пароль)\Z",
    re.IGNORECASE,
)
_NAME_CHARS = 20
_NAME_ENDS = r"ntyesdaь\"'`* "
_NAME_TRIMMED = " \t\"'`*\\"
_TOKEN_CHARS = 12
_MOST_LOOKED_AT = 256
_STARTS_WORD = r"[^\s\"'`,;&()<>{}\[\]$*]"
_IN_WORD = r"[^\s\"'`,;&()<>{}\[\]]"
_REST = re.compile(rf"{_IN_WORD}*")
# Up to what closes it: in JSON within JSON a quote has a backslash before it.
_QUOTED = {
    **{mark: re.compile(rf"(?:[^{mark}\\\n]|\\.){{0,8192}}(?={mark})") for mark in "\"'`"},
    "\\": re.compile(r"[^\\\n]{0,8192}(?=\\)"),
}
# A value, with the quote that opens it; `**` closes a bold name in Markdown.
_VALUE = (
    r"\*{0,2}[ \t]{0,3}(?P<quote>\\{0,3}[\"'`])?"
    rf"(?P<value>(?(quote)(?:(?!(?P=quote))(?:\\.|\S)){{6,{_MOST_LOOKED_AT}}}"
    rf"|{_STARTS_WORD}{_IN_WORD}{{5,{_MOST_LOOKED_AT}}}))"
)
_PLACEHOLDER = re.compile(
    r"[<\[{(*]|[$#%@][{(]|\$[A-Z_]+\Z|\$[a-z_]+\Z|your[_-]|x{4,}", re.IGNORECASE
)
_PATH = re.compile(r"~?/[\w.@-]+(?:/[\w.@-]+)+/?")
_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def holds_secret(name: str, value: str) -> bool:
    """Whether a property of this name and value holds what a text would assign to the name."""
    return bool(value) and _is_secret(name, value, stated=True)


def _is_secret(name: str, value: str, *, stated: bool) -> bool:
    """Decide by a name and the look of its value.

    `stated` says that a password needs no digit: it is a value for sure, not the next word.
    """
    password = _PASSWORD_NAME.search(name) is not None
    variable = not password and _VARIABLE_NAME.search(name) is not None
    if not (password or variable or _TOKEN_NAME.search(name)) or _PLACEHOLDER.match(value):
        return False
    varied = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    if password:
        return (varied or stated) and not _PATH.fullmatch(value)
    return varied and len(value) >= _TOKEN_CHARS and (not variable or has_random_run(value))


def _assigned_span(match: re.Match[str]) -> Span:
    """Decide by the name on the left and the look of the value on the right."""
    text, start, value, quote = match.string, match.start(), match["value"], match["quote"]
    name = text[max(0, start - _NAME_CHARS) : start].rstrip(_NAME_TRIMMED)
    if not quote and text[match.end() : match.end() + 1] in {"(", "["}:  # a call, not a value
        return None
    stated = match[0][0] == "=" and bool(quote or not _ATTRIBUTE.fullmatch(value))
    return _whole_value(match) if _is_secret(name, value, stated=stated) else None


def _option_span(match: re.Match[str]) -> Span:
    found = _is_secret(match["name"], match["value"], stated=False)
    return _whole_value(match) if found else None


def _whole_value(match: re.Match[str]) -> tuple[int, int]:
    """Return where a value is, with what is behind that part of it that was looked at."""
    text, start = match.string, match.start("value")
    closed = _QUOTED[match["quote"][0]].match(text, start) if match["quote"] else None
    rest = closed or _REST.match(text, match.end("value"))
    return start, rest.end() if rest else match.end("value")


def _spoken_span(match: re.Match[str]) -> Span:
    value = match["value"]
    return match.span("value") if any(not c.isalpha() for c in value) else None


def _bearer_span(match: re.Match[str]) -> Span:
    value = match["value"]
    return match.span("value") if any(c.isdigit() for c in value) else None


def _basic_span(match: re.Match[str]) -> Span:
    """Take what is a user and a password in base64, and not the words behind "Basic"."""
    value = match["value"].rstrip("=")
    try:
        decoded = b64decode(value[: len(value) // 4 * 4], validate=True)
    except ValueError:
        return None
    return match.span("value") if b":" in decoded else None


def _bearer(
    start: str, after: str = "", span: Callable[[re.Match[str]], Span] = _bearer_span
) -> Recogniser:
    pattern = re.compile(
        rf"{start}{after}[ \t]{{1,4}}(?P<value>[A-Za-z0-9._~+/-]{{{TOKEN_CHARS},}}=*)"
    )
    return Recogniser("token", (start,), pattern, span)


def _assigned(separator: str) -> Recogniser:
    # The name is read only after its last letter and the separator were found: prose is full of
    # "token" and "key", and has few separators.
    pattern = re.compile(rf"{separator}(?<=[{_NAME_ENDS}{_NAME_ENDS.upper()}]{separator}){_VALUE}")
    return Recogniser("secret", (separator,), pattern, _assigned_span)


FRAMED = (
    Recogniser(
        "private_key",
        ("-", "-----BEGIN "),
        # Without its end it goes up to the end of the text: a cut one is as secret.
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?s:.*?)(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
        ),
    ),
    Recogniser(
        "password",
        ("@", "://"),
        # Not a port, nor what stands between two strings of a JSON text.
        re.compile(r"://[^\s/:]{0,200}:(?!\d{1,5}[?#])(?P<value>[^\s/\"'`<>]+)@"),
    ),
)

# Each is a run of at least `TOKEN_CHARS` characters of the `KEY_ALPHABET`, at most
# `BEARER_CHARS` after where its gate begins.
BEARERS = (
    _bearer("earer"),
    _bearer("BEARER"),
    _bearer("Basic", span=_basic_span),
    _bearer("Token"),
    _bearer("token", r"(?:(?<=uthorization: token)|(?<=uthorization[\"']: [\"']token))"),  # GitHub
)
BEARER_CHARS = 10

ASSIGNED = (
    _assigned("="),
    _assigned(":"),
    Recogniser(
        "secret",
        ("--",),
        re.compile(rf"--(?P<name>[a-z-]{{4,40}})[ \t]{_VALUE}"),  # an option of a command
        _option_span,
    ),
    Recogniser(
        "secret",
        ("w", "ssword is"),
        re.compile(r"ssword is:?[ \t]{1,3}[\"'`]?(?P<value>[^\s\"'`]{5,255}[^\s\"'`.,;!?])"),
        _spoken_span,
    ),
)
