"""What OpenAI's Responses API sends back: an `Answer` as a whole body or as events.

Source: OpenAI API reference, and the types of the Python SDK, openai 1.66 to 3.54.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai_wire import Answer, Json, Usage, as_answer, finish_reason, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator


def response_object(answer: Answer | str, **fields: Any) -> Json:
    """Return the whole body of POST /responses, with `fields` set over the usual ones.

    A `status` of "queued", "in_progress" or "failed" takes the output and the usage away.
    """
    answer = as_answer(answer)
    cut_short = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(
        finish_reason(answer)
    )
    body: Json = {
        "id": answer.id or "resp_1",
        "object": "response",
        "created_at": answer.created_s,
        "status": "incomplete" if cut_short else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": cut_short} if cut_short else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": answer.model,
        "output": _output_items(answer),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _response_usage(answer.usage) if answer.usage else None,
        "user": None,
        "metadata": {},
    }
    body |= fields
    if body["status"] in {"queued", "in_progress", "failed"}:
        body |= {"output": [], "usage": None}
    return body


def response_events(answer: Answer | str, **fields: Any) -> list[Json]:
    """Return the events of a streamed response; the last one carries the whole object."""
    whole = response_object(answer, **fields)
    begun = response_object(
        answer, **fields | {"status": "in_progress", "incomplete_details": None}
    )
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(whole["output"]):
        events += [{**event, "output_index": index} for event in _item_events(item)]
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _response_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _output_items(answer: Answer) -> list[Json]:
    # Ids derive from the response's, so that two responses never share an item's id.
    suffix = (answer.id or "resp_1").removeprefix("resp_")
    part: Json | None = None
    if answer.refusal is not None:
        part = {"type": "refusal", "refusal": answer.refusal}
    elif answer.text is not None:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    status = "incomplete" if finish_reason(answer) in {"length", "content_filter"} else "completed"
    message = {"id": f"msg_{suffix}", "type": "message", "status": status, "role": "assistant"}
    calls = [
        {
            "id": f"fc_{suffix}_{index}",
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for index, call in enumerate(answer.tool_calls)
    ]
    return [{**message, "content": [part]}, *calls] if part else calls


def _item_events(item: Json) -> Iterator[Json]:
    begun = {**item, "status": "in_progress"}
    if item["type"] == "function_call":
        yield {"type": "response.output_item.added", "item": {**begun, "arguments": ""}}
        yield from _argument_events(item)
    elif item["type"] == "message":
        yield {"type": "response.output_item.added", "item": {**begun, "content": []}}
        yield from _part_events(item["content"][0], item["id"])
    else:
        yield {"type": "response.output_item.added", "item": begun}
    yield {"type": "response.output_item.done", "item": item}


def _argument_events(item: Json) -> Iterator[Json]:
    kind = "response.function_call_arguments"
    for piece in pieces(item["arguments"]):
        yield {"type": f"{kind}.delta", "item_id": item["id"], "delta": piece}
    yield {"type": f"{kind}.done", "item_id": item["id"], "arguments": item["arguments"]}


def _part_events(part: Json, item_id: str) -> Iterator[Json]:
    # The text stands under "text" in an output_text part, under "refusal" in a refusal.
    field = "refusal" if part["type"] == "refusal" else "text"
    logprobs: Json = {} if field == "refusal" else {"logprobs": []}
    place: Json = {"item_id": item_id, "content_index": 0}
    kind = f"response.{part['type']}"
    yield {"type": "response.content_part.added", **place, "part": {**part, field: ""}}
    for piece in pieces(part[field]):
        yield {"type": f"{kind}.delta", **place, "delta": piece, **logprobs}
    yield {"type": f"{kind}.done", **place, field: part[field], **logprobs}
    yield {"type": "response.content_part.done", **place, "part": part}
