"""Recorded exchanges with the real API, and what their own JSON says that events must tell."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
_FILE = Path(__file__).parents[3] / "shared" / "recordings" / "openai" / "exchanges.jsonl"
_OPERATIONS = {"/chat/completions": "chat", "/responses": "responses", "/completions": "completion"}
_TEXTS = ("content", "refusal", "text")


class Exchange(NamedTuple):
    """One request to the real API, and what it answered."""

    source: str
    url: str
    request: Json
    status: int
    content_type: str
    response: str

    @property
    def path(self) -> str:
        """The path of the request."""
        return self.url.partition("?")[0]

    @property
    def endpoint(self) -> str:
        """The end of the path, which is the same on every host."""
        return next(end for end in _OPERATIONS if self.path.endswith(end))

    @property
    def streamed(self) -> bool:
        """Whether the answer came in pieces."""
        return self.request.get("stream") is True

    @property
    def bodies(self) -> list[Json]:
        """The answer's JSON: one body, or one for each piece."""
        if not self.streamed:
            return [json.loads(self.response)]
        lines = [line[5:].strip() for line in self.response.splitlines() if line[:5] == "data:"]
        return [json.loads(line) for line in lines if line != "[DONE]"]


def recordings() -> list[list[Exchange]]:
    """Return the exchanges of each recording in their order; none where the file is absent."""
    if not _FILE.exists():
        return []
    lines = (json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines())
    exchanges = [Exchange(**{name: line[name] for name in Exchange._fields}) for line in lines]
    by_source = itertools.groupby(exchanges, key=lambda exchange: exchange.source)
    return [list(group) for _, group in by_source]


class _Turn:
    def __init__(self, prompt: str, *, regenerated: bool) -> None:
        self.prompt = prompt
        self.regenerated = regenerated
        self.model_calls = self.tool_calls = 0


def expected(recording: list[Exchange]) -> list[Json]:
    """Return the events, as `told` gives them, that a recording calls for."""
    turns: dict[object, _Turn] = {}
    events: list[Json] = []
    numbers = itertools.count(1)
    just_said: set[object] = set()
    for exchange in recording:
        question, results = _question(exchange)
        failed, whole = ("failed", question), ("whole", json.dumps(_items(exchange.request)))
        earlier = turns.pop(failed, None) or next(
            (turns[key] for key in [(one, question) for one in results] if key in turns), None
        )
        again = None if results or _last_answer(exchange) in just_said else turns.get(whole)
        if earlier:
            turn = earlier
        elif again:
            turn = _Turn(again.prompt, regenerated=True)
        else:
            turn = _Turn(f"prompt {next(numbers)}", regenerated=False)
        turn.model_calls += 1
        common = _common(exchange) | {"$prompt_id": turn.prompt}
        if not results and not earlier and not again:
            asked = {"event": "Prompt", "$text": question, "attachments": _images(exchange)}
            events.append(_known({**common, **asked}))
        ends = list(_ends(exchange, turn))
        events += [_known({**common, "$assistant_id": common["model"], **end}) for end in ends]
        turns |= {(end.get("tool_call_id"), question): turn for end in ends}
        just_said = {repr(end.get("$text")) for end in ends}
        if _goes_on(exchange):
            turns[whole] = turn
        if ends[0].get("status") == "error":
            turns[failed] = turn
    return events


def _last_answer(exchange: Exchange) -> object:
    """Return the answer that it resends last: one just given is gone on from, not asked again."""
    answers = [item for item in _items(exchange.request) if item.get("role") == "assistant"]
    return repr(answers[-1].get("content")) if answers else None


def _goes_on(exchange: Exchange) -> bool:
    """Whether it resends an answer: then the same again is the wish for another answer to it."""
    return any(item.get("role") == "assistant" for item in _items(exchange.request))


def _dict(value: Any) -> Json:
    return value or {}


def _list(value: Any) -> list[Json]:
    return value or []


def _known(event: Json) -> Json:
    return {name: value for name, value in event.items() if value is not None}


def _common(exchange: Exchange) -> Json:
    return {
        "user_id": "anon 1",
        "anonymous": True,
        "$thread_id": "thread 1",
        "framework": "openai",
        "provider": "azure" if "/deployments/" in exchange.path else "127.0.0.1",
        "operation": _OPERATIONS[exchange.endpoint],
        "model": exchange.request["model"],
        "stream": exchange.streamed or None,
    }


def _question(exchange: Exchange) -> tuple[str | None, list[str]]:
    """Return what the user said last, and the tool calls whose results came after it."""
    request = exchange.request
    if "prompt" in request:
        prompts = request["prompt"]
        return (prompts if isinstance(prompts, str) else "\n\n".join(prompts)), []
    if isinstance(request.get("input"), str):
        return request["input"], []
    items = _items(request)
    asked = [place for place, item in enumerate(items) if item.get("role") == "user"]
    last = asked[-1] if asked else -1
    ids = [str(item.get("tool_call_id") or item.get("call_id")) for item in items[last + 1 :]]
    ended = items[-1].get("role") == "tool" or items[-1].get("type") == "function_call_output"
    return _text(items[last].get("content")), ids if ended else []


def _items(request: Json) -> list[Json]:
    """Return the messages or input items; an input that is a str has none."""
    items = request.get("messages") or request.get("input")
    return _list(items) if isinstance(items, list) else []


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in _list(content) if "text" in part)


def _images(exchange: Exchange) -> str | None:
    asked = [item for item in _items(exchange.request) if item.get("role") == "user"]
    content = asked[-1]["content"] if asked else None
    parts = [] if isinstance(content, str) else _list(content)
    count = sum(part["type"] == "image_url" for part in parts)
    return f"image:{count}" if count else None


def _ends(exchange: Exchange, turn: _Turn) -> Iterator[Json]:
    """Yield what ends a call, with its tokens on the first event of several."""
    error_type = {400: "BadRequestError", 404: "NotFoundError"}.get(exchange.status)
    if error_type is None and "error" in exchange.bodies[0]:  # a compatible host's way to fail
        error_type = _dict(exchange.bodies[0]["error"]).get("code")
    if error_type is not None:
        yield {"event": "Generation failed", "status": "error", "error_type": error_type}
        return
    answers = _outputs if exchange.endpoint == "/responses" else _choices
    answered, tokens = answers(exchange.bodies), _tokens(exchange.bodies)
    turn.tool_calls += sum(len(one["tools"]) for one in answered)
    for index, one in enumerate(answered):
        if one["text"] or not one["tools"]:
            yield _generation(one, index, turn) | tokens
            tokens = {}
        for name, call_id in one["tools"]:
            yield {"event": "Tool call", "tool_name": name, "tool_call_id": call_id} | tokens
            tokens = {}


def _generation(one: Json, index: int, turn: _Turn) -> Json:
    return {
        "event": "Generation",
        "$text": one["text"] or None,
        "$generation_id": f"{one['id']}:{index}" if index else one["id"],
        "response_model": one["model"],
        "finish_reason": one["finish"],
        "status": "incomplete" if one["finish"] in {"length", "content_filter"} else "ok",
        "model_calls": turn.model_calls,
        "tool_calls": turn.tool_calls or None,
        "regenerated": turn.regenerated or None,
    }


def _choices(bodies: list[Json]) -> list[Json]:
    """Return the choices of a chat completion or a completion, whole or in pieces."""
    pieces = [choice for body in bodies for choice in body["choices"]]
    indexes = sorted({piece.get("index", 0) for piece in pieces})
    head = next(body for body in bodies if body["id"])
    model = next(body["model"] for body in bodies if body["model"])
    joined = (_joined([one for one in pieces if one.get("index", 0) == index]) for index in indexes)
    return [{"id": head["id"], "model": model, **one} for one in joined]


def _joined(pieces: list[Json]) -> Json:
    said = [_dict(piece.get("message") or piece.get("delta") or piece) for piece in pieces]
    texts = ["".join(str(one.get(kind) or "") for one in said) for kind in _TEXTS]
    calls = [call for one in said for call in _list(one.get("tool_calls"))]
    functions = [one["function_call"] for one in said if one.get("function_call")]
    tools = [(call["function"]["name"], call["id"]) for call in calls if call.get("id")]
    tools += [(function["name"], None) for function in functions if function.get("name")]
    finish = [piece["finish_reason"] for piece in pieces if piece.get("finish_reason")]
    text = next(filter(None, texts), None)
    return {"text": text, "tools": tools, "finish": finish[-1] if finish else None}


def _outputs(bodies: list[Json]) -> list[Json]:
    response = _dict(bodies[-1].get("response", bodies[-1]))
    output = _list(response["output"])
    contents = [part for item in output for part in _list(item.get("content"))]
    calls = [item for item in output if item["type"].endswith("_call")]
    tools = [(item.get("name", item["type"][:-5]), item.get("call_id")) for item in calls]
    text = "".join(part.get("text") or part.get("refusal", "") for part in contents)
    said = {"text": text, "tools": tools, "finish": None}
    return [{"id": response["id"], "model": response["model"], **said}]


def _tokens(bodies: list[Json]) -> Json:
    found = [_dict(_dict(body.get("response", body)).get("usage")) for body in bodies]
    usage = next(filter(None, reversed(found)), _dict(None))
    inputs = _dict(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    outputs = _dict(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return {
        "input_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "total_tokens": usage.get("total_tokens"),
        "cached_input_tokens": inputs.get("cached_tokens"),
        "reasoning_tokens": outputs.get("reasoning_tokens"),
    }
