"""What a value that is given at set-up may be: a mistake gets an error that says what to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import cast

from trubrics_instrument._base.hosts import TRUBRICS_HOST, is_address

_KEY_CHARS = 16


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


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a str, not {type(value).__name__}")  # noqa: TRY004 - one kind of error for one kind of mistake
    if not value.strip():
        raise ValueError(f"{name} is empty: give a value, or leave it out")


def _check_user(name: str, value: object) -> None:
    if callable(value):
        raise ValueError(  # noqa: TRY004 - as below
            f"{name} must be an id, not a function: an observer asks one each time, "
            "patch_openai(user_id=...) or TrubricsCallbackHandler(user_id=...)"
        )


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
    if value is not None and not (hasattr(value, "adapters") and hasattr(value, "send")):
        what = "a class" if isinstance(value, type) else type(value).__name__
        raise ValueError(f"{name} must be a requests.Session, not {what}")


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


CHECKS: dict[str, Callable[[str, object], None]] = {
    "api_key": _check_key,
    "host": _check_host,
    "enabled": _check_bool,
    "environment": _check_text,
    "user_id": _check_user,
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
