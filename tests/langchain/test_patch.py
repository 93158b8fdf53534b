"""`patch_langchain()`: every run, with no callbacks anywhere, until it is undone."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.tracers import context as tracers

from tests.langchain.chains import GIVEN, QUESTION, chain, model
from tests.langchain.driving import MODES, Mode, assert_nothing_left, drive, turns_told
from tests.strict import STRICT_PYTHON
from trubrics_instrument import TrubricsCallbackHandler, patch_langchain, unpatch_langchain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sink import Sink

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    """Leave nothing on, whatever a test does."""
    hooks = list(tracers._configure_hooks)
    yield
    unpatch_langchain()
    assert hooks == tracers._configure_hooks


def users(sink: Sink) -> list[str]:
    """Return the user of each turn, told by one prompt and one answer."""
    turns = turns_told(sink)
    assert all([one["event"] for one in turn] == ["Prompt", "Generation"] for turn in turns)
    return [turn[0]["user_id"] for turn in turns]


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode(mode: Mode, sink: Sink) -> None:
    """Every run is told, in every mode."""
    patch_langchain("ada", thread_id="t")
    await drive(mode, chain(), GIVEN, None)
    await drive(mode, model(), QUESTION, None)
    assert users(sink) == ["ada"] * (6 if "batch" in mode else 2)
    assert_nothing_left()


async def test_any_thread(sink: Sink) -> None:
    """A thread that knows nothing of the one that patched is observed too."""
    patch_langchain("ada", thread_id="t")
    thread = threading.Thread(target=lambda: chain().invoke(GIVEN))
    thread.start()
    thread.join(5)
    assert users(sink) == ["ada"]


async def test_explicit_handler_wins(sink: Sink) -> None:
    """A run with a handler of ours is told by that one, however it comes by it."""
    patch_langchain("ada", thread_id="t")
    one = TrubricsCallbackHandler("bob", thread_id="t")
    chain().invoke(GIVEN, {"callbacks": [one]})
    chain().invoke(GIVEN, {"callbacks": CallbackManager([one], [one])})
    chain().with_config(callbacks=[one]).invoke(GIVEN)
    assert users(sink) == ["bob"] * 3


async def test_beside_other_handlers(sink: Sink) -> None:
    """Other handlers go on as ever."""

    class Other(BaseCallbackHandler):
        seen = 0

        def on_llm_end(self, *_: Any, **__: Any) -> None:
            self.seen += 1

    other = Other()
    patch_langchain("ada", thread_id="t")
    chain().invoke(GIVEN, {"callbacks": [other]})
    assert (other.seen, users(sink)) == (1, ["ada"])


async def test_undo(sink: Sink) -> None:
    """Undone, by any way there is, nothing more is told; done again, it is."""
    with patch_langchain("ada", thread_id="t") as patch:
        assert patch.active
        chain().invoke(GIVEN)
    assert not patch.active
    chain().invoke(GIVEN)
    patch_langchain("bob", thread_id="t")
    patch_langchain("cleo", thread_id="t")
    chain().invoke(GIVEN)
    unpatch_langchain()
    unpatch_langchain()
    chain().invoke(GIVEN)
    assert users(sink) == ["ada", "cleo"]


async def test_a_block_inside(sink: Sink) -> None:
    """After a block the patch is as it was before: on, for whom it was."""
    patch_langchain("ada", thread_id="t")
    with patch_langchain("bob", thread_id="t"):
        chain().invoke(GIVEN)
    chain().invoke(GIVEN)
    unpatch_langchain()
    chain().invoke(GIVEN)
    assert users(sink) == ["bob", "ada"]


async def test_two_threads_at_once(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever puts it on beside another waits for that one: no handler is left over."""
    registering, may_go_on = threading.Event(), threading.Event()
    register = tracers.register_configure_hook

    def slowly(*args: Any, **kwargs: Any) -> None:
        registering.set()
        may_go_on.wait(10 if threading.current_thread().name == "first" else 0)
        register(*args, **kwargs)

    monkeypatch.setattr(tracers, "register_configure_hook", slowly)
    first = threading.Thread(target=patch_langchain, args=("ada",), name="first")
    first.start()
    assert registering.wait(10)
    second = threading.Thread(target=patch_langchain, args=("bob",))
    second.start()
    second.join(0.3)  # without a lock, it is done by now
    may_go_on.set()
    first.join(10)
    second.join(10)
    unpatch_langchain()
    chain().invoke(GIVEN)
    assert users(sink) == []


async def test_undo_during_a_run(sink: Sink) -> None:
    """A run that is under way is told to its end."""
    patch = patch_langchain("ada", thread_id="t")
    stream = chain().stream(GIVEN)
    next(stream)
    patch.undo()
    list(stream)
    assert users(sink) == ["ada"]
    assert_nothing_left()


def test_impossible_arguments() -> None:
    """An impossible argument raises at once, and nothing is on then."""
    with pytest.raises(ValueError, match="granularity"):
        patch_langchain(granularity="span")  # type: ignore[arg-type] # that is the test
    with pytest.raises(ValueError, match="properties must be a dict, not list"):
        patch_langchain(properties=["web"])  # type: ignore[arg-type] # the same

    async def found_later(_: object) -> str:
        return "Hello"

    with pytest.raises(ValueError, match="output_key must be a plain function"):
        patch_langchain(output_key=found_later)


BEFORE_IMPORT = """
import sys
from trubrics_instrument import configure, flush, patch_langchain
configure(host=sys.argv[1], spool="off")
patch_langchain("ada", thread_id="t")
assert "langchain_core" not in sys.modules
from langchain_core.language_models.fake_chat_models import FakeListChatModel
FakeListChatModel(responses=["Yes."]).invoke("On time?")
assert flush(5)
"""


def test_before_import(sink: Sink) -> None:
    """It works before langchain_core is imported, and imports it not."""
    command = [*STRICT_PYTHON, "-c", BEFORE_IMPORT, sink.host]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert users(sink) == ["ada"]


def test_an_impossible_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a variable, where `configure()` was not called: nothing is on then."""
    monkeypatch.setenv("TRUBRICS_SAMPLE_RATE", "often")
    with pytest.raises(ValueError, match="TRUBRICS_SAMPLE_RATE"):
        patch_langchain()


async def test_undone_for_a_manager_that_is_kept(sink: Sink) -> None:
    """Undone, nothing more begins, though the app has kept what LangChain made before."""
    with patch_langchain("ada", thread_id="t"):
        kept = CallbackManager.configure()
    chain().invoke(GIVEN, {"callbacks": kept})
    model().invoke(QUESTION, {"callbacks": kept})
    assert users(sink) == []
    assert_nothing_left()


TWICE_BEFORE_IMPORT = """
import sys
from trubrics_instrument import configure, flush, patch_langchain, unpatch_langchain
configure(host=sys.argv[1], spool="off")
patch_langchain("ada", thread_id="t")
patch_langchain("bob", thread_id="t")
if "undone" in sys.argv:
    unpatch_langchain()
from langchain_core.language_models.fake_chat_models import FakeListChatModel
model = FakeListChatModel(responses=["Yes."])
model.invoke("On time?")
unpatch_langchain()
model.invoke("And the train?")
assert flush(5)
"""


@pytest.mark.parametrize("how", ["undone", "twice"])
def test_twice_before_import(how: str, sink: Sink) -> None:
    """Before it is imported too, the last one counts, and nothing is left of it once undone."""
    command = [*STRICT_PYTHON, "-c", TWICE_BEFORE_IMPORT, sink.host, how]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert users(sink) == ([] if how == "undone" else ["bob"])


def test_a_block_of_a_patch_that_was_taken_off() -> None:
    """It puts nothing on, in the block and after it."""
    patch = patch_langchain("ada")
    patch_langchain("bob")
    unpatch_langchain()
    with patch:
        assert not patch.active
    assert not patch.active
