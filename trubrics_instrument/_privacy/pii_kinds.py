"""Personal facts with a shape that can be checked; names and addresses need a language model."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from itertools import pairwise

from trubrics_instrument._privacy.recogniser import Recogniser, Span

_CUE_CHARS = 32

# The patterns start with a class of characters and look back from there: `re` leaps from one such
# character to the next, but would try an assertion at every place. Words and digits are ASCII's:
# a number may stand right beside a word in Chinese.


def _digits(text: str) -> list[int]:
    return [int(c) for c in text if c in "0123456789"]


def _before(match: re.Match[str]) -> str:
    """Return the words just before a match, which say what a bare number is."""
    start = match.start()
    return match.string[max(0, start - _CUE_CHARS) : start].lower()


# What stands between groups of digits: spaces, also those that do not break; hyphens and dashes.
_SPACES = " \u00a0\u202f"
_DASHES = "\u2010-\u2013-"

# Latin, Greek and Cyrillic: in scripts without spaces, the words around would be a part of it.
_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ԯ"
_EMAIL_CHARS = f"{_LETTERS}0-9"
_EMAIL = re.compile(
    rf"(?<![{_EMAIL_CHARS}._%+-])[{_EMAIL_CHARS}._%+-][{_EMAIL_CHARS}._%+'-]{{0,199}}"
    rf"@(?:[{_EMAIL_CHARS}-]{{1,63}}\.){{1,8}}"
    rf"(?:xn--[A-Za-z0-9-]{{2,59}}|[{_LETTERS}]{{2,24}})(?![A-Za-z0-9])"
)
_FILE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")


def _email_span(match: re.Match[str]) -> Span:
    found = match.group()
    if found.startswith("git@") or found.lower().endswith(_FILE_ENDINGS):
        return None
    return match.span()


_IBAN = re.compile(
    rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}\d{{2}}(?:[{_SPACES}.{_DASHES}]?[A-Za-z0-9]){{11,30}}"
)
_IBAN_CHARS = {  # Source: SWIFT, IBAN registry
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24,
    "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22,
    "VG": 24, "XK": 20,
}  # fmt: skip


def _iban_span(match: re.Match[str]) -> Span:
    """Take as many characters as the country's IBANs have, if their checksum is right."""
    found = match.group().upper()
    length = _IBAN_CHARS.get(found[:2], 0)
    places = [at for at, char in enumerate(found) if char.isalnum()][:length]
    if not length or len(places) < length:
        return None
    iban = "".join(found[at] for at in places)
    number = "".join(str(int(char, 36)) for char in iban[4:] + iban[:4])
    end = match.start() + places[-1] + 1
    follows = match.string[end : end + 1]
    if int(number) % 97 != 1 or (follows.isalnum() and follows.isascii()):
        return None
    return match.start(), end


_CARD = re.compile(
    r"[2-6](?<![\w.+-][2-6])\d{3}"
    rf"(?:(?:\.\d{{4}}){{3}}|(?:[{_SPACES}{_DASHES}]?\d){{9,15}})(?!\w|[.-]\d)",
    re.ASCII,
)


def _card_span(match: re.Match[str]) -> Span:
    digits = _digits(match.group())
    doubled = (2 * d - 9 * (d > 4) for d in digits[-2::-2])  # noqa: PLR2004 - Luhn
    valid = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return match.span() if valid and len(set(digits)) > 1 else None


_SSN = re.compile(
    r"[0-8](?<![\w.-]\d)(?<!0(?=00))(?<!6(?=66))\d\d"
    rf"([{_SPACES}{_DASHES}]?)(?!00)\d\d\1(?!0000)\d{{4}}(?!\w|[.-]\d)",
    re.ASCII,
)
_SSN_CUE = re.compile(r"\bssn\b|social security|\bitin\b")


def _ssn_span(match: re.Match[str]) -> Span:
    spaced = not match[1] or match[1].isspace()
    if not spaced or _SSN_CUE.search(_before(match)):
        return match.span()
    return None


_IPV4 = re.compile(r"\d(?<![\w.-]\d)\d{0,2}(?:\.\d{1,3}){3}(?!\w|[.-]\d)", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:](?<![\w:.][0-9A-Fa-f:])[0-9A-Fa-f:.]{1,44}(?![\w:])", re.ASCII)
_VERSION_CUE = re.compile(
    r"(?:version|release|build|section|chapter|clause|firmware|\bart\.|v)[ :=]*\Z"
)


def _ip_span(match: re.Match[str]) -> Span:
    """Leave addresses that are nobody's, and numbers of versions and chapters."""
    found = match.group().rstrip(".")
    if found.count(":") == 1 or _VERSION_CUE.search(_before(match)):
        return None
    try:
        address = ip_address(found)
    except ValueError:
        return None
    if found.endswith(".0.0.0"):  # a network's, or a browser's version
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    if isinstance(address, IPv6Address) and not any(c.isdigit() for c in found):
        return None  # `dead::beef`, and scopes in C++
    return match.start(), match.start() + len(found)


_PHONE = re.compile(
    rf"[+(\d](?<![\w.+/-][+(\d])\+?(?:[{_SPACES}()./{_DASHES}]{{0,2}}\d){{6,15}}(?!\w|[.:-]\d)",
    re.ASCII,
)
_SEPARATOR = f"[{_SPACES}.{_DASHES}]"
_COUNTRY_CODE = re.compile(rf"\(?(?:\+|00[1-9]\d{{0,2}}[{_SPACES}()./{_DASHES}])")
_NORTH_AMERICA = re.compile(
    rf"\(?(?:\+?1{_SEPARATOR}?)?\(?[2-9]\d\d\)?{_SEPARATOR}{{1,2}}[2-9]\d\d{_SEPARATOR}\d{{4}}"
)
_NATIONAL = re.compile(rf"\(?0[1-9]\d{{0,4}}\)?(?:[{_SPACES}./{_DASHES}]\d{{2,8}}){{1,4}}")
# An area's code and one long group, or a code in brackets: no other row of numbers looks so.
_AREA_AND_REST = re.compile(rf"\(.*|0[1-9]\d{{1,3}}[{_SPACES}/{_DASHES}]\d{{6,8}}")
_PHONE_CUE = re.compile(
    r"(?:\b(?:(?:tele|cell)?phone|my number|tele?|telefon|mobile?|handy|cell|call|whatsapp|fax|text"
    r"|sms|reach|dial|contact)\b(?:\W+number\b)?(?:\W+\w{1,4}){0,2}|电话|手机)\W*\Z"
)
_MORE_DIGITS = re.compile(rf"\d[{_SPACES},.]\Z")
_GROUP = re.compile(r"\d+")
_LONG_GROUP = 4
_PHONE_DIGITS = range(8, 16)
_NATIONAL_DIGITS = range(9, 13)
_BARE_DIGITS = range(10, 13)


def _phone_span(match: re.Match[str]) -> Span:
    """Take a phone number, without a bracket that was opened before it."""
    found = match.group()
    if not _is_phone(found, _before(match)):
        return None
    opened = found.startswith("(") and ")" not in found
    return match.start() + opened, match.end()


def _is_phone(found: str, before: str) -> bool:
    """Whether it has a country code or a known grouping; a bare number needs a cue before it."""
    count = len(_digits(found))
    if found.lstrip("(").startswith("+"):
        return count in _PHONE_DIGITS
    if _MORE_DIGITS.search(before) and not _AREA_AND_REST.fullmatch(found):
        return False
    if _COUNTRY_CODE.match(found):
        return count in _PHONE_DIGITS
    if _NORTH_AMERICA.fullmatch(found):
        return True
    if _NATIONAL.fullmatch(found) and count in _NATIONAL_DIGITS and not _is_row(found):
        return True
    return count in _BARE_DIGITS and _PHONE_CUE.search(before) is not None


def _is_row(found: str) -> bool:
    """Whether it looks like a row of numbers: groups of four digits only, or a sequence."""
    groups = _GROUP.findall(found)
    steps = {int(later) - int(group) for group, later in pairwise(groups)}
    long = {len(group) for group in groups} == {_LONG_GROUP}
    return long or (len(steps) == 1 and bool(groups[2:]))


PII = (
    Recogniser("email", ("@",), _EMAIL, _email_span),
    Recogniser("iban", (), _IBAN, _iban_span),
    Recogniser("card", (), _CARD, _card_span),
    Recogniser("ssn", (), _SSN, _ssn_span),
    Recogniser("ip", (":",), _IPV6, _ip_span),
    Recogniser("ip", (".",), _IPV4, _ip_span),
    Recogniser("phone", (), _PHONE, _phone_span),
)
