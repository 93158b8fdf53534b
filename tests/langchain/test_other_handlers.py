"""Other people's handlers beside ours: told of all that they are told of without ours."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.outputs import Generation, LLMResult

from tests.langchain.chains import QUESTION
from tests.langchain.driving import turns_told
from tests.langchain.models import Completing
from trubrics_instrument import TrubricsCallbackHandler

if TYPE_CHECKING:
    from tests.sink import Sink

pytestmark = pytest.mark.anyio


class Asynchronous(AsyncCallbackHandler):
    """A handler that takes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    async def on_llm_start(self, serialized: Any, prompts: list[str], **about: Any) -> None:
        """Take down a start."""
        self.seen.append(("start", *prompts, about["run_id"]))

    async def on_llm_end(self, *_: Any, **about: Any) -> None:
        """Take down an end."""
        self.seen.append(("end", about["run_id"]))


class Threaded(BaseCallbackHandler):
    """The same, in a thread of the event loop's pool."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def on_llm_start(self, serialized: Any, prompts: list[str], **about: Any) -> None:
        """Take down a start."""
        self.seen.append(("start", *prompts, about["run_id"]))

    def on_llm_end(self, *_: Any, **about: Any) -> None:
        """Take down an end."""
        self.seen.append(("end", about["run_id"]))


class Inline(Threaded):
    """The same, in the event loop."""

    run_inline = True


@pytest.mark.parametrize("ours", [1, 2])
@pytest.mark.parametrize("kind", [Asynchronous, Threaded, Inline])
async def test_other_handlers_are_served(kind: Any, ours: int, sink: Sink) -> None:
    """Asynchronous text models still call the other handlers, which an inline handler can stop."""
    run_id, other = uuid.uuid4(), kind()
    several = [TrubricsCallbackHandler("ada") for _ in range(ours)]
    await Completing().ainvoke(QUESTION, {"callbacks": [*several, other], "run_id": run_id})
    assert other.seen == [("start", QUESTION, run_id), ("end", run_id)]
    assert len(turns_told(sink)) == 1


@pytest.mark.parametrize("ours", [1, 2])
async def test_other_handlers_are_told_of_each_prompt(ours: int) -> None:
    """So are they where a manager starts several prompts at once, by hand."""
    other = Asynchronous()
    several = [TrubricsCallbackHandler("ada") for _ in range(ours)]
    manager = AsyncCallbackManager(handlers=[*several, other])
    runs = await manager.on_llm_start({}, ["One?", "Two?"])
    told = [("start", text, run.run_id) for text, run in zip(["One?", "Two?"], runs, strict=True)]
    assert other.seen == told
    for run in runs:
        await run.on_llm_end(LLMResult(generations=[[Generation(text="Yes.")]]))


async def test_what_others_stop_stays_stopped() -> None:
    """Where somebody else's handler runs inline too, LangChain is as it is without us."""
    seen = []
    for ours in ([], [TrubricsCallbackHandler("ada")]):
        other = Asynchronous()
        await Completing().ainvoke(QUESTION, {"callbacks": [*ours, Inline(), other]})
        seen.append([kind for kind, *_ in other.seen])
    assert seen[0] == seen[1]


def test_where_nobody_is_forgotten() -> None:
    """Nobody is told twice by a LangChain that tells all: it has a task for each prompt."""
    ours, other = TrubricsCallbackHandler("ada"), Asynchronous()

    def on_llm_start() -> list[str]:
        inline_handlers, non_inline_handlers = [ours], [other]
        managers, non_inline_tasks = ["a run"], ["its task"]
        run_id = uuid.uuid4()
        ours.on_llm_start({}, [QUESTION], run_id=run_id)
        ours.on_llm_end(LLMResult(generations=[[Generation(text="Yes.")]]), run_id=run_id)
        assert inline_handlers
        assert non_inline_handlers
        assert managers
        return non_inline_tasks

    assert on_llm_start() == ["its task"]
