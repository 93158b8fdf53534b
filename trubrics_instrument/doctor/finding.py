"""What the doctor finds: one line each, with the remedy."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Level: TypeAlias = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        check: What was looked at, such as "key" or "openai".
        level: "ok"; "note", for what may be as it should; "wrong", for what wants a remedy.
        said: What was found; never a key, and nothing of a conversation.
        remedy: What to do about it.
    """

    check: str
    level: Level
    said: str
    remedy: str | None = None

    def line(self) -> str:
        """Return it as a line for people."""
        told = f"{self.level:<6}{self.check:<16}{self.said}"
        return f"{told} -> {self.remedy}" if self.remedy else told


def ok(check: str, said: str) -> Finding:
    """Return a finding that needs nothing done."""
    return Finding(check, "ok", said)


def note(check: str, said: str, remedy: str | None = None) -> Finding:
    """Return a finding that may be as it should."""
    return Finding(check, "note", said, remedy)


def wrong(check: str, said: str, remedy: str) -> Finding:
    """Return a finding that wants a remedy."""
    return Finding(check, "wrong", said, remedy)
