"""The configuration: one frozen value, read from the environment and from `configure()`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from trubrics_instrument._base.checks import CHECKS
from trubrics_instrument._base.hosts import TRUBRICS_HOST, is_loopback

if TYPE_CHECKING:
    import re

    import requests


Capture: TypeAlias = Literal["full", "metadata"]
Spool: TypeAlias = Literal["auto", "always", "strict", "off"]
_Redactor: TypeAlias = "str | re.Pattern[str] | Mapping[str, str] | Callable[[str], str]"
Redact: TypeAlias = "_Redactor | Sequence[_Redactor] | None"
BeforeSend: TypeAlias = Callable[[dict[str, Any]], "dict[str, Any] | None"]
Prices: TypeAlias = (
    "Mapping[str, Sequence[float]] | Callable[[Mapping[str, object]], float | None] | None"
)
OnDrop: TypeAlias = Callable[[list[dict[str, Any]], str], None]


class Destination(NamedTuple):
    """Where events go: a host ("" is the configured one), and the key for that host only."""

    host: str
    api_key: str | None

    def __repr__(self) -> str:
        """Leave the key out: error reports hold the values of local variables."""
        return f"Destination(host={self.host!r})"


@dataclass(frozen=True)
class Config:
    """Everything that can be configured; see `trubrics_instrument.configure`."""

    api_key: str | None = field(default=None, repr=False)
    host: str | None = None
    enabled: bool = True
    user_id: str | None = None
    environment: str | None = None
    properties: Mapping[str, object] | None = None
    capture: Capture = "full"
    redact: Redact = "secrets"
    before_send: BeforeSend | None = None
    prices: Prices = None
    sample_rate: float = 1.0
    max_text_chars: int = 20_000
    event_names: Mapping[str, str | None] | None = None
    flush_interval_s: float = 0.1
    max_batch: int = 100
    spool: Spool = "auto"
    spool_dir: str | None = None
    on_drop: OnDrop | None = None
    session: requests.Session | None = None

    def destination(self, *, api_key: str | None, host: str | None) -> Destination | None:
        """Return where an observer's events go, or None if nobody said where.

        The configured key goes to the configured host only: an observer that names another host
        brings its own key, or is served by a loopback host, which needs none.
        """
        own_host = self.host or TRUBRICS_HOST
        target = (host or own_host).rstrip("/")
        key = api_key or (self.api_key if target == own_host else None)
        if key is None and not is_loopback(target):
            return None
        return Destination(target, key)


def _variable(name: str) -> str:
    return f"TRUBRICS_{name.upper()}"


_FROM_ENVIRONMENT = (
    "api_key",
    "host",
    "enabled",
    "user_id",
    "environment",
    "capture",
    "redact",
    "sample_rate",
    "max_text_chars",
    "spool",
    "spool_dir",
)
OPTIONS = frozenset(field.name for field in fields(Config))
VARIABLES = frozenset(map(_variable, _FROM_ENVIRONMENT))
# Those that have a name; patterns and callables cannot be said in the environment.
REDACTORS = ("secrets", "pii")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def build(environ: Mapping[str, str], given: Mapping[str, object]) -> Config:
    """Return the configuration: what is given, else the environment's, else the default.

    `TRUBRICS_ENABLED=0` wins over everything: whoever runs the app can switch us off.

    Raises:
        ValueError: An impossible value; the message names it and says what is allowed.
    """
    from_environment = {
        name: _parsed(name, text, _variable(name))
        for name in _FROM_ENVIRONMENT
        if (text := environ.get(_variable(name), "").strip())
    }
    values = {**from_environment, **given}
    if isinstance(values.get("spool_dir"), os.PathLike):
        values["spool_dir"] = os.fspath(cast("os.PathLike[str]", values["spool_dir"]))
    for name, value in values.items():
        check = CHECKS.get(name)
        if check is not None:
            check(name if name in given else _variable(name), value)
    config = Config(**values)  # type: ignore[arg-type] # checked just above
    if from_environment.get("enabled") is False:
        return replace(config, enabled=False)
    return replace(config, host=config.host.rstrip("/") if config.host else None)


def _parsed(name: str, text: str, variable: str) -> object:
    """Return the value of an environment variable, in the option's own type."""
    if name == "enabled":
        return _parsed_bool(text, variable)
    if name in {"capture", "spool"}:
        return text.lower()
    if name == "redact":
        return _parsed_redact(text, variable)
    number = {"sample_rate": float, "max_text_chars": int}.get(name)
    if number is None:
        return text
    try:
        return number(text)
    except ValueError:
        raise ValueError(f"{variable}={text!r} is no number") from None


def _parsed_redact(text: str, variable: str) -> str | None:
    name = text.lower()
    if name in _FALSE | {"none"}:
        return None
    if name not in REDACTORS:
        allowed = ", ".join((*REDACTORS, "none"))
        raise ValueError(f"{variable}={text!r} is unknown: use one of {allowed}")
    return name


def _parsed_bool(text: str, variable: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{variable}={text!r} is neither yes nor no: use 1 or 0")
