"""Fields of the SDK's objects, and of the same things as plain JSON: the border of `Any`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from trubrics_instrument._base.counts import count_in, counted
from trubrics_instrument._base.ids import MAX_ID_CHARS, clean_id
from trubrics_instrument._context.identity import Claim, claimed_by_keys
from trubrics_instrument._observing.names import mark_of
from trubrics_instrument._observing.reader import Answer, Usage

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from trubrics_instrument._observing.reader import Status

# What a part of a message is, by its `type`; whatever is no text is counted, never read.
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_ATTACHMENTS = {
    "image_url": "image",
    "input_image": "image",
    "output_image": "image",
    "image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "file": "file",
    "input_file": "file",
    "video_url": "video",
}

# Where a picture, a sound or a file is, or what it is called.
_SHOWN_FIELDS = (
    *("image_url", "video_url", "url", "input_audio", "audio", "id", "data"),
    *("file", "file_id", "file_url", "file_data", "filename"),
)

CUT_SHORT = frozenset({"length", "content_filter"})  # why an answer ends that is not whole
_NO_FIELDS: Mapping[str, Any] = {}


class Fields(Protocol):
    """What has fields; one that is not there is None."""

    def get(self, name: str, /) -> Any:
        """Return a field."""
        ...


class _Attributes:
    """The fields of an object that is neither a dict nor one of the SDK's."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def get(self, name: str, /) -> Any:
        return getattr(self._value, name, None)


def fields_of(value: Any) -> Fields:
    """Return the fields of an SDK object, or of the same thing as a dict.

    To ask the SDK's objects for what they have not is slow, so this looks where they keep what
    they have: their own fields, and those that a host has added.
    """
    if value is None:
        return _NO_FIELDS
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    extra: Any = getattr(value, "__pydantic_extra__", _NO_FIELDS)
    if extra is _NO_FIELDS:
        known = isinstance(value, Mapping)
        return cast("Mapping[str, Any]", value) if known else _Attributes(value)
    own: dict[str, Any] = value.__dict__
    return {**extra, **own} if extra else own


def get(value: Any, name: str) -> Any:
    """Return one field of an SDK object, or of the same thing as a dict."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).get(name)
    # For each piece of a stream: nothing is put together to look at one field.
    own = getattr(value, "__dict__", _NO_FIELDS)
    found = own.get(name, own)
    return found if found is not own else fields_of(value).get(name)


def get_text(value: Any, name: str) -> str | None:
    """Return a field that is a str and says something: what it is may not even be hashable."""
    return text_or_none(get(value, name))


def says_more(value: Any, *, than: str) -> bool:
    """Whether an object, or the same as a dict, says anything besides this field."""
    if not isinstance(value, dict):
        own = getattr(value, "__dict__", _NO_FIELDS)
        value = {**own, **(getattr(value, "__pydantic_extra__", None) or _NO_FIELDS)}
    fields = cast("dict[str, Any]", value)
    return any(said for name, said in fields.items() if name != than)


def get_index(value: Any) -> int | None:
    """Return the `index` of a choice or a tool call; a str has a method of that name."""
    return count_in(get(value, "index"))


def each(value: Any) -> list[Any]:
    """Return the items of a list, and none of anything else."""
    return list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else []


def text_or_none(value: Any) -> str | None:
    """Return a str that says something; of a kind of str (an Enum), what it is sent as."""
    if type(value) is str:
        return value or None
    return str.__str__(value) or None if isinstance(value, str) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a dict, or an empty one instead of anything else."""
    # Most requests have none, and to ask `Mapping` about None is slow.
    if value is None:
        return _NO_FIELDS
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else _NO_FIELDS


def json_or_none(content: str | bytes | bytearray) -> Any:
    """Return a body, or None if it is no JSON: a fault of the host, and not of ours."""
    try:
        return json.loads(content)
    except (TypeError, ValueError):  # a client of the app's own may have anything for a body
        return None


def content_text(content: Any) -> str | None:
    """Return the text of a message's content: a str, or a list of parts."""
    if isinstance(content, str):
        return content or None
    texts = [part if isinstance(part, str) else _part_text(part) for part in each(content)]
    return "\n".join(text for text in texts if text) or None


def attachments(parts: Sequence[Any]) -> str | None:
    """Return what a list of parts holds besides text, such as "image:2,file:1"."""
    if not parts:
        return None
    kinds = (_ATTACHMENTS.get(get_text(part, "type") or "") for part in parts)
    return counted(kinds)


def shown(parts: Sequence[Any]) -> tuple[Hashable, ...]:
    """Return what tells the pictures and files in a list of parts from others."""
    if not parts:
        return ()
    attached = [part for part in parts if get_text(part, "type") in _ATTACHMENTS]
    inside = [get(part, name) for part in attached for name in _SHOWN_FIELDS]
    return tuple([one for part in (*attached, *inside) for one in _marks_of(part)])


def _marks_of(part: Any) -> Iterator[Hashable]:
    for name in _SHOWN_FIELDS if part is not None else ():
        value = get(part, name)
        if isinstance(value, str):
            yield mark_of(name, value)


def usage(value: Any) -> Usage:
    """Return the tokens of a `usage`, in the words of either API."""
    said = fields_of(value).get
    inputs = said("input_tokens_details") or said("prompt_tokens_details")
    outputs = said("output_tokens_details") or said("completion_tokens_details")
    return Usage(
        count_in(said("input_tokens"), said("prompt_tokens")),
        count_in(said("output_tokens"), said("completion_tokens")),
        count_in(said("total_tokens")),
        count_in(get(inputs, "cached_tokens")) if inputs else None,
        count_in(get(outputs, "reasoning_tokens")) if outputs else None,
    )


def no_answer(body: Any) -> Answer:
    """Return what a body without choices says: a failure, or nothing that can be read.

    Source: Azure's content filter and OpenRouter's upstream failures (whose codes are ints) come
    with status 200. The message of an error may quote the prompt, its code does not.
    """
    error = get(body, "error")
    if not error:
        return Answer(id=text_or_none(get(body, "id")), status="unread")
    return Answer(status="error", error_type=error_code(error))


def error_code(error: Any) -> str:
    """Return what names an error: never its message, which may quote the prompt."""
    code = get(error, "code") or get(error, "type")
    return str(code)[:MAX_ID_CHARS] if isinstance(code, (str, int)) else "error"


def stream_status(finish_reasons: list[str | None], *, ended: bool) -> Status:
    """Return how a stream's choices came out; one that ended without any was no answer."""
    if ended:
        return "ok" if finish_reasons else "unread"
    return "ok" if finish_reasons and all(finish_reasons) else "incomplete"


def claim(request: Fields, thread_id: object = None) -> Claim:
    """Return who asks, and where, in the fields that a request has for it."""
    known = claimed_by_keys(mapping(request.get("metadata")))
    user_id = known.user_id or clean_id(request.get("safety_identifier"))
    user_id = user_id or clean_id(request.get("user"))
    return Claim(user_id, known.thread_id or clean_id(thread_id))


def _part_text(part: Any) -> str | None:
    return text_or_none(get(part, "text")) if get_text(part, "type") in _TEXT_PARTS else None
