"""What LangChain reports to the handler, test by test, against what the handler tells of it."""

from __future__ import annotations

import functools
import gc
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Sized

    from trubrics_instrument._events import Event
    from trubrics_instrument._runtime import Taker

_STARTS = ("on_chain_start", "on_tool_start", "on_chat_model_start", "on_llm_start")
_MODELS = ("on_chat_model_start", "on_llm_start")


class Witness:
    """One test: the runs that were reported to the handler, and the events that it told."""

    def __init__(self, sender: Taker) -> None:
        self.events: list[Event] = []
        self._sender = sender
        self._parents: dict[str, str | None] = {}
        self._roots: dict[str, bool] = {}

    def put(self, item: Any) -> bool:
        """Take an event over, and hand it on to the sender."""
        self.events.append(item)
        return self._sender.put(item)

    def started(self, name: str, given: Any, about: dict[str, Any]) -> None:
        """Take note of a run, by its id's text: a run that nobody ends is over when the id goes."""
        run_id, parent = str(about["run_id"]), about.get("parent_run_id")
        self._parents[run_id] = None if parent is None else str(parent)
        if name in _MODELS:
            goes_on = name == "on_chat_model_start" and _goes_on(given[0])
            self._roots.setdefault(self._root_of(run_id), goes_on)

    def broken(self) -> list[str]:
        """Return which rules are broken: each prompt told once, and first; each call with one end.

        Of what an end tells, one event has the seconds that it took. Where a run begins with the
        results of tools, the prompt may have been another one's.
        """
        going_on = {root for root, goes_on in self._roots.items() if goes_on}
        turns: dict[str | None, list[str]] = {}
        for event in self.events:
            turns.setdefault(event.prompt_id, []).append(event.name)
        wrong = [
            f"a turn of {', '.join(told)}"
            for prompt_id, told in turns.items()
            if "Prompt" in told[1:]
            or (told[0] != "Prompt" and prompt_id not in going_on)
            or told == ["Prompt"]
        ]
        ends = sum("latency" in (event.properties or {}) for event in self.events)
        roots = len(self._roots)
        return wrong if ends == roots else [*wrong, f"{ends} ends of {roots} root runs"]

    def _root_of(self, run_id: str) -> str:
        while (parent := self._parents.get(run_id)) is not None:
            run_id = parent
        return run_id


told: Counter[str] = Counter()
broken: dict[str, list[str]] = {}
_present: list[Witness] = []


def _goes_on(messages: Any) -> bool:
    """Whether nobody has spoken since the last tool has."""
    kinds = [getattr(message, "type", None) for message in messages]
    return "tool" in kinds and "human" not in kinds[kinds.index("tool") :]


@contextmanager
def witnessed(test: str) -> Generator[None, None, None]:
    """Be a witness of one test while the block runs, and judge it then."""
    from trubrics_instrument import _runtime

    _watch()
    sender = _runtime._sender(_runtime.state(), None)
    assert sender is not None
    witness = Witness(sender)
    _present.append(witness)
    try:
        with _runtime.standing_in(witness):
            yield
            for _ in range(3):  # what is finalised may live on for a moment
                gc.collect()
    finally:
        _present.remove(witness)
    told.update(event.name for event in witness.events)
    wrong = witness.broken()
    if wrong:
        broken[test] = wrong


def left_over() -> dict[str, int]:
    """Return what is remembered in any registry of runs."""
    from trubrics_instrument.langchain import model, observed, runs

    registries: dict[str, Sized] = {
        "runs": runs._open,
        "watches": runs._watches,
        "models": observed._open,
        "awaiting": model.awaiting,
    }
    return {f"{name} left over": len(one) for name, one in registries.items() if len(one)}


@functools.cache
def _watch() -> None:
    """Have every run's start told to the witness as well, whatever the handler makes of it."""
    from trubrics_instrument import TrubricsCallbackHandler

    for name in _STARTS:
        setattr(
            TrubricsCallbackHandler, name, _noting(name, getattr(TrubricsCallbackHandler, name))
        )


def _noting(name: str, original: Any) -> Any:
    @functools.wraps(original)
    def noting(self: Any, serialized: Any, given: Any, **about: Any) -> None:
        if _present:
            _present[-1].started(name, given, about)
        original(self, serialized, given, **about)

    return noting
