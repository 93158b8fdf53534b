"""UUIDs as text are those of the standard library."""

from __future__ import annotations

import uuid

import pytest

from trubrics_instrument._base.uuids import random_uuid, uuid_bytes, uuid_of, uuid_text

NAMESPACE = uuid.UUID("6a8f2f3c-51c5-5d0e-9a0b-0e6a2d1f7c11")


def test_random_ones() -> None:
    """A new one is a proper UUID of version 4, and no other one."""
    made = {random_uuid() for _ in range(200)}
    assert len(made) == 200
    for text in made:
        known = uuid.UUID(text)
        assert (str(known), known.version, known.variant) == (text, 4, uuid.RFC_4122)


def test_those_of_names() -> None:
    """A name has the UUID that it has in every process and every language."""
    names = ["", "ada", "a name that is somewhat longer", "é", *map(str, range(200))]
    assert [uuid_of(NAMESPACE.bytes, name) for name in names] == [
        str(uuid.uuid5(NAMESPACE, name)) for name in names
    ]


def test_a_name_that_is_no_unicode() -> None:
    """Half a character is a name too."""
    assert uuid.UUID(uuid_of(NAMESPACE.bytes, "\ud800")).version == 5


def test_there_and_back() -> None:
    """A UUID that is written as we write it comes back as it was."""
    assert uuid_bytes(str(NAMESPACE)) == NAMESPACE.bytes
    assert uuid_text(NAMESPACE.bytes) == str(NAMESPACE)


@pytest.mark.parametrize(
    "text", ["", "ada", "x" * 36, str(NAMESPACE).upper(), NAMESPACE.hex, f"{{{NAMESPACE.hex}---"]
)
def test_what_is_none(text: str) -> None:
    """Anything else is none, even where `uuid.UUID` would take it."""
    assert uuid_bytes(text) is None
