"""One question that several assistants of an app are asked: it is classified, or handed over."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall, chat_chunks, chat_completion
from responses_wire import response_object

from tests.openai.asking import client_of, needs
from tests.replies import chat_stream, error_reply, json_reply
from tests.told import told
from trubrics_instrument import context, patch_openai
from trubrics_instrument._context import scope
from trubrics_instrument._conversations import turns
from trubrics_instrument._observing import which_turn
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback
    from tests.sink import Sink
    from trubrics_instrument.testing import Events

ADA: dict[str, Any] = {"user_id": "ada", "thread_id": "t-1"}
HANDS_OVER = Answer(tool_calls=(ToolCall("transfer", "{}", "call_1"),), usage=None)


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    """Give a client of a model that answers each question with its number."""
    patch_openai()
    answers = (json_reply(chat_completion(Answer(f"{n}.", usage=None))) for n in range(1, 99))
    server.always(lambda _: next(answers))
    with client_of(server, "sync") as client:
        yield client


@pytest.fixture
def events() -> Iterator[Events]:
    """Collect what is told."""
    with capture() as taken:
        yield taken


def ask(client: Any, instructions: str | None, *messages: Any, role: str = "system") -> None:
    """Ask an assistant, with what the user and the assistant have said in turn."""
    said = [
        {"role": "assistant" if number % 2 else "user", "content": text}
        for number, text in enumerate(messages)
    ]
    before = [] if instructions is None else [{"role": role, "content": instructions}]
    client.chat.completions.create(model="gpt-4o", messages=[*before, *said])


def picture(name: str) -> dict[str, Any]:
    """Return a part of a message."""
    return {"type": "image_url", "image_url": {"url": f"https://example.com/{name}.png"}}


def brief(sink: Sink, n: int) -> list[tuple[Any, ...]]:
    """Return event, text, prompt, and whether it is another answer, of the first `n` events."""
    events = told(sink, n)
    return [
        (one["event"], one.get("$text"), one["$prompt_id"], one.get("regenerated"))
        for one in events
    ]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_classified_first(role: str, client: Any, sink: Sink) -> None:
    """It is asked once, at the first turn and later, and no answer is another one."""
    for messages in (["When?"], ["When?", "2.", "And on Sundays?"]):
        with context(**ADA):
            ask(client, "Classify.", *messages, role=role)
            ask(client, "You are the desk.", *messages, role=role)
    assert brief(sink, 6) == [
        ("Prompt", "When?", "prompt 1", None),
        ("Generation", "1.", "prompt 1", None),
        ("Generation", "2.", "prompt 1", None),
        ("Prompt", "And on Sundays?", "prompt 2", None),
        ("Generation", "3.", "prompt 2", None),
        ("Generation", "4.", "prompt 2", None),
    ]


def test_classified_with_less_of_the_history(client: Any, sink: Sink) -> None:
    """A guardrail mostly gets the last message alone."""
    with context(**ADA):
        ask(client, "Classify.", "And on Sundays?")
        ask(client, "You are the desk.", "When?", "1.", "And on Sundays?")
    assert brief(sink, 3) == [
        ("Prompt", "And on Sundays?", "prompt 1", None),
        ("Generation", "1.", "prompt 1", None),
        ("Generation", "2.", "prompt 1", None),
    ]


@needs("responses")
@pytest.mark.parametrize("given", ["apart", "as the first item"])
def test_classified_by_responses(given: str, server: Loopback, client: Any, sink: Sink) -> None:
    """Instructions have a field of their own there, or are the first item."""
    server.always(json_reply(response_object(Answer("1.", usage=None))))
    item = {"role": "user", "content": "When?"}
    with context(**ADA):
        for instructions in ("Classify.", "You are the desk."):
            if given == "apart":
                client.responses.create(model="m", input="When?", instructions=instructions)
            else:
                first = {"role": "developer", "content": instructions}
                client.responses.create(model="m", input=[first, item])
    assert brief(sink, 3) == [
        ("Prompt", "When?", "prompt 1", None),
        ("Generation", "1.", "prompt 1", None),
        ("Generation", "1.", "prompt 1", None),
    ]


def test_a_resent_history_names_the_conversation(client: Any, sink: Sink) -> None:
    """Where nobody names the thread, the place in the history is enough."""
    ask(client, "You are the desk.", "When?")
    with context():
        ask(client, "Classify.", "When?", "1.", "And on Sundays?")
        ask(client, "You are the desk.", "When?", "1.", "And on Sundays?")
    assert brief(sink, 5)[2:] == [
        ("Prompt", "And on Sundays?", "prompt 2", None),
        ("Generation", "2.", "prompt 2", None),
        ("Generation", "3.", "prompt 2", None),
    ]


def test_regenerated(client: Any, sink: Sink) -> None:
    """The user wants another answer: all of that comes again."""
    ask(client, "You are the desk.", "Hi")
    for _ in range(2):
        with context():
            ask(client, "Classify.", "Hi", "1.", "When?")
            ask(client, "You are the desk.", "Hi", "1.", "When?")
    assert brief(sink, 7)[2:] == [
        ("Prompt", "When?", "prompt 2", None),
        ("Generation", "2.", "prompt 2", None),
        ("Generation", "3.", "prompt 2", None),
        ("Generation", "4.", "prompt 2", True),
        ("Generation", "5.", "prompt 2", True),
    ]


@pytest.mark.parametrize(
    ("around", "seen"),
    [(ADA, 3), ({"user_id": "ada"}, 3), (ADA, 1)],
    ids=["named", "inferred", "with less of the history"],
)
def test_tried_again(
    around: dict[str, Any], seen: int, server: Loopback, client: Any, sink: Sink
) -> None:
    """The last of the assistants failed, so each is asked again: that is no other question."""
    messages = ["When?", "1.", "And on Sundays?"]
    with context(**around):
        ask(client, "You are the desk.", "When?")
    texts = (chat_completion(Answer(text, usage=None)) for text in ("Yes.", "Yes.", "At 9."))
    allowed, again, done = map(json_reply, texts)
    server.script(allowed, error_reply(500), again, done)
    for _ in range(2):
        with context(**around), contextlib.suppress(openai.InternalServerError):
            ask(client, "Is this allowed?", *messages[-seen:])
            ask(client, "You are the desk.", *messages)
    assert brief(sink, 7)[2:] == [
        ("Prompt", "And on Sundays?", "prompt 2", None),
        ("Generation", "Yes.", "prompt 2", None),
        ("Generation failed", None, "prompt 2", None),
        ("Generation", "Yes.", "prompt 2", None),
        ("Generation", "At 9.", "prompt 2", None),
    ]


def test_after_it_was_tried_again(server: Loopback, client: Any, sink: Sink) -> None:
    """Once it is answered, the same words alone are another question."""
    server.script(json_reply(chat_completion(Answer("Yes.", usage=None))), error_reply(500))
    with context(**ADA), contextlib.suppress(openai.InternalServerError):
        ask(client, "Is this allowed?", "Go on.")
        ask(client, "You are the desk.", "When?", "At 9.", "Go on.")
    with context(**ADA):
        ask(client, "You are the desk.", "When?", "At 9.", "Go on.")
    with context(**ADA):
        ask(client, "Is this allowed?", "Go on.")
    assert [(event, prompt) for event, _, prompt, _ in brief(sink, 6)] == [
        ("Prompt", "prompt 1"),
        ("Generation", "prompt 1"),
        ("Generation failed", "prompt 1"),
        ("Generation", "prompt 1"),
        ("Prompt", "prompt 2"),
        ("Generation", "prompt 2"),
    ]


@pytest.mark.parametrize(
    ("around", "assistants"),
    [(ADA, ["You are the desk."]), ({"user_id": "ada"}, ["Is this allowed?", "You are the desk."])],
    ids=["one assistant", "no conversation"],
)
def test_the_same_words_alone(
    around: dict[str, Any], assistants: list[str], server: Loopback, client: Any, sink: Sink
) -> None:
    """Only of several assistants, and in a known conversation, are they what failed."""
    allowed = json_reply(chat_completion(Answer("Yes.", usage=None)))
    with context(**around):
        ask(client, "You are the desk.", "When?")
    server.script(*[allowed] * (len(assistants) - 1), error_reply(500))
    with context(**around), contextlib.suppress(openai.InternalServerError):
        for one in assistants:
            ask(client, one, "When?", "1.", "Go on.")
    with context(**around):
        ask(client, "Is this allowed?", "Go on.")
    prompts = [
        prompt for event, _, prompt, _ in brief(sink, 5 + len(assistants)) if event == "Prompt"
    ]
    assert prompts == ["prompt 1", "prompt 2", "prompt 3"]


def test_the_same_words_again(client: Any, sink: Sink) -> None:
    """Who is asked a second time in one block is asked anew: a WebSocket may last for long."""
    with context(**ADA):
        for _ in range(2):
            ask(client, "Classify.", "Yes")
            ask(client, "You are the desk.", "Yes")
    assert brief(sink, 6) == [
        ("Prompt", "Yes", "prompt 1", None),
        ("Generation", "1.", "prompt 1", None),
        ("Generation", "2.", "prompt 1", None),
        ("Prompt", "Yes", "prompt 2", None),
        ("Generation", "3.", "prompt 2", None),
        ("Generation", "4.", "prompt 2", None),
    ]


@pytest.mark.parametrize(
    ("around", "first", "second"),
    [
        (ADA, ("You are the desk.", "Yes"), ("You are the desk.", "Yes")),
        (ADA, (None, "Yes"), (None, "Yes")),
        (ADA, ("Classify.", "Yes"), ("You are the desk.", "No")),
        (ADA, ("Classify.", [picture("horse")]), ("You are the desk.", [picture("bear")])),
        ({"user_id": "ada"}, ("Invoice 1", "Sum it up"), ("Invoice 2", "Sum it up")),
    ],
    ids=[
        *("the same assistant", "nobody's", "other words", "another picture"),
        "no conversation",
    ],
)
def test_two_questions(
    around: dict[str, Any],
    first: tuple[Any, ...],
    second: tuple[Any, ...],
    client: Any,
    sink: Sink,
) -> None:
    """What is not surely the same question is another one."""
    with context(**around):
        ask(client, *first)
        ask(client, *second)
    assert [(event, prompt) for event, _, prompt, _ in brief(sink, 4)] == [
        ("Prompt", "prompt 1"),
        ("Generation", "prompt 1"),
        ("Prompt", "prompt 2"),
        ("Generation", "prompt 2"),
    ]


def test_outside_of_blocks(client: Any, sink: Sink) -> None:
    """A thread that serves one user after the other, or one for long, holds nothing together."""
    patch_openai(user_id="ada", thread_id="t-1")
    ask(client, "It is 9:00.", "Yes")
    ask(client, "It is 9:05.", "Yes")
    assert [prompt for _, _, prompt, _ in brief(sink, 4)] == ["prompt 1"] * 2 + ["prompt 2"] * 2


def test_handed_over(server: Loopback, client: Any, sink: Sink) -> None:
    """Another agent answers, and does not see the tool call that handed the question to it."""
    done = Answer("It is on its way.", usage=None)
    server.script(*(json_reply(chat_completion(one)) for one in (HANDS_OVER, done)))
    with context(**ADA):
        ask(client, "You are the desk.", "I want a refund")
        ask(client, "You are refunds.", "I want a refund")
    assert brief(sink, 3) == [
        ("Prompt", "I want a refund", "prompt 1", None),
        ("Tool call", None, "prompt 1", None),
        ("Generation", "It is on its way.", "prompt 1", None),
    ]


def test_of_another_user(client: Any, sink: Sink) -> None:
    """A block may be around several users."""
    with context(**ADA):
        ask(client, "You are the desk.", "Yes")
        with context(user_id="bob"):
            ask(client, "You are Bob's desk.", "Yes")
    assert [prompt for _, _, prompt, _ in brief(sink, 4)] == ["prompt 1"] * 2 + ["prompt 2"] * 2


def test_later(client: Any, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instructions hold the time, and the user says the same again: that takes a while."""
    monkeypatch.setattr(which_turn, "_SOON_S", 0)
    with context(**ADA):
        ask(client, "It is 9:00.", "Next")
        ask(client, "It is 9:01.", "Next")
    assert [prompt for _, _, prompt, _ in brief(sink, 4)] == ["prompt 1"] * 2 + ["prompt 2"] * 2


@pytest.mark.parametrize(
    ("begins_s", "ends_s", "prompts"),
    [(0, 99, 1), (99, None, 1), (0, None, 2)],
    ids=["just over", "just begun", "at work for long"],
)
def test_what_is_soon(
    begins_s: int,
    ends_s: int | None,
    prompts: int,
    server: Loopback,
    client: Any,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts from the last call's end, or from its beginning if that is not over."""
    now_s = [begins_s]
    clock = SimpleNamespace(monotonic=lambda: now_s[0])
    monkeypatch.setattr(turns, "time", clock)
    monkeypatch.setattr(which_turn, "time", clock)
    server.script(chat_stream(chat_chunks(Answer("Trams.", usage=None))))
    question = {"role": "user", "content": "When?"}
    with context(**ADA):
        stream = client.chat.completions.create(model="m", messages=[question], stream=True)
        if ends_s is not None:
            now_s[:] = [ends_s]
            assert list(stream)
        now_s[:] = [100]
        ask(client, "You are the desk.", "When?")
    assert len(events.named("Prompt")) == prompts
    stream.close()


def test_another_project(client: Any, sink: Sink) -> None:
    """What is told to another destination has a Prompt there too."""
    with context(**ADA):
        ask(client, "Classify.", "When?")
        with patch_openai(host=sink.host, api_key="another"):
            ask(client, "You are the desk.", "When?")
    # Each has a sender of its own.
    arrived = sorted((event, prompt) for event, _, prompt, _ in brief(sink, 4))
    assert arrived == [(name, f"prompt {n}") for name in ("Generation", "Prompt") for n in (1, 2)]


def test_handed_over_after_a_tool(server: Loopback, client: Any, sink: Sink) -> None:
    """The agent before has used a tool, and was sent a window without the question then."""
    call = {
        "role": "assistant",
        "tool_calls": chat_completion(HANDS_OVER)["choices"][0]["message"]["tool_calls"],
    }
    result = {"role": "tool", "tool_call_id": "call_1", "content": "Done."}
    done = Answer("It is on its way.", usage=None)
    again = Answer(tool_calls=(ToolCall("transfer", "{}", "call_2"),), usage=None)
    server.script(*(json_reply(chat_completion(one)) for one in (HANDS_OVER, again, done)))
    with context(**ADA):
        ask(client, "You are the desk.", "I want a refund")
        client.chat.completions.create(model="m", messages=[call, result])
        ask(client, "You are refunds.", "I want a refund")
    assert [(event, prompt) for event, _, prompt, _ in brief(sink, 4)] == [
        ("Prompt", "prompt 1"),
        ("Tool call", "prompt 1"),
        ("Tool call", "prompt 1"),
        ("Generation", "prompt 1"),
    ]


def test_only_so_many_assistants_are_remembered(client: Any, sink: Sink) -> None:
    """A turn has bounds, whatever an app makes of its instructions."""
    with context(**ADA):
        for number in range(20):
            ask(client, f"You are number {number}.", "Yes")
        turn = scope.last_turn()
    assert len(turn.instructed) == 8
    assert [event for event, *_ in brief(sink, 21)] == ["Prompt", *["Generation"] * 20]
