"""What a handler is told: checked once, when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from trubrics_instrument._call import Observer, observer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trubrics_instrument._identity import Source

Granularity: TypeAlias = Literal["turn", "call"]
Key: TypeAlias = "str | Callable[[Any], object] | None"


class Settings(NamedTuple):
    """What a handler was told."""

    observer: Observer = Observer()
    granularity: Granularity = "turn"
    input_key: Key = None
    output_key: Key = None


def settings_of(
    user_id: Source = None,
    *,
    thread_id: Source = None,
    assistant_id: str | None = None,
    properties: Mapping[str, object] | None = None,
    granularity: Granularity = "turn",
    input_key: Key = None,
    output_key: Key = None,
    api_key: str | None = None,
    host: str | None = None,
) -> Settings:
    """Return the settings, with the sender ready for the first question.

    Raises:
        ValueError: An unknown granularity, impossible properties, an impossible key, `api_key` or
            `host`.
    """
    if granularity not in {"turn", "call"}:
        raise ValueError(f"granularity={granularity!r} is unknown: use 'turn' or 'call'")
    _check_key("input_key", input_key)
    _check_key("output_key", output_key)
    observer = observer_of(user_id, thread_id, assistant_id, properties, api_key=api_key, host=host)
    return Settings(observer, granularity, input_key, output_key)


def _check_key(name: str, key: object) -> None:
    if key is not None and not isinstance(key, str) and not callable(key):
        raise ValueError(f"{name} must be a str or a callable, not {type(key).__name__}")
