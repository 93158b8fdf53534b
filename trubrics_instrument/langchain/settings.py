"""What a handler is told: checked once, when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from trubrics_instrument._base.checks import check_source
from trubrics_instrument._observing.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable

Granularity: TypeAlias = Literal["turn", "call"]
Key: TypeAlias = "str | Callable[[Any], object] | None"


class Settings(NamedTuple):
    """What a handler was told."""

    observer: Observer = Observer()
    granularity: Granularity = "turn"
    input_key: Key = None
    output_key: Key = None


def settings_of(
    observer: Observer, granularity: Granularity, input_key: Key, output_key: Key
) -> Settings:
    """Return the settings.

    Raises:
        ValueError: An unknown granularity, or an impossible key.
    """
    if granularity not in {"turn", "call"}:
        raise ValueError(f"granularity={granularity!r} is unknown: use 'turn' or 'call'")
    _check_key("input_key", input_key)
    _check_key("output_key", output_key)
    return Settings(observer, granularity, input_key, output_key)


def _check_key(name: str, key: object) -> None:
    check_source(name, key)
    if key is not None and not isinstance(key, str) and not callable(key):
        raise ValueError(f"{name} must be a str or a callable, not {type(key).__name__}")
