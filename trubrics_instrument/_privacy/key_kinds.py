"""The keys of vendors, each of which can be told by what it begins with or has inside.

The shapes are those that the vendors document or that secret scanners look for: the vendors' own,
and the rules of gitleaks (github.com/gitleaks/gitleaks, config/gitleaks.toml).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trubrics_instrument._privacy.recogniser import Recogniser, Span, matched_span

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_CHARS = 20
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
    ("xoxb- xoxp- xoxa- xoxc- xoxr- xoxs- xoxe- xapp-", r"[A-Za-z0-9-]{16,}"),  # Slack
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
    ("ATATT3 ATCTT3", rf"{_URLSAFE}{{60,}}(?:=[0-9A-F]{{8}})?"),  # Atlassian
    ("dckr_pat_ dckr_oat_", rf"{_URLSAFE}{{27,}}"),  # Docker
    ("glsa_", r"[A-Za-z0-9]{32}_[0-9A-Fa-f]{8}"),  # Grafana
    ("glc_", r"[A-Za-z0-9+/]{32,}={0,3}"),  # Grafana Cloud
    ("sntrys_", r"eyJ[A-Za-z0-9+/_-]{20,}=*(?:_[A-Za-z0-9+/]{43})?"),  # Sentry
    ("sntryu_", r"[0-9a-f]{64}"),  # Sentry, of a user
    ("xkeysib- xsmtpsib-", r"[0-9a-f]{64}-[A-Za-z0-9]{16}"),  # Brevo
    ("tskey-", r"[a-z]{3,12}-[A-Za-z0-9-]{16,}"),  # Tailscale
    ("sb_secret_", rf"{_URLSAFE}{{22,}}"),  # Supabase
    ("nfp_", rf"{_WORD}{{36,}}"),  # Netlify
    ("vercel_blob_rw_", r"[A-Za-z0-9_]{30,}"),
    ("fm1a_ fm1r_ fm2_", r"[A-Za-z0-9+/]{60,}={0,3}"),  # Fly
    ("fo1_", rf"{_URLSAFE}{{43}}"),  # Fly
    ("rubygems_", r"[0-9a-f]{48}"),
    ("AQ.", rf"Ab8{_URLSAFE}{{40,}}"),  # Google Gemini
    ("1//0", rf"{_URLSAFE}{{40,}}"),  # Google OAuth refresh token
    ("sk_", r"[0-9a-f]{48}(?![0-9A-Za-z])"),  # ElevenLabs
    ("pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),  # Airtable
    ("tgp_v1_", rf"{_URLSAFE}{{40,}}"),  # Together
    ("ABSK", r"[A-Za-z0-9+/]{100,}={0,2}"),  # AWS Bedrock
    ("A21AA", rf"{_URLSAFE}{{80,}}"),  # PayPal
    ("xoxd-", r"[A-Za-z0-9+/_-]{20,}[A-Za-z0-9+/_%=-]*"),  # Slack, of a browser
    ("ops_eyJ", r"[A-Za-z0-9+/_-]{100,}={0,3}"),  # 1Password
    ("pat-na1- pat-na2- pat-eu1-", r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
    ("pscale_tkn_ pscale_pw_ pscale_oauth_", r"[A-Za-z0-9_.-]{32,}=*"),  # PlanetScale
    ("sl.", rf"(?:u\.)?{_URLSAFE}{{100,}}"),  # Dropbox
    ("pul-", r"[0-9a-f]{40}"),  # Pulumi
    ("CFPAT-", rf"{_URLSAFE}{{43}}"),  # Contentful
    ("sk_org_", r"[A-Za-z0-9_]{24,}"),  # Stripe, of an organization
    ("webhook.office.com/webhookb2/", r"[0-9A-Za-z-]{36}[0-9A-Za-z@/-]*"),  # Teams
)

# Prefixes that words have too: what follows must have a run that is no word.
_KEYS_LIKE_WORDS = (
    ("sk-", rf"{_URLSAFE}{{20,}}"),  # OpenAI, Anthropic, DeepSeek
    ("re_", r"[A-Za-z0-9]{8}_[A-Za-z0-9]{24}(?![A-Za-z0-9])"),  # Resend
    ("fw_", rf"{_WORD}{{22,}}(?![A-Za-z0-9_])"),  # Fireworks
    ("pa-", rf"{_URLSAFE}{{43}}(?![A-Za-z0-9_-])"),  # Voyage
    ("EAA", rf"{_WORD}{{80,}}"),  # Facebook
    ("secret_", rf"{_WORD}{{43}}(?![A-Za-z0-9])"),  # Notion, until 2024
)

# (what stands before, what is inside, what follows)
_KEYS_BY_MIDDLE = (
    (r"\d{8,16}", ":AA", rf"{_URLSAFE}{{30,}}"),  # Telegram
    (r"(?<![A-Za-z0-9_~.])[A-Za-z0-9_~.]{3}\d", "Q~", r"[A-Za-z0-9_~.-]{31,34}"),  # Azure AD
    (rf"{_WORD}{{14}}", ".atlasv1.", rf"{_URLSAFE}{{60,70}}=*"),  # Terraform
    (r"(?<![A-Za-z0-9])[0-9a-f]{32}", "-us", r"\d{1,2}(?![A-Za-z0-9])"),  # Mailchimp
)
_BEFORE_CHARS = 40

_RUN = re.compile(r"[A-Za-z0-9]{12,}")


def _random_span(match: re.Match[str]) -> Span:
    """Leave what is spelt in words, such as `sk-learn-pipelines-explained`."""
    return match.span() if has_random_run(match.group()) else None


def has_random_run(text: str) -> bool:
    """Whether a text has a long run of letters and digits that is neither a word nor a number."""
    return any(not (run.isalpha() or run.isdigit()) for run in _RUN.findall(text))


def _key(prefix: str, rest: str, span: Callable[[re.Match[str]], Span]) -> Recogniser:
    literal = re.escape(prefix)
    # The check of what stands before comes after the literal, so that `re` can leap to it.
    pattern = re.compile(rf"{literal}(?<![A-Za-z0-9]{literal}){rest}")
    return Recogniser("api_key", (prefix,), pattern, span)


def _key_by_middle(before: str, inside: str, rest: str) -> Recogniser:
    leading = re.compile(rf"{before}\Z")

    def span(match: re.Match[str]) -> Span:
        start = match.start()
        found = leading.search(match.string, max(0, start - _BEFORE_CHARS), start)
        return (found.start(), match.end()) if found else None

    return Recogniser("api_key", (inside,), re.compile(re.escape(inside) + rest), span)


def _keys(
    table: tuple[tuple[str, str], ...], span: Callable[[re.Match[str]], Span]
) -> list[Recogniser]:
    return [_key(prefix, rest, span) for prefixes, rest in table for prefix in prefixes.split()]


# Each is a run of at least `KEY_CHARS` characters of the `KEY_ALPHABET`.
KEYS = (
    Recogniser(
        "jwt",
        ("eyJ",),
        # Its second and third part may be missing: a cut one still tells who it is for.
        re.compile(rf"eyJ(?<![A-Za-z0-9_-]eyJ){_URLSAFE}{{17,}}(?:\.{_URLSAFE}*){{0,4}}"),
    ),
    *_keys(_KEYS_LIKE_WORDS, _random_span),
    *_keys(_KEYS, matched_span),
    *(_key_by_middle(*shape) for shape in _KEYS_BY_MIDDLE),
)
