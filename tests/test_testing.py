"""What users' own tests get: `capture()` and the fixture `trubrics_events`."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from openai import NotFoundError, OpenAI

import trubrics_instrument
from tests.replies import error_reply, json_reply
from trubrics_instrument import _runtime
from trubrics_instrument._base import shield
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument.testing import Captured, Events, capture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Loopback
    from tests.sink import Sink

ASKED = {"model": "m", "messages": [{"role": "user", "content": "When do you open?"}]}
ANSWERED = {
    "id": "answer-1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "At nine."},
        }
    ],
}


def ask(server: Loopback) -> None:
    """Ask what an app would ask."""
    with OpenAI(api_key="k", base_url=server.base_url, max_retries=0) as client:
        client.chat.completions.create(**ASKED)  # type: ignore[call-overload] # a plain dict


def test_events_are_plain_values(server: Loopback) -> None:
    """A conversation is captured as it would arrive, in fields that can be compared whole."""
    server.script(json_reply(ANSWERED))
    with (
        trubrics_instrument.patch_openai(),
        capture() as events,
        trubrics_instrument.context(user_id="ada", thread_id="t-1"),
    ):
        ask(server)
    prompt, generation = events
    assert prompt == Captured(
        event="Prompt",
        user_id="ada",
        text="When do you open?",
        thread_id="t-1",
        assistant_id=None,
        prompt_id=generation.prompt_id,
        generation_id=None,
        timestamp=prompt.timestamp,
        properties={
            "framework": "openai",
            "provider": "127.0.0.1",
            "operation": "chat",
            "model": "m",
        },
    )
    assert (generation.generation_id, generation.assistant_id) == ("answer-1", "m")
    assert events.turns() == [("When do you open?", "At nine.")]
    assert events.one("Generation", model_calls=1, text="At nine.") is generation


def test_an_unanswered_question_is_a_turn_too(server: Loopback) -> None:
    """A call that fails leaves its question, paired with nothing."""
    server.script(error_reply(404))
    with trubrics_instrument.patch_openai(), capture() as events:
        with pytest.raises(NotFoundError):
            ask(server)
        assert events.turns() == [("When do you open?", None)]
        events.none("Generation")
        assert events.one("Generation failed").get("error_type") == "NotFoundError"


def test_a_rated_answer_is_the_same_turn(server: Loopback) -> None:
    """What the user says of an answer is neither a question nor an answer."""
    server.script(json_reply(ANSWERED))
    with trubrics_instrument.patch_openai(), capture() as events:
        ask(server)
        trubrics_instrument.feedback(None, 1, comment="Great")
        assert events.turns() == [("When do you open?", "At nine.")]


def test_nothing_leaves_the_process(sink: Sink) -> None:
    """Neither the configured host nor one that is configured inside hears of a captured event."""
    with capture() as events:
        trubrics_instrument.track("one")
        trubrics_instrument.configure(host=sink.host)
        trubrics_instrument.track("two")
        assert trubrics_instrument.flush()
        assert trubrics_instrument.shutdown()
    trubrics_instrument.track("three")
    assert [event.event for event in events] == ["one", "two"]
    assert [event["event"] for event in sink.wait_for(1)] == ["three"]


def test_what_is_configured_holds(sink: Sink) -> None:
    """Redaction, names and `before_send` are those of the app; switched off or sampled is not."""

    def before_send(event: dict[str, object]) -> dict[str, object] | None:
        return None if event["event"] == "unwanted" else event

    trubrics_instrument.configure(
        enabled=False,
        sample_rate=0.0,
        event_names={"Sign in": "Login"},
        before_send=before_send,
        redact="pii",
    )
    with capture() as events:
        trubrics_instrument.track("Sign in", {"$text": "I am ada@example.com"}, user_id="ada")
        trubrics_instrument.track("unwanted")
    assert [(event.event, event.text) for event in events] == [("Login", "I am [EMAIL]")]
    assert not _runtime.config().enabled


@pytest.mark.parametrize("off", [{"enabled": False}, {"sample_rate": 0.0}, {}], ids=str)
def test_what_is_configured_inside_is_not_off(
    off: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that a test makes configures itself, perhaps where the environment switches off."""
    if not off:
        monkeypatch.setenv("TRUBRICS_ENABLED", "0")
    with capture() as events:
        trubrics_instrument.configure(**off)
        trubrics_instrument.track("Sign in", user_id="ada")
    assert [event.event for event in events] == ["Sign in"]


def test_what_is_tested_is_no_news_for_other_processes(sink: Sink) -> None:
    """Nor do they tell it anything: another test may have failed at the same question."""
    with capture():
        trubrics_instrument.configure(host=sink.host, spool="auto")
        assert _runtime.state().threads.board is None
    trubrics_instrument.configure(host=sink.host, spool="auto")
    assert (_runtime.state().threads.board is None) == (sys.platform != "linux")


@pytest.mark.parametrize("enabled", [False, True])
def test_no_memory_is_shared_for_a_test(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes none itself, and afterwards the app has what it had."""
    shared: list[Board] = []

    def share(_: str) -> Board:
        shared.append(Board(bytearray(BOARD_BYTES)))
        return shared[-1]

    monkeypatch.setattr(_runtime, "shared_board", share)
    trubrics_instrument.configure(host="http://127.0.0.1:9", spool="auto", enabled=enabled)
    board = _runtime.state().threads.board
    with capture(), capture():
        assert _runtime.state().threads.board is None
    assert _runtime.state().threads.board is board
    assert len(shared) == enabled


def test_each_capture_starts_anew() -> None:
    """Who was identified before, or in another test, asks in none."""
    contextvars.copy_context().run(_identify_and_capture)


def _identify_and_capture() -> None:
    trubrics_instrument.identify("eve")
    with capture() as events:
        trubrics_instrument.track("Sign in")
        trubrics_instrument.identify("ada")
        trubrics_instrument.track("Sign in")
    with capture() as later:
        trubrics_instrument.track("Sign in")
    assert [event.get("anonymous") for event in events] == [True, None]
    assert events[1].user_id == "ada"
    assert later[0].get("anonymous")


def failure(events: Events, event: str, **expected: object) -> str:
    """Return the message with which `one()` fails."""
    with pytest.raises(AssertionError) as failed:
        events.one(event, **expected)
    return str(failed.value)


def test_a_failed_assertion_says_what_there_was() -> None:
    """The nearest event is shown with its differences, and then all of them."""
    with capture() as events:
        trubrics_instrument.track("Sign in", {"plan": "free"}, user_id="ada")
        trubrics_instrument.track("Sign in", {"plan": "paid"}, user_id="bob")
        assert failure(events, "Sign in", user_id="ada", plan="paid") == (
            "no event is 'Sign in' with user_id='ada', plan='paid': the nearest Sign in differs in"
            "\n  plan: expected 'paid', is 'free'"
            "\nAmong 2 captured:"
            "\n  Sign in: user_id='ada'"
            "\n  Sign in: user_id='bob'"
        )
        assert failure(events, "Sign in") == (
            "2 events are 'Sign in', not one:\n  Sign in: user_id='ada'\n  Sign in: user_id='bob'"
        )
        assert failure(events, "Login") == f"no event is 'Login': {repr(events)[1:-1]}"
        with pytest.raises(AssertionError, match="no event was to be 'Sign in' with plan='free'"):
            events.none("Sign in", plan="free")


def test_an_empty_capture_says_why_that_may_be() -> None:
    """The commonest mistakes are named: nothing is patched, or the app asked outside."""
    nothing = (
        "no event is 'Prompt': nothing was captured. Patched: {}."
        " Did the app ask inside of capture(), and outside of suppress()?"
    )
    with capture() as events:
        unpatched = "nothing (patch_openai(), or a TrubricsCallbackHandler)"
        assert failure(events, "Prompt") == nothing.format(unpatched)
        with trubrics_instrument.patch_openai():
            assert failure(events, "Prompt") == nothing.format("openai")
        with pytest.raises(AssertionError, match=r"after 0\.01 s, of 1 expected: nothing was"):
            events.wait_for(1, timeout_s=0.01)


def test_an_event_of_a_thread_is_waited_for() -> None:
    """An app that answers in the background is waited for, not slept for."""
    with capture() as events:
        thread = threading.Thread(target=trubrics_instrument.track, args=("later",))
        thread.start()
        assert [event.event for event in events.wait_for(1)] == ["later"]
        thread.join()


def test_a_fault_in_preparing_is_counted() -> None:
    """A `before_send` that raises costs its event, as it does in production."""
    shield.set_strict(strict=False)

    def raises(_: dict[str, object]) -> None:
        raise ZeroDivisionError

    trubrics_instrument.configure(before_send=raises)
    with capture() as events:
        trubrics_instrument.track("Sign in")
    assert (list(events), shield.faults()) == ([], {"preparing an event for a test": 1})


def test_the_fixture_is_there_for_everybody(tmp_path: Path) -> None:
    """Nobody has to ask for `trubrics_events`, and each test gets an empty one."""
    (tmp_path / "test_app.py").write_text(
        "import trubrics_instrument\n"
        "def test_sign_in(trubrics_events):\n"
        "    trubrics_instrument.track('Sign in', user_id='ada')\n"
        "    assert trubrics_events.one('Sign in').user_id == 'ada'\n"
        "def test_the_next(trubrics_events):\n"
        "    assert list(trubrics_events) == []\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout


def test_the_plugin_is_light() -> None:
    """A test run that does not use the fixture pays for no import but pytest's own."""
    program = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import trubrics_instrument.pytest_plugin\n"
        "print(*sorted({name for name in set(sys.modules) - before}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.split() == ["trubrics_instrument", "trubrics_instrument.pytest_plugin"]
