"""The configuration: one frozen value, read from the environment and from `configure()`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from trubrics_instrument._base.hosts import TRUBRICS_HOST, is_address, is_loopback

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


def build(environ: Mapping[str, str], given: Mapping[str, object]) -> Config:
    """Return the configuration: what is given, else the environment's, else the default.

    `TRUBRICS_ENABLED=0` wins over everything: whoever runs the app can switch us off.

    Raises:
        ValueError: An impossible value; the message names it and says what is allowed.
    """
    from_environment = {
        name: _parsed(name, text, f"TRUBRICS_{name.upper()}")
        for name in _FROM_ENVIRONMENT
        if (text := environ.get(f"TRUBRICS_{name.upper()}", "").strip())
    }
    values = {**from_environment, **given}
    if isinstance(values.get("spool_dir"), os.PathLike):
        values["spool_dir"] = os.fspath(cast("os.PathLike[str]", values["spool_dir"]))
    for name, value in values.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(name if name in given else f"TRUBRICS_{name.upper()}", value)
    config = Config(**values)  # type: ignore[arg-type] # checked just above
    if from_environment.get("enabled") is False:
        return replaced(config, enabled=False)
    return replaced(config, host=config.host.rstrip("/") if config.host else None)


def check_destination(*, api_key: str | None, host: str | None) -> None:
    """Raise ValueError if an observer's own `api_key` or `host` is impossible."""
    _check_key("api_key", api_key)
    _check_host("host", host)


def check_properties(properties: object) -> None:
    """Raise ValueError if an observer's own properties are impossible."""
    _check_mapping("properties", properties)


def check_source(name: str, source: object) -> None:
    """Raise ValueError if a source is a callable whose answer would have to be awaited."""
    if inspect.iscoroutinefunction(source):
        raise ValueError(f"{name} must be a plain function: an async one cannot be awaited there")


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
VARIABLES = frozenset(f"TRUBRICS_{name.upper()}" for name in _FROM_ENVIRONMENT)
# Those that have a name; patterns and callables cannot be said in the environment.
REDACTORS = ("secrets", "pii")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_KEY_CHARS = 16


def replaced(config: Config, **changes: Any) -> Config:
    """Return a configuration with some values changed."""
    return Config(**{field.name: getattr(config, field.name) for field in fields(config)} | changes)


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


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a str, not {type(value).__name__}")  # noqa: TRY004 - one kind of error for one kind of mistake
    if not value.strip():
        raise ValueError(f"{name} is empty: give a value, or leave it out")


def _check_key(name: str, value: object) -> None:
    _check_text(name, value)
    if "://" in str(value):
        raise ValueError(f"{name} is a URL: give that as the host, and the key here")
    if value is not None and not all("!" <= character <= "~" for character in str(value)):
        raise ValueError(
            f"{name} has a space, a line break or another sign that no header can carry: "
            "give the key alone"
        )


def _check_host(name: str, value: object) -> None:
    _check_text(name, value)
    if value is None:
        return
    if "@" in str(value):  # which may follow a password, so the value is not shown
        raise ValueError(f"{name} names a user: the key is given as api_key, not in the URL")
    if not is_address(str(value)):
        # One long word may be a key in the wrong place, and keys are never shown.
        may_be_key = len(str(value)) >= _KEY_CHARS and not any(sign in str(value) for sign in ".:/")
        shown = "" if may_be_key else f"={value!r}"
        raise ValueError(f"{name}{shown} is no http(s) URL, such as {TRUBRICS_HOST!r}")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be True or False")  # noqa: TRY004 - as above


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be callable, not {type(value).__name__}")
    check_source(name, value)


def _check_mapping(name: str, value: object) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dict, not {type(value).__name__}")


def _check_session(name: str, value: object) -> None:
    if value is not None and not callable(getattr(value, "send", None)):
        raise ValueError(f"{name} must be a requests.Session, not {type(value).__name__}")


def _one_of(*allowed: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}")

    return check


def _between(low: float, high: float, kind: type[float]) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        right_kind = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not right_kind or not low <= float(value) <= high:  # type: ignore[arg-type] # a number
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name}={value!r} must be {what} from {low} to {high}")

    return check


def _check_event_names(name: str, value: object) -> None:
    _check_mapping(name, value)
    for event, new_name in cast("Mapping[object, object]", value or {}).items():
        if new_name is None and event in {"Prompt", "Generation"}:
            raise ValueError(f"{name}: {event!r} can be renamed, but not switched off")
        if new_name is not None and not (isinstance(new_name, str) and new_name):
            raise ValueError(f"{name}: the name of {event!r} must be a str, or None for off")


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "api_key": _check_key,
    "host": _check_host,
    "enabled": _check_bool,
    "environment": _check_text,
    "properties": _check_mapping,
    "capture": _one_of("full", "metadata"),
    "before_send": _check_callable,
    "sample_rate": _between(0, 1, float),
    "max_text_chars": _between(1, 10_000_000, int),
    "event_names": _check_event_names,
    "flush_interval_s": _between(0, 60, float),
    "max_batch": _between(1, 100, int),
    "spool": _one_of("auto", "always", "strict", "off"),
    "spool_dir": _check_text,
    "on_drop": _check_callable,
    "session": _check_session,
}
