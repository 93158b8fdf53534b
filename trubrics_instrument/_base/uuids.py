"""UUIDs as text, in the time that they need: `uuid` makes objects with fields on the way."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache

# The two high bits of this digit say which UUIDs these are (RFC 9562, 4.1); the others are free.
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def random_uuid() -> str:
    """Return what `str(uuid.uuid4())` does."""
    return _text(os.urandom(16).hex(), "4")


def uuid_of(namespace: bytes, name: str) -> str:
    """Return what `str(uuid.uuid5(uuid.UUID(bytes=namespace), name))` does."""
    digest = hashlib.sha1(namespace + name.encode(errors="replace"), usedforsecurity=False)
    return _text(digest.hexdigest(), "5")


@lru_cache(maxsize=1_000)
def uuid_text(value: bytes) -> str:
    """Return what `str(uuid.UUID(bytes=value))` does."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache(maxsize=1_000)
def uuid_bytes(text: str) -> bytes | None:
    """Return the bytes of a UUID that is written as we write them; None of anything else."""
    if len(text) != len("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"):
        return None
    try:
        value = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return value if uuid_text(value) == text else None


def _text(digits: str, version: str) -> str:
    return (
        f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}"
        f"-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    )
