"""Under which names a turn waits for what goes on with it: the results of tools, the rest of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument._base.ids import is_random
from trubrics_instrument._context.identity import Claim
from trubrics_instrument._conversations.trail import name_of_turn, number_of, number_of_much

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from trubrics_instrument._observing.reader import TurnKey

_END_CHARS = 64


def names_of(
    keys: Sequence[TurnKey], claim: Claim, typed: str | None, *, wide: bool = True
) -> list[int]:
    """Return names that hold no text, the same in every process.

    They hold who asks and where, for the ids of tool calls are not unique on every host; in a
    `wide` search they do without the thread, which a request that goes on from an answer may know
    when the first one did not.
    """
    texts = (typed if key.text and typed else key.text for key in keys)
    names = [name_of_turn(key.name, text) for key, text in zip(keys, texts, strict=True)]
    askers = [claim, Claim(claim.user_id)] if wide else [claim]
    numbers = [
        (number_of(asker.user_id or ""), number_of(asker.thread_id or "")) for asker in askers
    ]
    return [hash((*number, name)) for number in numbers for name in names]


def names_without_text(keys: Sequence[TurnKey], claim: Claim) -> list[Hashable]:
    """Return names without the question, which an app may put anew at each step of a turn.

    With the time, or with other documents. They are for the code that runs the steps.
    """
    return [("step", claim, hash(key.name)) for key in keys] if any(claim) else []


def names_of_anybody(keys: Sequence[TurnKey]) -> list[int]:
    """Return names without who asks and what: to tell what somebody waits for from what nobody."""
    return [name_of_turn(("anybody", key.name), None) for key in keys]


def names_by_id(keys: Sequence[TurnKey]) -> list[Hashable]:
    """Return the ids that may be one turn's only."""
    ids = (key.name for key in keys)
    return [("id", number_of(one)) for one in ids if isinstance(one, str) and is_random(one)]


def mark_of(name: str, text: str) -> Hashable:
    """Return what tells a picture or a file from others, by a field that may be megabytes long."""
    return name, len(text), text[:_END_CHARS], text[-_END_CHARS:]


def name_of_question(claim: Claim, parts: Iterable[object]) -> int:
    """Return a name for what somebody asks, the same in every process, and without text."""
    return hash(tuple([number_of_much(str(part)) for part in (*claim, *parts)]))
