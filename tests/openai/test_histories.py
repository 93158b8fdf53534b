"""Histories as apps make them: summarised, changed, answered again, and many at the same time."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from openai_wire import Answer, chat_completion

from tests.interleaving import meanwhile
from tests.openai.asking import client_of
from tests.replies import json_reply
from tests.told import told
from trubrics_instrument import context, patch_openai
from trubrics_instrument._conversations.threads import Threads
from trubrics_instrument._conversations.trail import History, Trail
from trubrics_instrument._observing import conversation

if TYPE_CHECKING:
    from tests.loopback import Loopback, Request
    from tests.openai.chatbot import Bot
    from tests.replies import Reply
    from tests.sink import Sink

CANNED = "I am sorry, but that is nothing that I can help with. " * 2
USERS = pytest.mark.parametrize("user", ["ada", None], ids=["named", "anonymous"])


def threads_of(sink: Sink, n: int) -> list[str]:
    """Return the thread of each of the first `n` events that are Prompts."""
    return [one["$thread_id"] for one in told(sink, n) if one["event"] == "Prompt"]


@USERS
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_summary(role: str, user: str | None, bots: Any, sink: Sink) -> None:
    """A conversation goes on where its first part is replaced by a summary, whoever says it."""
    bot = bots()
    with context(user_id=user):
        for number in range(4):
            bot.ask(f"Question {number}?", f"Answer {number}.")
            if number:
                summary = {"role": role, "content": f"So far: {number} questions."}
                bot.messages = [summary, *bot.messages[-2:]]
    assert threads_of(sink, 8) == ["thread 1"] * 4


@pytest.mark.parametrize("window", [100, 3], ids=["whole", "last three"])
def test_a_changed_answer(window: int, bots: Any, sink: Sink) -> None:
    """An answer that the app has changed is known by its question, for a user who is known."""
    bot, other = bots(window), bots(window)
    with context(user_id="ada"):
        other.ask("Buses?", "Never.")
        for number in range(3):
            bot.ask(f"Question {number}?", f"Answer {number}.")
            bot.messages[-1]["content"] = f"Rewritten by an editor: {number}"
    assert threads_of(sink, 8) == ["thread 1"] + ["thread 2"] * 3


@USERS
def test_a_branch(user: str | None, bots: Any, sink: Sink) -> None:
    """Back two questions, and on from there: a new prompt of the same conversation."""
    bot = bots()
    with context(user_id=user):
        for number in range(4):
            bot.ask(f"Question {number}?", f"Answer {number}.")
        bot.forget(4)
        bot.ask("Something else?", "Yes.")
        bot.ask("And then?", "No.")
    assert threads_of(sink, 12) == ["thread 1"] * 6
    prompts = [one["properties"]["$prompt_id"] for one in sink.events]
    assert len(set(prompts)) == 6


def test_a_long_answer_given_twice(bots: Any, sink: Sink) -> None:
    """Two conversations with the same long answer stay two where one goes back to it."""
    one, other = bots(), bots()
    with context(user_id="ada"):
        one.ask("May I ride without a ticket?", CANNED)
        one.ask("Why?", "It is not allowed.")
        other.ask("May I ride a horse?", CANNED)
        one.forget(2)
        one.ask("Who says so?", "The city.")
        other.ask("Is that so?", "Yes.")
    assert threads_of(sink, 10) == ["thread 1", "thread 1", "thread 2", "thread 1", "thread 2"]


def test_a_changed_answer_to_documents(bots: Any, sink: Sink, server: Loopback) -> None:
    """What was typed is what the app resends, so it finds the conversation, whatever else is."""
    bot = bots()
    with context(user_id="ada"):
        for number in range(3):
            typed = f"Question {number}?"
            sent = {"role": "user", "content": f"Documents {number} ... {typed}"}
            server.script(json_reply(chat_completion(Answer(f"Answer {number}.", usage=None))))
            with context(prompt=typed):
                bot.client.chat.completions.create(model="m", messages=[*bot.messages[-2:], sent])
            bot.messages.append({"role": "user", "content": typed})
            bot.messages.append({"role": "assistant", "content": f"Rewritten: {number}"})
    assert threads_of(sink, 6) == ["thread 1"] * 3


def test_nobody_has_said_anything(bots: Any, sink: Sink, server: Loopback) -> None:
    """A request without any words of a user is a conversation of its own, each time."""
    server.always(_answer)
    for _ in range(2):
        bots().client.chat.completions.create(
            model="m", messages=[{"role": "system", "content": "Greet the visitor."}]
        )
    assert threads_of(sink, 4) == ["thread 1", "thread 2"]


def test_alike_without_end(bots: Any, sink: Sink) -> None:
    """Of too many conversations that stand alike the oldest begin anew; none takes another's."""
    made = [bots() for _ in range(10)]
    with context(user_id="ada"):
        for bot in made:
            bot.ask("Hi", "Hello!")
        for number, bot in enumerate(made):
            bot.ask(f"Line {number}?", "Soon.")
    threads = threads_of(sink, 40)
    assert len(set(threads[:10])) == len(set(threads[10:])) == 10
    assert len(set(threads)) == 12


@USERS
def test_alike_and_gone_on(user: str | None, bots: Any, sink: Sink) -> None:
    """A conversation that has gone on from where another stands does not go on there again."""
    one, other = bots(), bots()
    with context(user_id=user):
        one.ask("Hi", "Hello!")
        one.ask("Trams?", "Soon.")
        one.forget(4)
        other.ask("Hi", "Hello!")
        one.ask("Hi", "Hello!")
        other.ask("Buses?", "Never.")
        one.ask("Bikes?", "At the station.")
    assert len(set(threads_of(sink, 12)[1:])) == 3


def test_another_answer_after_a_common_one(bots: Any, sink: Sink) -> None:
    """A question asked again is another answer to it, though another conversation waits there."""
    one, other = bots(2), bots(2)
    with context(user_id="ada"):
        other.ask("Tickets?", "You're welcome!")
        one.ask("Thanks", "You're welcome!")
        one.ask("go on", "One.")
        one.forget(1)
        one.again("Two.")
        other.ask("Bikes?", "At the station.")
    events = told(sink, 9)
    assert [(one["$text"].strip(), one["$thread_id"]) for one in events[6:]] == [
        ("Two.", "thread 2"),
        ("Bikes?", "thread 1"),
        ("At the station.", "thread 1"),
    ]


def ask_both(one: Bot, other: Bot, step: int) -> bool:
    """Ask one question for two answers, the other one at a step of the first; tell if it came."""
    one.messages.clear()
    one.ask(f"Hi {step}", "Hello!")
    other.messages = list(one.messages)
    with meanwhile(conversation, step, lambda: other.ask(f"Question {step}", "One.")):
        one.ask(f"Question {step}", "Two.")
    return len(other.messages) == len(one.messages)


@USERS
def test_another_answer_at_the_same_time(user: str | None, bots: Any, sink: Sink) -> None:
    """Two answers that are asked for at once are two to one question, whoever comes first."""
    one, other = bots(), bots()
    step = 0
    with context(user_id=user):
        while ask_both(one, other, step):
            step += 1
            events = [event["event"] for event in sink.wait_for(5 * step)[-3:]]
            assert sorted(events) == ["Generation", "Generation", "Prompt"], step
    assert step > 20
    sink.wait_for(5 * step + 4)


def test_strangers_who_ask_the_same(bots: Any, sink: Sink) -> None:
    """The same question of strangers who stand at the same words is each one's own."""
    one, other = bots(), bots()
    for bot in (one, other):
        bot.ask("Hi", "Hello!")
    for bot in (one, other):
        bot.ask("What can you do?", "A lot.")
    assert sorted(threads_of(sink, 8)) == ["thread 1"] * 2 + ["thread 2"] * 2


def test_the_same_conversation_again(bots: Any, sink: Sink) -> None:
    """Whoever has the very same conversation again has two, and every question counts."""
    with context(user_id="ada"):
        for _ in range(2):
            bot = bots()
            bot.ask("Hi", "Hello!")
            bot.ask("What can you do?", "A lot.")
    assert threads_of(sink, 8) == ["thread 1"] * 2 + ["thread 2"] * 2


@USERS
def test_the_same_last_exchange(user: str | None, bots: Any, sink: Sink) -> None:
    """Where the last exchange is the same, the answer before it tells two conversations apart."""
    one, other = bots(), bots()
    with context(user_id=user):
        for name, bot in (("trams", one), ("buses", other)):
            bot.ask(f"And {name}?", f"About {name}.")
            bot.ask("Thanks", "You're welcome!")
        one.ask("More", "Yes.")
        other.ask("More", "No.")
    assert threads_of(sink, 12) == ["thread 1"] * 2 + ["thread 2"] * 2 + ["thread 1", "thread 2"]


def test_many_strangers(bots: Any, sink: Sink) -> None:
    """Twelve anonymous users in any order are twelve conversations, with canned answers too."""
    dice = random.Random(6)
    strangers = [(number, bots(4)) for number in range(12)]
    rounds = [stranger for stranger in strangers for _ in range(4)]
    dice.shuffle(rounds)
    for number, bot in rounds:
        said = len(bot.messages) // 2
        answer = CANNED if said == 1 else f"Answer {said} for {number}."
        bot.ask(f"Question {said} of {number}?", answer)
    spoken: dict[str, set[str]] = {}
    for event in sink.wait_for(96, timeout_s=20):
        if event["event"] == "Prompt":
            number = event["properties"]["$text"].split()[-1]
            spoken.setdefault(number, set()).add(event["properties"]["$thread_id"])
    assert len(spoken) == 12
    assert {len(threads) for threads in spoken.values()} == {1}
    assert len(set[str]().union(*spoken.values())) == 12


def test_users_at_the_same_time(sink: Sink, server: Loopback) -> None:
    """Users who ask in threads of their own, the same words, keep their own conversations."""
    patch_openai()
    server.always(_answer)
    client = client_of(server, "sync")

    def talk(user: str) -> None:
        messages: list[Any] = []
        for number in range(5):
            messages.append({"role": "user", "content": f"Question {number}?"})
            with context(user_id=user):
                made = client.chat.completions.create(model="m", messages=messages)
            messages.append({"role": "assistant", "content": made.choices[0].message.content})

    users = [f"user-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(talk, users))
    client.close()
    pairs = [
        (event["user_id"], event["properties"]["$thread_id"])
        for event in sink.wait_for(80, timeout_s=20)
    ]
    assert len(pairs) == 80
    assert len(set(pairs)) == len({thread for _, thread in pairs}) == 8


def _answer(request: Request) -> Reply:
    question = request.json["messages"][-1]["content"]
    return json_reply(chat_completion(Answer(f"About {question}", usage=None)))


def test_questions_after_one_greeting_are_not_all_kept() -> None:
    """However many are asked on top of examples, the last few are all that is remembered."""
    threads = Threads()
    for number in range(100):
        history = History("Hi", tail=("Hi", "How can I help?"))
        threads.open(Trail("ada", history, f"Question {number}?"))
    assert max(map(len, threads._unanswered.latest())) <= 3
