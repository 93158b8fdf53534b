"""Encoding cannot fail: a value that JSON cannot hold degrades, and the event survives."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import tracemalloc
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.delivery.faulty_server import FaultyServer
from tests.delivery.senders import sending
from trubrics_instrument._delivery import Outgoing
from trubrics_instrument._delivery import encode as encoding
from trubrics_instrument._delivery.encode import encode, plain


@pytest.fixture(autouse=True, params=["what is installed", "json"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with orjson, if it is installed, and without it."""
    if request.param == "json":
        monkeypatch.setattr(encoding, "dumps", encoding.with_json)


class Model(BaseModel):
    """A pydantic model, as SDKs hand them out."""

    name: str
    score: float


@dataclasses.dataclass
class Point:
    """A dataclass of the app."""

    x: int
    when: date


class Colour(enum.Enum):
    """An enum of the app."""

    RED = "red"


class Text(str):
    """A text of the app's own type."""

    __slots__ = ()


class Number(enum.IntEnum):
    """A number of the app's own type."""

    SEVEN = 7


class Unprintable:
    """An object whose every method raises."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Faceless:
    """A proxy that has nothing behind it now, and says so whatever it is asked."""

    @property  # type: ignore[misc]  # the habit of proxies such as Flask's
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Raise, as a proxy does outside of its request."""
        raise RuntimeError


class Leaving:
    """An object that ends the thread that looks at it."""

    def __str__(self) -> str:
        raise SystemExit


class Circle(list[object]):
    """A list that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self.append(self)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        (b"text", "text"),
        (b"\xff\xfe", "<2 bytes>"),
        (datetime(2024, 10, 9, 13, 21, 46, tzinfo=timezone.utc), "2024-10-09T13:21:46+00:00"),
        (date(2024, 10, 9), "2024-10-09"),
        (time(13, 21), "13:21:00"),
        (timedelta(minutes=2), 120.0),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("1.50"), "1.50"),
        (Path("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ((1, float("nan")), [1, None]),
        ({Unprintable(): 1}, {"<Unprintable>": 1}),
        ({1: "a", (2, 3): "b", None: "c"}, {"1": "a", "(2, 3)": "b", "None": "c"}),
        (Model(name="n", score=float("nan")), {"name": "n", "score": None}),
        (Point(1, date(2024, 1, 2)), {"x": 1, "when": "2024-01-02"}),
        (Unprintable(), "<Unprintable>"),
        (Faceless(), "<Faceless>"),
        (Leaving(), "<Leaving>"),
        (Circle(), ["<Circle>"]),
        (10**5000, "<int>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value_degrades_in_its_own_way(value: object, expected: object) -> None:
    """The event keeps its other fields, and the value says what it was."""
    assert json.loads(encode({"kept": 1, "value": value})) == {"kept": 1, "value": expected}


def test_deep_nesting_is_cut() -> None:
    """A structure of a thousand levels becomes one of some thirty."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert len(encode({"value": value})) < 200


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_what_json_can_hold_arrives_as_it_was(body: dict[str, object]) -> None:
    """Degrading changes nothing that need not be changed."""
    assert json.loads(encode(body)) == body


@given(st.text(st.characters()) | st.binary() | st.complex_numbers() | st.decimals())
def test_any_value_gives_valid_utf_8_json(value: object) -> None:
    """Strict parsers take it: no NaN, no lone surrogate."""
    json.loads(encode({"value": value}).decode("utf-8"), parse_constant=pytest.fail)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.uuids()
    | st.sampled_from([Colour.RED, Point(1, date(2024, 1, 2)), Text("t"), Number(7)]),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), ODD))
def test_which_encoder_is_installed_cannot_be_seen(body: dict[str, object]) -> None:
    """The same value comes of orjson and of Python's own, whatever an app puts into an event."""
    other = encoding.with_json(plain(body))
    assert json.loads(encode(cast("dict[str, object]", plain(body)))) == json.loads(other)


def test_an_encoded_event_takes_no_more_than_its_length() -> None:
    """No larger buffer hangs on it: the bound on memory counts lengths."""
    tracemalloc.start()
    try:
        kept = [encode({"text": "w" * 700, "number": n}) for n in range(2_000)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < sum(map(len, kept)) + 100 * len(kept)


def test_one_bad_value_costs_no_neighbour_anything() -> None:
    """A value without JSON, a NaN, a lone surrogate, a 5 MB text: all hundred events arrive."""
    odd: dict[int, object] = {
        10: object(),
        20: float("nan"),
        30: "\udfff",
        40: "x" * 5_000_000,
        50: Unprintable(),
    }

    def prepare(item: Any, event_id: str) -> Outgoing:
        return Outgoing("key", {"event_id": event_id, "n": item, "value": odd.get(item)})

    with FaultyServer() as server, sending(server, prepare) as sender:
        for n in range(100):
            sender.put(n)
        assert sender.flush(10)
        assert server.numbers() == list(range(100))
        assert len(server.events[40]["value"]) == 5_000_000
        assert server.events[20]["value"] is None


def test_a_key_that_the_disk_cannot_hold(tmp_path: Path) -> None:
    """A lone surrogate in an id costs neither its event nor a neighbour, not even on disk."""

    def prepare(item: Any, event_id: str) -> Outgoing:
        return Outgoing("a\ud800b" if item == 1 else "key", {"event_id": event_id, "n": item})

    options = {"spool": "always", "spool_dir": str(tmp_path)}
    with FaultyServer() as server, sending(server, prepare, **options) as sender:
        for n in range(3):
            sender.put(n)
        assert sender.flush(10)
        assert server.numbers() == [0, 1, 2]


def test_a_log_handler_that_raises() -> None:
    """What the app's logging does wrong stops no event."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    def prepare(item: Any, event_id: str) -> Outgoing:
        if item == 1:
            raise ValueError
        return Outgoing("key", {"event_id": event_id, "n": item})

    broken = Broken()
    logging.getLogger("trubrics_instrument").addHandler(broken)
    try:
        with FaultyServer() as server, sending(server, prepare) as sender:
            for n in range(3):
                sender.put(n)
            assert sender.flush(10)
            assert server.numbers() == [0, 2]
    finally:
        logging.getLogger("trubrics_instrument").removeHandler(broken)
