"""Inferred threads: an app that only resends its history gets the right conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, ToolCall, chat_completion
from responses_wire import response_object

from tests.openai.asking import needs
from tests.replies import error_reply, json_reply
from tests.told import told
from trubrics_instrument import context
from trubrics_instrument._context import scope
from trubrics_instrument._conversations.threads import Threads
from trubrics_instrument._conversations.trail import History, Trail

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.sink import Sink

CALL = ToolCall("get_weather", "{}", "call_7")


def prompts(sink: Sink, n: int) -> list[tuple[Any, ...]]:
    """Return text, prompt and thread of each event that has a text."""
    return [(one["$text"].strip(), one["$prompt_id"], one["$thread_id"]) for one in told(sink, n)]


@pytest.mark.parametrize("window", [100, 4, 2], ids=["whole", "last four", "last two"])
def test_a_conversation(window: int, bots: Any, sink: Sink) -> None:
    """Each turn is found by the history before it, whole or through a window."""
    bot = bots(window)
    for number in range(4):
        bot.ask(f"Question {number}?", f"Answer {number}.")
    assert prompts(sink, 8) == [
        line
        for number in range(4)
        for line in (
            (f"Question {number}?", f"prompt {number + 1}", "thread 1"),
            (f"Answer {number}.", f"prompt {number + 1}", "thread 1"),
        )
    ]
    assert all(event["properties"]["thread_inferred"] for event in sink.events)


@pytest.mark.parametrize("user", ["ada", None], ids=["named", "anonymous"])
def test_two_conversations_that_begin_alike(user: str | None, bots: Any, sink: Sink) -> None:
    """The same first words again are a new conversation; each goes on where it stood."""
    with context(user_id=user):
        one = bots()
        one.ask("Hi", "Hello!")
        one.ask("Trams?", "Every ten minutes.")
        other = bots()
        other.ask("Hi", "Hello!")
        other.ask("Bikes?", "At the station.")
        one.ask("Thanks", "You're welcome!")
        other.ask("Thanks", "You're welcome!")
    threads = [event["$thread_id"] for event in told(sink, 12)]
    assert threads == ["thread 1"] * 4 + ["thread 2"] * 4 + ["thread 1"] * 2 + ["thread 2"] * 2


def test_strangers_in_turns(bots: Any, sink: Sink) -> None:
    """Two strangers at the same place are told apart as well as can be: no thread has both."""
    one, other = bots(), bots()
    for bot in (one, other):
        bot.ask("Hi", "Hello!")
    one.ask("Trams?", "Soon.")
    other.ask("Bikes?", "At the station.")
    threads = [event["$thread_id"] for event in told(sink, 8)][4::2]
    assert sorted(threads) == ["thread 1", "thread 2"]


def test_a_common_answer(bots: Any, sink: Sink) -> None:
    """A stranger is not taken for another one because both were told "You're welcome!"."""
    bots().ask("Thanks", "You're welcome!")
    other = bots()
    other.messages = [
        {"role": "user", "content": "Buses?"},
        {"role": "assistant", "content": "You're welcome!"},
    ]
    other.ask("And trams?", "Soon.")
    assert [event["$thread_id"] for event in told(sink, 4)][::2] == ["thread 1", "thread 2"]


def test_users_who_say_the_same(bots: Any, sink: Sink) -> None:
    """The same words of two users are two conversations, one for each, in any order."""
    ada, bob = bots(), bots()
    for question, answer in (("Hi", "Hello!"), ("Trams?", "Soon."), ("Thanks", "Bye!")):
        for user, bot in (("ada", ada), ("bob", bob)):
            with context(user_id=user):
                bot.ask(question, answer)
    pairs = {(event["user_id"], event["$thread_id"]) for event in told(sink, 12)}
    assert pairs == {("ada", "thread 1"), ("bob", "thread 2")}


def test_another_answer(bots: Any, sink: Sink) -> None:
    """Another answer to the same question is a second Generation, and no second Prompt."""
    bot = bots()
    bot.ask("Hi", "Hello!")
    bot.ask("Trams?", "Soon.")
    bot.forget(1)
    bot.again("In ten minutes.")
    bot.ask("Thanks", "Bye!")
    events = told(sink, 7)
    assert [(one["event"], one["$text"].strip(), one["$prompt_id"]) for one in events[2:]] == [
        ("Prompt", "Trams?", "prompt 2"),
        ("Generation", "Soon.", "prompt 2"),
        ("Generation", "In ten minutes.", "prompt 2"),
        ("Prompt", "Thanks", "prompt 3"),
        ("Generation", "Bye!", "prompt 3"),
    ]
    assert [one.get("regenerated") for one in events] == [None] * 4 + [True, None, None]
    assert {one["$thread_id"] for one in events} == {"thread 1"}


def test_an_edited_question(bots: Any, sink: Sink) -> None:
    """An edited question is a new prompt of the same conversation."""
    bot = bots()
    bot.ask("Hi", "Hello!")
    bot.ask("Trams?", "Soon.")
    bot.forget(2)
    bot.ask("Night trams?", "At one.")
    assert prompts(sink, 6)[4:] == [
        ("Night trams?", "prompt 3", "thread 1"),
        ("At one.", "prompt 3", "thread 1"),
    ]


def test_the_same_short_reply(bots: Any, sink: Sink) -> None:
    """The same words at another place of the conversation are another prompt."""
    bot = bots()
    bot.ask("Hi", "Hello!")
    bot.ask("go on", "One.")
    bot.ask("go on", "Two.")
    assert [prompt for _, prompt, _ in prompts(sink, 6)] == [
        f"prompt {number}" for number in (1, 1, 2, 2, 3, 3)
    ]


def test_examples_before_each_question(bots: Any, sink: Sink) -> None:
    """Messages which the app puts before every question are no conversation that goes on."""
    questions = [f"Question {number}?" for number in range(6)]
    for question in questions:
        bot = bots()
        bot.messages = [
            {"role": "user", "content": "An example?"},
            {"role": "assistant", "content": "An answer as it should be."},
        ]
        bot.ask(question, f"Answer to {question}")
    threads = [event["$thread_id"] for event in told(sink, 12)][::2]
    assert len(set(threads[2:])) == 4
    assert len({event["properties"]["$prompt_id"] for event in sink.events}) == 6


def test_the_same_question_after_examples(bots: Any, sink: Sink) -> None:
    """After examples the same question is asked as often as it is asked."""
    for _ in range(2):
        bot = bots()
        bot.messages = [{"role": "assistant", "content": "How can I help?"}]
        bot.ask("Next", "Done.")
    assert [event["event"] for event in told(sink, 4)] == ["Prompt", "Generation"] * 2


@pytest.mark.parametrize(("user_id", "threads"), [("ada", 1), (None, 3)])
def test_the_same_question_after_a_restart(
    user_id: str | None, threads: int, bots: Any, sink: Sink
) -> None:
    """A user may want another answer in a conversation of before; strangers are not all one."""
    with context(user_id=user_id):
        for number in range(4):
            bot = bots()
            bot.messages = [
                {"role": "user", "content": "Tell me about Oslo"},
                {"role": "assistant", "content": "Oslo is the capital of Norway, at a fjord."},
            ]
            bot.ask("How many live there?", f"{number} million.")
    assert len({event["$thread_id"] for event in told(sink, 8)}) == threads


def test_a_failed_question(bots: Any, sink: Sink, server: Loopback) -> None:
    """A conversation whose first call failed goes on under the same thread."""
    bot = bots()
    server.script(error_reply(400))
    with pytest.raises(Exception, match="Scripted"):
        bot.client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    bot.messages = [{"role": "user", "content": "Hi"}]
    bot.ask("Are you there?", "Yes.")
    assert {event["$thread_id"] for event in told(sink, 4)} == {"thread 1"}


def test_an_outage_for_strangers(bots: Any, sink: Sink, server: Loopback) -> None:
    """Two strangers whose same question fails are two prompts: nobody retried anything."""
    for _ in range(2):
        bot = bots()
        server.script(error_reply(500))
        with scope.Request(), pytest.raises(Exception, match="Scripted"):
            bot.client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi"}]
            )
    names = [event["event"] for event in told(sink, 4)]
    assert names == ["Prompt", "Generation failed"] * 2


def test_a_named_thread_that_loses_its_name(bots: Any, sink: Sink) -> None:
    """A conversation that was named once keeps its name where the app forgets to say it."""
    bot = bots()
    with context(thread_id="support-7"):
        bot.ask("Hi", "Hello!")
    bot.ask("Trams?", "Soon.")
    assert [event["properties"]["$thread_id"] for event in sink.wait_for(4)] == ["support-7"] * 4


@pytest.mark.parametrize("typed", [True, False], ids=["context(prompt=...)", "nothing said"])
def test_documents_around_the_question(
    typed: bool, bots: Any, sink: Sink, server: Loopback
) -> None:
    """An app that sends documents with the question, and keeps the question, is told right."""
    bot = bots()
    for number in range(3):
        question, answer = f"Question {number}?", f"Answer {number}: {'some words ' * 10}."
        template = {"role": "user", "content": f"Documents: ... Question: {question}"}
        server.script(json_reply(chat_completion(Answer(answer, usage=None))))
        with context(prompt=question if typed else None):
            bot.client.chat.completions.create(model="m", messages=[*bot.messages, template])
        bot.messages.append({"role": "user", "content": question})
        bot.messages.append({"role": "assistant", "content": answer})
    assert {event["$thread_id"] for event in told(sink, 6)} == {"thread 1"}


def test_documents_in_the_history(bots: Any, sink: Sink, server: Loopback) -> None:
    """An app that resends what it sent, documents and all, is told right, said what was typed."""
    bot = bots()
    for question in ("Open?", "On Sundays?", "With dogs?"):
        bot.messages.append({"role": "user", "content": f"Documents: ... Question: {question}"})
        server.script(json_reply(chat_completion(Answer("Yes.", usage=None))))
        with context(prompt=question):
            bot.client.chat.completions.create(model="m", messages=bot.messages)
        bot.messages.append({"role": "assistant", "content": "Yes."})
    assert {event["$thread_id"] for event in told(sink, 6)} == {"thread 1"}


def test_what_the_user_typed_is_the_opening(bots: Any, sink: Sink, server: Loopback) -> None:
    """What was typed opens the conversation, even where answers are too short to tell."""
    bot = bots()
    server.script(json_reply(chat_completion(Answer("Yes.", usage=None))))
    with context(prompt="Open?"):
        bot.client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Documents: ... Open?"}]
        )
    bot.messages = [
        {"role": "user", "content": "Open?"},
        {"role": "assistant", "content": "Yes. [1]"},
    ]
    bot.ask("And on Sundays?", "No.")
    assert {event["$thread_id"] for event in told(sink, 4)} == {"thread 1"}


def test_tools_in_the_history(bots: Any, sink: Sink, server: Loopback) -> None:
    """Tool calls and their results do not hide how a conversation went."""
    bot = bots(4)
    bot.messages = [{"role": "user", "content": "Rain?"}]
    calls = chat_completion(Answer("Let me see.", tool_calls=(CALL,), usage=None))
    server.script(json_reply(calls))
    bot.client.chat.completions.create(model="m", messages=bot.messages)
    bot.messages.append(calls["choices"][0]["message"])
    bot.messages.append({"role": "tool", "tool_call_id": "call_7", "content": "dry"})
    bot.again("No.")
    bot.ask("Sun?", "Yes.")
    events = told(sink, 6)
    assert [one["event"] for one in events].count("Prompt") == 2
    assert {one["$thread_id"] for one in events} == {"thread 1"}


def test_many_tools_in_the_history(bots: Any, sink: Sink, server: Loopback) -> None:
    """However many tools a turn had, who gets the same short answer has another conversation."""
    client = bots().client
    server.always(lambda _: json_reply(chat_completion(Answer("Done.", usage=None))))
    call = chat_completion(Answer(None, tool_calls=(CALL,)))["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_7", "content": "dry"}
    histories: list[list[Any]] = [
        [{"role": "user", "content": f"Task {number}"}, *[call, result] * 20] for number in range(2)
    ]
    for history in histories:
        client.chat.completions.create(model="m", messages=history[:1])
    for history in histories:
        answer = {"role": "assistant", "content": "Done."}
        goes_on = [*history, answer, {"role": "user", "content": "Next"}]
        client.chat.completions.create(model="m", messages=goes_on)
    asked = [one for one in told(sink, 8) if one["event"] == "Prompt"]
    assert [(one["$text"], one["$thread_id"]) for one in asked] == [
        ("Task 0", "thread 1"),
        ("Task 1", "thread 2"),
        ("Next", "thread 1"),
        ("Next", "thread 2"),
    ]


@needs("responses")
def test_responses_with_whole_input(bots: Any, sink: Sink, server: Loopback) -> None:
    """The Responses API resends a history as items, and is told the same way."""
    client = bots().client
    server.script(*(json_reply(response_object(Answer(text, id=text))) for text in ("One", "Two")))
    question: Any = {"role": "user", "content": "Hi"}
    first = client.responses.create(model="m", input=[question])
    client.responses.create(
        model="m", input=[question, *first.output, {"role": "user", "content": "And?"}]
    )
    assert {event["$thread_id"] for event in told(sink, 4)} == {"thread 1"}


@needs("responses")
def test_another_response(bots: Any, sink: Sink, server: Loopback) -> None:
    """The same input after the same response is the same prompt, answered again."""
    client = bots().client
    server.script(
        *(json_reply(response_object(Answer(text, id=text))) for text in ("One", "Two", "Three"))
    )
    client.responses.create(model="m", input="Hi")
    for _ in range(2):
        client.responses.create(model="m", input="And?", previous_response_id="One")
    events = told(sink, 5)
    assert [(one["event"], one["$text"], one["$prompt_id"]) for one in events[2:]] == [
        ("Prompt", "And?", "prompt 2"),
        ("Generation", "Two", "prompt 2"),
        ("Generation", "Three", "prompt 2"),
    ]
    assert {one["$thread_id"] for one in events} == {"thread 1"}


def test_a_rewritten_question_before_a_short_answer(bots: Any, sink: Sink) -> None:
    """A known user's short answer is enough to go on from, where the app rewrote its question."""
    bot = bots()
    with context(user_id="ada"):
        bot.ask("Is it open?", "Yes.")
        bot.messages[0] = {"role": "user", "content": "The museum: is it open?"}
        bot.ask("And tomorrow?", "No.")
    assert prompts(sink, 4) == [
        ("Is it open?", "prompt 1", "thread 1"),
        ("Yes.", "prompt 1", "thread 1"),
        ("And tomorrow?", "prompt 2", "thread 1"),
        ("No.", "prompt 2", "thread 1"),
    ]


def test_the_same_first_words_on_two_machines() -> None:
    """Those that share nothing name a user's opening alike, and that of no other user."""
    askers = ("ada", "ada", "bob", None)
    trails = [Trail(asker, History("Hi", begins=True), "Hi") for asker in askers]
    first, again, *others = [Threads().open(trail) for trail in trails]
    assert first == again
    assert len({first, *others}) == 3
