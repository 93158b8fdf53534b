"""The labelled strings of `tests/data/redaction.txt`, and how a redactor does on them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FILE = Path(__file__).parent / "data" / "redaction.txt"
_MARK = re.compile(r"<<(\w+)=(.*?)>>(?!>)", re.DOTALL)
_TAG = re.compile(r"\[([A-Z_]{2,12})\]")


class Labelled(NamedTuple):
    """A string, and what in it should go: pairs of kind and value."""

    text: str
    marks: tuple[tuple[str, str], ...]


class Score(NamedTuple):
    """How a redactor did on one kind.

    Attributes:
        kind: Such as "email".
        marked: How many values are in the strings.
        missed: Those that are still there afterwards.
        wrong: The strings in which something else was taken for this kind.
    """

    kind: str
    marked: int
    missed: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def recall(self) -> float:
        """The share of the values that are gone."""
        return 1 - len(self.missed) / self.marked


def labelled() -> list[Labelled]:
    """Return the strings of the file."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return [_parsed(line) for line in lines if line and not line.startswith("# ")]


def scores(redact: Callable[[str], str], strings: Iterable[Labelled]) -> list[Score]:
    """Return a score for each kind that is marked somewhere."""
    marked: Counter[str] = Counter()
    missed: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for text, marks in strings:
        left = redact(text)
        marked.update(kind for kind, _ in marks)
        kept = [(kind, value) for kind, value in marks if value in left]
        missed += kept
        wrong += [(kind, text) for kind in _surplus(left, marks, len(marks) - len(kept))]
    return [
        Score(
            kind,
            count,
            tuple(value for other, value in missed if other == kind),
            tuple(text for other, text in wrong if other == kind),
        )
        for kind, count in marked.items()
    ]


def table(found: Iterable[Score]) -> list[str]:
    """Return the scores as rows of a table in Markdown."""
    return [
        f"| {one.kind} | {one.marked} | {one.marked - len(one.missed)} "
        f"| {one.recall:.0%} | {len(one.wrong)} |"
        for one in found
    ]


def _surplus(left: str, marks: tuple[tuple[str, str], ...], gone: int) -> list[str]:
    """Return the kinds of the tags that stand for nothing that was marked."""
    tags = [tag.lower() for tag in _TAG.findall(left)]
    expected = [kind for kind, _ in marks]
    surplus = list((Counter(tags) - Counter(expected)).elements())
    return surplus[: max(0, len(tags) - gone)]


def _parsed(line: str) -> Labelled:
    marks: list[tuple[str, str]] = []

    def unmarked(match: re.Match[str]) -> str:
        value = match[2].replace("~", "").replace("\\n", "\n")
        marks.append((match[1], value))
        return value

    text = _MARK.sub(unmarked, line).replace("\\n", "\n")
    return Labelled(text, tuple(marks))
