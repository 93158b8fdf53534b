"""Bodies and streams of a model server that has gone wrong in a way that is nearly right."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, cast

from hypothesis import strategies as st
from openai_wire import SSE_DONE, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Json = dict[str, Any]
Path = tuple[Any, ...]

_SCALARS = st.sampled_from(
    [None, True, -1, 0, 2.5, 10**30, float("nan"), "", "text", "stop", "message", "\ud800", "é" * 9]
)
JUNK = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["type", "text", "index", "id", "x"]), inner, max_size=2),
    ),
    max_leaves=4,
)
_NOISE_LINES = (b": ping", b"\xff", b"data: {", b"data: [DONE]", b"data:", b"event: error")
_NOISE_DATA = (b"[1, 2]", b"null", b'"text"', b"{}", b'{"error": {"message": "no"}}', b"3")
_NOISE = st.sampled_from([*_NOISE_LINES, *(b"data: " + each for each in _NOISE_DATA)])


def mutated(bodies: Sequence[Json]) -> st.SearchStrategy[Json]:
    """Return one of the bodies with up to four places replaced, removed or doubled."""

    @st.composite
    def draw_body(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Json:
        body: Json = copy.deepcopy(draw(st.sampled_from(bodies)))
        for _ in range(draw(st.integers(1, 4))):
            places = _places(body)
            if places:
                _mutate(body, draw(st.sampled_from(places)), draw)
        return body

    return draw_body()


def streams(chunks: Sequence[Json]) -> st.SearchStrategy[bytes]:
    """Return the chunks as an SSE stream that may be mutated, noisy, out of order and cut."""

    @st.composite
    def draw_stream(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
        bodies: list[Json] = list(chunks)
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(bodies) - 1))
            bodies[place] = draw(mutated(bodies[place : place + 1]))
        events = [_event(body) for body in bodies]
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(events) - 1))
            events[place : place + draw(st.integers(0, 2))] = [draw(_NOISE) + b"\n\n"]
        whole = b"".join([*events, SSE_DONE])
        return whole[: draw(st.sampled_from([len(whole), len(whole) // 2, len(whole) - 20]))]

    return draw_stream()


def _event(body: Json) -> bytes:
    """Return the server-sent event; one whose type is no longer a name goes out as bare data."""
    if isinstance(body.get("type", ""), str) and "\ud800" not in body.get("type", ""):
        return sse(body)
    return b"data: %s\n\n" % json.dumps(body).encode()


def _places(value: Any, path: Path = ()) -> list[Path]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(cast("Json", value).items())
    elif isinstance(value, list):
        items = list(enumerate(cast("list[object]", value)))
    inner = [place for key, item in items for place in _places(item, (*path, key))]
    return [*((*path, key) for key, _ in items), *inner]


def _mutate(body: Json, place: Path, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    parent: Any = body
    for key in place[:-1]:
        parent = parent[key]
    last = place[-1]
    action = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
    if action == "remove":
        del parent[last]
    elif action == "double" and isinstance(last, int):
        parent.append(copy.deepcopy(parent[last]))
    else:
        parent[last] = draw(JUNK)
