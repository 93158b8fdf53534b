"""What `redact=` may be, turned into functions from text to text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from trubrics_instrument._base.checks import check_source
from trubrics_instrument._privacy.pii_kinds import PII
from trubrics_instrument._privacy.runs import keys_that_may_be_in, long_runs
from trubrics_instrument._privacy.secret_kinds import ASSIGNED, BEARERS, FRAMED

if TYPE_CHECKING:
    from trubrics_instrument._config import Redact
    from trubrics_instrument._privacy.recogniser import Recogniser

Redactor: TypeAlias = Callable[[str], str]

ALLOWED = (
    '"secrets", "pii" (both), None, a callable of a str, a compiled pattern, '
    'a dict such as {"EMPLOYEE": r"E\\d{6}"}, or a list of these'
)


def redact_secrets(text: str) -> str:
    """Return the text with keys, tokens, private keys and passwords replaced by tags."""
    # Few texts hold a run as long as a key or a token, and then it is short beside the text:
    # looking for eighty prefixes there costs a tenth of looking for them in the text.
    runs = long_runs(text)
    if runs is None:
        return _redact_all(_WITHOUT_RUNS, text)
    text = _redact_all(keys_that_may_be_in(runs.keys), text)
    text = _redact_all(FRAMED, text)
    text = _redact_all([one for one in BEARERS if one.gates[0] in runs.before], text)
    return _redact_all(ASSIGNED, text)


def redact_pii(text: str) -> str:
    """Return the text with e-mail, IBAN, card, SSN, IP and phone numbers replaced by tags."""
    return _redact_all(PII, text)


def redactors_from(redact: Redact) -> tuple[Redactor, ...]:
    """Return the redactors that an option names, in the order in which they run.

    Raises:
        ValueError: An unknown redactor, or a pattern that does not compile.
    """
    if redact is None:
        return ()
    if isinstance(redact, (list, tuple)):
        found = [one for rule in cast("Sequence[object]", redact) for one in _from_rule(rule)]
        return tuple(dict.fromkeys(found))
    return tuple(_from_rule(redact))


def _from_rule(rule: object) -> list[Redactor]:
    if isinstance(rule, str):
        known = _NAMED.get(rule)
        if known is None:
            raise ValueError(f"redact={rule!r} is unknown: use {ALLOWED}")
        return list(known)
    if isinstance(rule, re.Pattern):
        pattern = cast("re.Pattern[str]", rule)
        return [_replacing(_compiled(pattern, pattern), "[REDACTED]")]
    if isinstance(rule, Mapping):
        return [
            _replacing(_compiled(tag, expression), f"[{tag}]")
            for tag, expression in cast("Mapping[object, object]", rule).items()
        ]
    if callable(rule):
        check_source("redact", rule)
        return [cast("Redactor", rule)]
    raise ValueError(f"redact={rule!r} is unknown: use {ALLOWED}")


def _compiled(tag: object, pattern: object) -> re.Pattern[str]:
    try:
        compiled = re.compile(cast("str", pattern))
        compiled.search("")  # a pattern of bytes fails here
    except (re.error, TypeError) as error:
        raise ValueError(f"redact: the pattern of {tag!r} does not compile: {error}") from error
    return compiled


def _replacing(pattern: re.Pattern[str], tag: str) -> Redactor:
    return lambda text: pattern.sub(lambda _: tag, text)


def _redact_all(recognisers: Iterable[Recogniser], text: str) -> str:
    for recogniser in recognisers:
        for gate in recogniser.gates:
            # From the end, which takes prose half to a quarter of the time that `in` takes.
            if text.rfind(gate) < 0:
                break
        else:
            text = recogniser.redact(text)
    return text


_WITHOUT_RUNS = (*FRAMED, *ASSIGNED)
_NAMED: dict[str, tuple[Redactor, ...]] = {
    "secrets": (redact_secrets,),
    "pii": (redact_secrets, redact_pii),
}
