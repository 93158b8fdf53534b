"""Reads requests for chat completions and responses into one `Question`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rules import Message, Question

if TYPE_CHECKING:
    from openai_wire import Answer, Json

_ROLES: dict[str, str] = {"developer": "system", "function": "tool"}


def read_chat(body: Json) -> Question:
    """Read the body of POST /chat/completions.

    Raises:
        KeyError, TypeError, AttributeError: The body is not what the API takes.
    """
    form = or_empty(body.get("response_format"))
    tools = {
        tool["function"]["name"]: or_empty(tool["function"].get("parameters"))
        for tool in _objects(body.get("tools"))
        if tool["type"] == "function"
    }
    return Question(
        messages=tuple(_chat_message(message) for message in body["messages"]),
        tools={} if body.get("tool_choice") == "none" else tools,
        forced_tool=_forced_tool(body.get("tool_choice"), tools),
        schema=_schema(form, or_empty(form.get("json_schema"))),
        max_words=body.get("max_completion_tokens") or body.get("max_tokens"),
        choices=body.get("n") or 1,
    )


def read_response(body: Json, before: tuple[Message, ...]) -> Question:
    """Read the body of POST /responses, which continues the conversation `before`.

    Raises:
        KeyError, TypeError, AttributeError: The body is not what the API takes.
    """
    form = or_empty(or_empty(body.get("text")).get("format"))
    tools = {
        tool["name"]: or_empty(tool.get("parameters"))
        for tool in _objects(body.get("tools"))
        if tool["type"] == "function"
    }
    # Instructions hold for one request only: the next one sees the conversation without them.
    instructions = body.get("instructions")
    system = (Message("system", _text(instructions)),) if instructions else ()
    return Question(
        messages=(*system, *before, *read_items(body["input"])),
        tools={} if body.get("tool_choice") == "none" else tools,
        forced_tool=_forced_tool(body.get("tool_choice"), tools),
        schema=_schema(form, form),
        max_words=body.get("max_output_tokens"),
    )


def or_empty(value: Any) -> Json:
    """Return an object that a request may leave out, or give as null."""
    found: Json = value or {}
    return found


def read_items(items: str | list[Json]) -> tuple[Message, ...]:
    """Read the `input` of a request for a response."""
    if isinstance(items, str):
        return (Message("user", items),)
    read = (_item(item) for item in items)
    return tuple(message for message in read if message is not None)


def as_messages(answer: Answer) -> tuple[Message, ...]:
    """Return what an answer adds to its conversation."""
    calls = (Message("assistant", call.arguments) for call in answer.tool_calls)
    text = answer.text or answer.refusal
    return (*((Message("assistant", text),) if text else ()), *calls)


def _chat_message(message: Json) -> Message:
    role: str = message["role"]
    calls = [call["function"]["arguments"] for call in _objects(message.get("tool_calls"))]
    text = _text(message.get("content") or message.get("refusal"))
    return Message(_ROLES.get(role, role), " ".join([text, *calls]).strip())


def _item(item: Json) -> Message | None:
    kind = item.get("type", "message")
    if kind == "message":
        role: str = item["role"]
        return Message(_ROLES.get(role, role), _text(item["content"]))
    if kind == "function_call":
        return Message("assistant", item["arguments"])
    if kind == "function_call_output":
        return Message("tool", _text(item["output"]))
    return None


def _text(content: Any) -> str:
    """Return the text of a content: a str, parts, or nothing; images and files have none."""
    if content is None or isinstance(content, str):
        return content or ""
    parts: list[Json] = list(content)
    return " ".join(_text(part.get("text") or part.get("refusal")) for part in parts).strip()


def _objects(value: Any) -> list[Json]:
    found: list[Json] = value or []
    return found


def _forced_tool(choice: Any, tools: dict[str, Json]) -> str | None:
    if choice == "required":
        return next(iter(tools), None)
    if not choice or isinstance(choice, str):
        return None
    name: Any = choice["name"] if "name" in choice else or_empty(choice.get("function")).get("name")
    return name if name in tools else None


def _schema(form: Json, holder: Json) -> Json | None:
    if form.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return holder["schema"] if form.get("type") == "json_schema" else None
