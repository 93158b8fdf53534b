"""What the stack shows: frames of any kind, and never an exception of ours."""

# LangChain's own types are unknown in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.llms import LLM

from tests.langchain.driving import assert_nothing_left, turns_told
from trubrics_instrument import TrubricsCallbackHandler
from trubrics_instrument._base import shield
from trubrics_instrument.langchain import observed, stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sink import Sink

QUESTION = "Is the tram on time?"
ANSWER = "Yes, it is."
STREAM = """
def stream(tell, pieces):
    for piece in pieces:
        tell(piece)
"""


def run_with(name: object) -> Callable[..., None]:
    """Return a function called `stream`, of a module that has any `__name__`, or none."""
    names: dict[str, Any] = {} if name is ... else {"__name__": name}
    exec(STREAM, names)
    run: Callable[..., None] = names["stream"]
    return run


class Telling(LLM):
    """A model that tells the pieces of its answer by a function of its own."""

    tell: Any

    @property
    def _llm_type(self) -> str:
        return "telling"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any) -> str:
        self.tell(run_manager.on_llm_new_token, ANSWER.split(" "))
        return ANSWER


def ask(tell: Callable[..., None]) -> str:
    """Ask such a model, with a handler whose exceptions LangChain would raise."""
    handler = TrubricsCallbackHandler("ada", thread_id="t-1")
    handler.raise_error = True
    return str(Telling(tell=tell).invoke(QUESTION, {"callbacks": [handler]}))


def assert_told_once(sink: Sink) -> None:
    """Check that the question and its answer were told, as of a stream."""
    [turn] = turns_told(sink)
    told = [(one["event"], one["$text"], one.get("status"), one.get("stream")) for one in turn]
    assert told == [("Prompt", QUESTION, None, None), ("Generation", ANSWER, "ok", True)]
    assert_nothing_left()


@pytest.mark.parametrize("name", [None, 7, ..., "app"], ids=["None", "number", "none", "str"])
def test_any_name_of_a_module(name: object, sink: Sink) -> None:
    """Code that was given to `exec` may be of a module whose name is no str."""
    assert ask(run_with(name)) == ANSWER
    assert_told_once(sink)


@pytest.mark.parametrize("name", [None, 7], ids=["None", "number"])
def test_any_name_beside_an_open_run(name: object) -> None:
    """The patch of a client looks at such frames as well."""
    observed.opened("a run")
    seen: list[bool] = []

    def look(_: object) -> None:
        seen.append(observed.observes_this_call())

    run_with(name)(look, ["piece"])
    assert seen == [False]


def test_a_fault_costs_nothing(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of ours at a piece of an answer reaches nobody, and the answer is told."""

    def fail() -> bool:
        raise LookupError

    shield.set_strict(strict=False)
    monkeypatch.setattr(stack, "in_stream", fail)
    assert ask(run_with("app")) == ANSWER
    assert_told_once(sink)
    assert shield.faults() == {"reading the first piece of an answer": 1}


CALLBACKS = {
    **dict.fromkeys(("on_chain_start", "on_tool_start", "on_retriever_start"), "start"),
    **dict.fromkeys(("on_chat_model_start", "on_llm_start"), "request"),
    **dict.fromkeys(("on_chain_end", "on_tool_end", "on_retriever_end"), "end"),
    **dict.fromkeys(("on_chain_error", "on_tool_error", "on_retriever_error"), "failure"),
    "on_llm_end": "answer",
    "on_llm_error": "failure",
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_each_callback_is_guarded(name: str) -> None:
    """What LangChain tells without a run id costs the app nothing, and is counted."""
    shield.set_strict(strict=False)
    given: list[Any] = [] if name.endswith(("_end", "_error")) else [{}]
    getattr(TrubricsCallbackHandler(), name)(*given, [[]])
    [(doing, count)] = shield.faults().items()
    assert (CALLBACKS[name] in doing, count) == (True, 1)
