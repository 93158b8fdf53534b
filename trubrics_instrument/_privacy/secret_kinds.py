"""The secrets that people paste into prompts: keys of vendors, tokens, private keys, passwords.

The shapes are those that the vendors document or that their own secret scanners look for.
"""

from __future__ import annotations

import re

from trubrics_instrument._privacy.recogniser import Recogniser, Span

KEY_CHARS = 20
TOKEN_CHARS = 16
# What a key, or what follows "Bearer", may be made of: all of it ASCII.
KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:/~+"

_WORD = r"[A-Za-z0-9]"
_URLSAFE = r"[A-Za-z0-9_-]"

# (prefixes, what follows): a prefix only counts where no letter or digit stands before it.
_KEYS = (
    ("AKIA ASIA ABIA ACCA", r"[A-Z2-7]{16}(?![A-Za-z0-9])"),  # AWS
    ("AIza", rf"{_URLSAFE}{{35,}}"),  # Google
    ("ya29.", rf"{_URLSAFE}{{20,}}"),  # Google OAuth
    ("GOCSPX-", rf"{_URLSAFE}{{24,}}"),  # Google OAuth client
    ("ghp_ gho_ ghu_ ghs_ ghr_", rf"{_WORD}{{30,}}"),  # GitHub
    ("github_pat_", r"[A-Za-z0-9_]{40,}"),
    ("glpat- gldt- glrt- glptt- glft- glsoat- glcbt-", r"[A-Za-z0-9_.-]{20,}"),  # GitLab
    ("xoxb- xoxp- xoxa- xoxr- xoxs- xoxe- xapp-", r"[A-Za-z0-9-]{16,}"),  # Slack
    ("hooks.slack.com/services/", r"[A-Z0-9]+/[A-Z0-9]+/[A-Za-z0-9]{16,}"),
    ("discord.com/api/webhooks/ discordapp.com/api/webhooks/", rf"\d+/{_URLSAFE}{{40,}}"),
    ("sk_live_ sk_test_ rk_live_ rk_test_ whsec_", rf"{_WORD}{{16,}}"),  # Stripe
    ("hf_", rf"{_WORD}{{30,}}"),  # Hugging Face
    ("gsk_", rf"{_WORD}{{40,}}"),  # Groq
    ("pplx-", rf"{_WORD}{{32,}}"),  # Perplexity
    ("xai-", rf"{_WORD}{{40,}}"),
    ("r8_", rf"{_WORD}{{30,}}"),  # Replicate
    ("nvapi-", rf"{_URLSAFE}{{40,}}"),  # NVIDIA
    ("csk-", rf"{_WORD}{{32,}}"),  # Cerebras
    ("tvly-", rf"{_URLSAFE}{{20,}}"),  # Tavily
    ("pcsk_", r"[A-Za-z0-9_]{40,}"),  # Pinecone
    ("lsv2_pt_ lsv2_sk_", r"[a-f0-9_]{32,}"),  # LangSmith
    ("jina_", rf"{_URLSAFE}{{40,}}"),
    ("phc_ phx_", rf"{_WORD}{{32,}}"),  # PostHog
    ("SG.", rf"{_URLSAFE}{{16,}}\.{_URLSAFE}{{32,}}"),  # SendGrid
    ("SK", r"[0-9a-f]{32}(?![0-9A-Za-z])"),  # Twilio
    ("key-", r"[0-9a-f]{32}(?![0-9A-Za-z])"),  # Mailgun
    ("npm_", rf"{_WORD}{{36}}"),
    ("pypi-AgEIcHlwaS5vcmc", rf"{_URLSAFE}{{50,}}"),
    ("dapi", r"[0-9a-f]{32}"),  # Databricks
    ("dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{64}"),  # DigitalOcean
    ("shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),  # Shopify
    ("sq0atp- sq0csp-", rf"{_URLSAFE}{{22,}}"),  # Square
    ("ntn_", rf"{_WORD}{{40,}}"),  # Notion
    ("lin_api_", rf"{_WORD}{{32,}}"),  # Linear
    ("PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),  # Postman
    ("dp.pt. dp.st.", r"[A-Za-z0-9_.-]{40,}"),  # Doppler
    ("hvs.", rf"{_URLSAFE}{{24,}}"),  # Vault
    ("sbp_", r"[0-9a-f]{40}"),  # Supabase
    ("figd_", rf"{_URLSAFE}{{32,}}"),  # Figma
    ("NRAK-", r"[A-Z0-9]{27}"),  # New Relic
    ("AGE-SECRET-KEY-1", r"[0-9A-Z]{50,}"),
)

_RUN = re.compile(r"[A-Za-z0-9]{12,}")


def _random_span(match: re.Match[str]) -> Span:
    """Leave what is spelt in words, such as `sk-learn-pipelines-explained`."""
    runs = _RUN.findall(match.group())
    return match.span() if any(not (run.isalpha() or run.isdigit()) for run in runs) else None


_TOKEN_NAME = re.compile(
    r"(?:(?:api|access|account|secret|private|auth|signing|encryption|subscription)[ _-]?key"
    r"|secret|token)\Z"
)
_PASSWORD_NAME = re.compile(r"(?:passw(?:or)?d|passphrase|pwd|(?<![a-z])pass)\Z")
_NAME_CHARS = 40
_TOKEN_CHARS = 12
_MOST_LOOKED_AT = 256
_VALUE_CHARS = r"[^\s\"'`,;&()<>{}\[\]$*]"
_REST = re.compile(rf"{_VALUE_CHARS}*")


def _assigned_span(match: re.Match[str]) -> Span:
    """Decide by the name on the left and the look of the value on the right."""
    text, start = match.string, match.start()
    name = text[max(0, start - _NAME_CHARS) : start].rstrip(" \t\"'`").lower()
    value = match["value"]
    if text[match.end() : match.end() + 1] in {"(", "["}:  # a call, not a value
        return None
    varied = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    if _PASSWORD_NAME.search(name):
        return _whole_value(match) if varied or match[0][0] == "=" else None
    if _TOKEN_NAME.search(name) and varied and len(value) >= _TOKEN_CHARS:
        return _whole_value(match)
    return None


def _whole_value(match: re.Match[str]) -> Span:
    """Return where a value is, with what is behind that part of it that was looked at."""
    rest = _REST.match(match.string, match.end("value"))
    return match.start("value"), rest.end() if rest else match.end("value")


def _spoken_span(match: re.Match[str]) -> Span:
    value = match["value"]
    return match.span("value") if any(not c.isalpha() for c in value) else None


def _bearer_span(match: re.Match[str]) -> Span:
    value = match["value"]
    return match.span("value") if any(c.isdigit() for c in value) else None


def _key(prefix: str, rest: str) -> Recogniser:
    literal = re.escape(prefix)
    # The check of what stands before comes after the literal, so that `re` can leap to it.
    pattern = re.compile(rf"{literal}(?<![A-Za-z0-9]{literal}){rest}")
    return Recogniser("api_key", (prefix,), pattern)


def _bearer(start: str) -> Recogniser:
    pattern = re.compile(rf"{start}[ \t]{{1,4}}(?P<value>[A-Za-z0-9._~+/-]{{{TOKEN_CHARS},}}=*)")
    return Recogniser("token", (start,), pattern, _bearer_span)


def _assigned(separator: str) -> Recogniser:
    # The name is read only after its last letter and the separator were found: prose is full of
    # "token" and "key", and has few separators.
    pattern = re.compile(
        rf"{separator}(?<=[ntyesdNTYESD\"'` ]{separator})[ \t]{{0,3}}[\"'`]?"
        rf"(?P<value>{_VALUE_CHARS}{{6,{_MOST_LOOKED_AT}}})"
    )
    return Recogniser("secret", (separator,), pattern, _assigned_span)


# Each is a run of at least `KEY_CHARS` characters of the `KEY_ALPHABET`.
KEYS = (
    Recogniser(
        "jwt",
        ("eyJ",),
        # Its second and third part may be missing: a cut one still tells who it is for.
        re.compile(rf"eyJ(?<![A-Za-z0-9_-]eyJ){_URLSAFE}{{17,}}(?:\.{_URLSAFE}*){{0,4}}"),
    ),
    Recogniser(
        "api_key",
        ("sk-",),
        re.compile(rf"sk-(?<![A-Za-z0-9]sk-){_URLSAFE}{{20,}}"),
        _random_span,
    ),
    *(_key(prefix, rest) for prefixes, rest in _KEYS for prefix in prefixes.split()),
    Recogniser(
        "api_key",
        (":AA",),
        re.compile(rf":AA(?<=\d{{8}}:AA)(?P<value>{_URLSAFE}{{30,}})"),  # Telegram
    ),
)

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
        re.compile(r"://[^\s/:@]{0,200}:(?!\d{1,5}[?#])(?P<value>[^\s/\"'`<>]+)@"),
    ),
)

# Each is a run of at least `TOKEN_CHARS` characters of the `KEY_ALPHABET`, at most
# `BEARER_CHARS` after where its gate begins.
BEARERS = (_bearer("earer"), _bearer("BEARER"), _bearer("Basic"), _bearer("Token"))
BEARER_CHARS = 10

ASSIGNED = (
    _assigned("="),
    _assigned(":"),
    Recogniser(
        "secret",
        ("w", "ssword is"),
        re.compile(r"ssword is:?[ \t]{1,3}[\"'`]?(?P<value>[^\s\"'`]{5,255}[^\s\"'`.,;!?])"),
        _spoken_span,
    ),
)
