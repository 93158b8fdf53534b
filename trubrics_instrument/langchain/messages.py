"""What a message says, whichever class of whichever version it is: the border of `Any`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from trubrics_instrument._base.counts import counted
from trubrics_instrument._observing.names import mark_of
from trubrics_instrument._observing.reader import ToolUse

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

Role: TypeAlias = Literal["human", "ai", "tool", "notice", "other"]

_ROLES: dict[str, Role] = {
    "human": "human",
    "user": "human",
    "humanmessagechunk": "human",
    "ai": "ai",
    "assistant": "ai",
    "aimessagechunk": "ai",
    "tool": "tool",
    "toolmessagechunk": "tool",
    "function": "tool",
    "functionmessagechunk": "tool",
}
_PAIR_ROLES = frozenset({*_ROLES, "system", "developer", "remove"})
_NOTHING: dict[str, Any] = {}
_TEXT_PARTS = frozenset({None, "text", "input_text", "output_text"})
_ATTACHMENTS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "file": "file",
    "input_file": "file",
    "document": "file",
    "media": "file",
    "text-plain": "file",
    "image_generation_call": "image",
}
_MADE_HERE = "lc_"
_SERVER_TOOLS = frozenset({"server_tool_call", "server_tool_use", "mcp_tool_use"})
# LangChain's name for what OpenAI does before it calls a tool.
_LISTS_TOOLS = "mcp_list_tools"
# LangChain's names for the app's own, which end like those of what OpenAI runs.
_OWN_TOOLS = frozenset({"tool_call", "invalid_tool_call"})


def field(value: Any, name: str) -> Any:
    """Return a field of an object, or of the same thing as a dict; None if it is not there."""
    if isinstance(value, dict):  # a Mapping of another kind takes ten times as long to recognise
        return cast("dict[str, Any]", value).get(name)
    return getattr(value, name, None)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a dict, or an empty one instead of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else _NOTHING


def each(value: Any) -> Sequence[Any]:
    """Return a list or tuple as it is, and nothing instead of anything else."""
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else ()


def first_text(values: Iterable[Any]) -> str | None:
    """Return the first value that is a str and says something."""
    for value in values:
        if isinstance(value, str) and value:
            return value
    return None


def role(message: Any) -> Role | None:
    """Return who speaks in a message, a `(role, content)` pair or a dict; None if it is none.

    A notice looks like a human's, and was typed by nobody.
    """
    if isinstance(message, (tuple, list)):
        return _role_of_pair(each(message))
    if isinstance(message, dict):
        return _role_in(cast("dict[str, Any]", message))
    kind = getattr(message, "type", None)
    if not isinstance(kind, str) or not hasattr(message, "content"):
        return None
    if kind == "human":
        return "notice" if _is_notice(message) else "human"
    if kind in _ROLES:
        return _ROLES[kind]
    if kind in {"chat", "ChatMessageChunk"}:
        kind = getattr(message, "role", None)
    return _role(kind)


def content(message: Any) -> Any:
    """Return the content of whatever `role` knows."""
    if isinstance(message, (tuple, list)):
        return each(message)[1]
    return field(message, "content")


def text_in(parts: Any, separator: str = "") -> str | None:
    """Return the text of a content: a str (copied free of its subclass), or a list of parts."""
    if isinstance(parts, str):
        return str.__str__(parts) or None
    texts = (part if isinstance(part, str) else _part_text(part) for part in each(parts))
    return separator.join(text for text in texts if text) or None


def said(message: Any) -> str | None:
    """Return what a person, or a tool, says in a message."""
    return text_in(content(message), "\n")


def answered(message: Any) -> str | None:
    """Return what a model says in a message: its text, never its reasoning, else its refusal.

    What it says on the way to an answer, or before it calls tools, is none of it.
    """
    parts, text = content(message), all_said(message)
    if text and not isinstance(parts, str):
        final = text_in([part for part in each(parts) if not _is_commentary(part)])
        text = final or (None if field(message, "tool_calls") else text)
    return text or _refusal(message)


def all_said(message: Any) -> str | None:
    """Return all that a model says in a message, as its `text` has it, which apps keep."""
    return text_in(content(message))


def tool_uses(message: Any) -> tuple[ToolUse, ...]:
    """Return the tools that a model calls in a message."""
    calls = each(field(message, "tool_calls"))
    if not calls:
        return ()
    found: list[ToolUse] = []
    for call in calls:
        called = mapping(field(call, "function")) or call
        name = first_text([field(called, "name")])
        if name:
            found.append(ToolUse(name, first_text([field(call, "id")])))
    return tuple(found)


def hosted_tools(message: Any) -> tuple[ToolUse, ...]:
    """Return the tools that the provider itself has run for an answer.

    Source: langchain-openai 0.3 to 1.7 (`responses/v1`, and `tool_outputs` in `v0`),
    langchain-anthropic 1.0 to 1.7, and the `content_blocks` of langchain-core 1.0 to 1.8.
    """
    parts = each(content(message))
    outputs = each(mapping(field(message, "additional_kwargs")).get("tool_outputs"))
    found = (_hosted(part) for part in (*parts, *outputs)) if parts or outputs else ()
    return tuple([use for use in found if use])


def attachments(message: Any) -> str | None:
    """Return what a message holds besides text, such as "image:2,file:1"."""
    parts = each(content(message))
    if not parts:
        return None
    shown = (part for part in parts if field(part, "status") != "failed")
    kinds = (_ATTACHMENTS.get(field(part, "type")) for part in shown)
    return counted(kinds)


def shown(message: Any) -> tuple[Hashable, ...]:
    """Return what tells the pictures and files in a message from others."""
    parts = (part for part in each(content(message)) if field(part, "type") in _ATTACHMENTS)
    return tuple([mark for part in parts for mark in _marks_of(mapping(part))])


def _marks_of(part: Mapping[str, Any]) -> Iterator[Hashable]:
    for name, value in part.items():
        if isinstance(value, str):
            # LangChain gives each block an id, anew wherever it is made.
            if not value.startswith(_MADE_HERE):
                yield mark_of(name, value)
        elif isinstance(value, dict):
            yield from _marks_of(mapping(value))


def own_text(value: Any) -> str | None:
    """Return a str free of its subclass; a langchain-core 1.x one would warn when touched."""
    return str.__str__(value) if isinstance(value, str) else None


def messages_in(given: Any) -> Sequence[Any]:
    """Return a list of messages, or a prompt value's; nothing if it is something else."""
    if hasattr(given, "to_messages") and hasattr(given, "to_string"):
        return each(given.to_messages())
    items = each(given)
    if role(given) is not None or not items or role(items[-1]) is None:
        return ()
    return items


def fields_in(given: Any) -> Mapping[str, Any]:
    """Return the fields of a dict, a dataclass or a pydantic object."""
    if isinstance(given, dict):
        return cast("dict[str, Any]", given)
    if dataclasses.is_dataclass(given):  # LangGraph's own have slots, and no `__dict__`
        return {one.name: getattr(given, one.name, None) for one in dataclasses.fields(given)}
    kind = type(cast("object", given))
    if hasattr(kind, "model_fields_set"):  # an object of the app's may answer to any name
        return cast("Mapping[str, Any]", vars(given))
    return {}


def by_key(given: Any, key: str | Callable[[Any], object]) -> Any:
    """Return what the app says is in an input or an output."""
    return key(given) if callable(key) else field(given, key)


def _is_notice(message: Any) -> bool:
    """Whether an agent's harness has added it: a summary, or word of a task in the background.

    Source: langchain-core 1.8, `add_notification_metadata`; langchain 1.0 to 1.5, summaries.
    """
    return bool(mapping(getattr(message, "additional_kwargs", None)).get("lc_source"))


def _role_in(message: Mapping[str, Any]) -> Role | None:
    """Return who speaks in a dict; one of the app's own may have a content, and even a type."""
    if "content" not in message:
        return None
    if "role" in message:
        return _role(message["role"])
    kind = message.get("type")
    return _role(kind) if isinstance(kind, str) and kind in {*_ROLES, "system"} else None


def _role_of_pair(pair: Sequence[Any]) -> Role | None:
    """Return who speaks in a pair; an answer with its sources, or a title with its text, is none.

    Source: langchain-core 0.3.10 to 1.8.3, `convert_to_messages`, which takes no other names.
    """
    if len(pair) != len(("role", "content")) or not isinstance(pair[0], str):
        return None
    name = pair[0].lower()
    return _role(name) if name in _PAIR_ROLES else None


def _role(name: Any) -> Role:
    return _ROLES.get(str(name).lower(), "other")


def _part_text(part: Any) -> str | None:
    return first_text([field(part, "text")]) if field(part, "type") in _TEXT_PARTS else None


def _is_commentary(part: Any) -> bool:
    """Whether a part is said on the way. Source: langchain-openai 1.7, `content` and its blocks."""
    return "commentary" in (field(part, "phase"), mapping(field(part, "extras")).get("phase"))


def _hosted(part: Any) -> ToolUse | None:
    kind = field(part, "type")
    if not isinstance(kind, str):
        return None
    if kind in _SERVER_TOOLS:
        # LangChain calls each tool of an MCP server alike.
        names = (mapping(field(part, "extras")).get("tool_name"), field(part, "name"))
        name = first_text(names) or kind
        use = ToolUse(name, first_text([field(part, "id")]), hosted=True)
        return None if name == _LISTS_TOOLS else use
    if not kind.endswith("_call") or kind in _OWN_TOOLS or field(part, "call_id"):
        return None
    return ToolUse(first_text([field(part, "name")]) or kind.removesuffix("_call"), hosted=True)


def _refusal(message: Any) -> str | None:
    blocks = (field(part, "refusal") for part in each(content(message)))
    return first_text([*blocks, mapping(field(message, "additional_kwargs")).get("refusal")])
