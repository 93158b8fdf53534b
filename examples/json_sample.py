"""The smallest value that fits a JSON schema, for structured output without a model."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def sample(schema: Json, text: str) -> Any:
    """Return a small value that fits the schema; its free strings are `text`.

    Knows what the SDKs' Pydantic models produce: objects, arrays, unions, enums, references and
    bounds of numbers. Patterns and formats of strings it does not look at.
    """
    return _sample(schema, text, schema)


def _sample(schema: Json, text: str, root: Json) -> Any:
    if "$ref" in schema:
        return _sample(_resolve(schema["$ref"], root), text, root)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if "enum" in schema:
        return schema["enum"][0]
    options: list[Json] = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or []
    if options:
        # Null first: it ends the recursion of a schema that contains itself.
        options = sorted(options, key=lambda option: option.get("type") != "null")
        return _sample(options[0], text, root)
    return _plain(schema, text, root)


def _plain(schema: Json, text: str, root: Json) -> Any:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind: str = kinds if isinstance(kinds, str) else _least(kinds)
    if kind == "object":
        properties: dict[str, Json] = schema.get("properties", {})
        return {name: _sample(inner, text, root) for name, inner in properties.items()}
    if kind == "array":
        return [_sample(schema["items"], text, root)] * schema.get("minItems", 0)
    if kind in {"integer", "number"}:
        return _number(schema)
    return {"string": text, "boolean": False, "null": None}[kind]


def _least(kinds: list[str]) -> str:
    return "null" if "null" in kinds else kinds[0]


def _number(schema: Json) -> float:
    lowest: float = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    highest: float = schema.get("maximum", lowest)
    return min(lowest, highest)


def _resolve(reference: str, root: Json) -> Json:
    found = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found[name] if name else found
    return found
