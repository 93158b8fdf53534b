"""Conversations that several processes of one machine have together."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall, chat_chunks, chat_completion
from responses_wire import response_object

from tests.openai.asking import client_of, needs
from tests.replies import chat_stream, error_reply, json_reply
from tests.told import told
from tests.workers import Worker, environ
from trubrics_instrument import _config, _runtime, context, patch_openai
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument._conversations.failures import Failure, Failures
from trubrics_instrument._conversations.trail import History, Trail, number_of
from trubrics_instrument._conversations.turns import RETRIES_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback, Request
    from tests.replies import Reply
    from tests.sink import Sink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm")

ONE, OTHER = str(uuid.UUID(int=1 << 127 | 1)), str(uuid.UUID(int=1 << 127 | 2))
TALKS = """
import openai
trubrics_instrument.patch_openai(user_id="ada")
messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
messages += [{"role": "user", "content": "And now?"}]
with openai.OpenAI() as client:
    client.chat.completions.create(model="m", messages=messages[since:until])
"""
GOES_ON = """
import openai
trubrics_instrument.patch_openai()
with openai.OpenAI() as client, trubrics_instrument.context(**given):
    asked = {"chat": client.chat.completions, "responses": client.responses}[endpoint]
    asked.create(model="m", **request)
"""
CLICKS = """
trubrics_instrument.feedback(answer_id, 1, user_id="bob")
trubrics_instrument.feedback(answer_id, 0)
"""
FORKS = """
import os
import openai
import trubrics_instrument
trubrics_instrument.patch_openai(user_id="ada")
messages = []
with openai.OpenAI() as client:
    for number, where in enumerate(("parent", "child", "parent")):
        messages.append({"role": "user", "content": f"Question {number}?"})
        child = os.fork() if where == "child" else None
        if not child:
            client.chat.completions.create(model="m", messages=messages[-3:])
            trubrics_instrument.flush()
        if child == 0:
            os._exit(0)
        if child:
            os.waitpid(child, 0)
        messages.append({"role": "assistant", "content": f"Answer to Question {number}?"})
"""

SET_UP = """
import contextlib
import openai
trubrics_instrument.patch_openai()
client = openai.OpenAI(max_retries=0)
"""
ASKS = """
with trubrics_instrument.context(**claim), contextlib.suppress(openai.APIError):
    if request.pop("raw", False):  # as a proxy does, and nobody reads the answer
        raw = client.chat.completions.with_streaming_response
        with raw.create(model="m", **request) as response:
            assert b"".join(response.iter_bytes())
    else:
        answer = client.chat.completions.create(model="m", **request)
        if request.get("stream"):
            next(answer)
            answer.close()
"""

ASK_BOTH = """
with trubrics_instrument.context(**claim), contextlib.suppress(openai.APIError):
    for request in requests:
        client.chat.completions.create(model="m", **request)
"""


def run_alone(server: Loopback, sink: Sink, code: str, **given: object) -> None:
    """Run some code in a process of its own."""
    with Worker(environ(server, sink), "") as worker:
        worker.run(code, **given)


@pytest.fixture
def two() -> Iterator[tuple[_runtime._State, _runtime._State]]:
    """Give two processes' states with one board."""
    states = [_runtime.start(_config.build({}, {"spool": "off"}))]
    _runtime.forget()
    states.append(_runtime.start(_config.build({}, {"spool": "off"})))
    board = Board(bytearray(BOARD_BYTES))
    for state in states:
        state.threads.board = board
    yield states[0], states[1]
    _runtime.forget()


def test_a_conversation_that_moves(two: tuple[_runtime._State, _runtime._State]) -> None:
    """Another process goes on with a conversation, even where a window hides how it began."""
    here, there = (state.threads for state in two)
    hi = Trail("ada", History("Hi", begins=True), "Hi")
    thread = here.open(hi)
    here.answered(hi.names_after(number_of("Hello")), thread, share=True)
    window = History("And now?", begins=True, tail=("Hello",))
    place = there.find(Trail("ada", window, "And now?"))
    assert place is not None
    assert place.thread_id == thread
    assert there.find(Trail("bob", window, "And now?")) is None
    assert there.open(hi) != thread


def test_the_latest_with_these_words(two: tuple[_runtime._State, _runtime._State]) -> None:
    """What nobody has seen goes on with the conversation that these words opened last, anywhere."""
    here, there = (state.threads for state in two)
    hi = Trail("ada", History("Hi", begins=True), "Hi")
    later = Trail("ada", History("Hi", tail=("Hi", "Unheard of.")), "And now?")
    first, latest = here.open(hi), there.open(hi)
    assert first != latest
    assert (here.open(later), there.open(later)) == (latest, latest)


def test_an_answer_by_its_id_in_another_process(
    two: tuple[_runtime._State, _runtime._State],
) -> None:
    """Conversations at the same words are told apart by ids in every process."""
    here, there = (state.threads for state in two)
    asked = Trail("ada", History("Hi", begins=True), "Hi")
    for thread, answer_id in ((ONE, "msg_1"), (OTHER, "msg_2")):
        here.answered(asked.names_after(number_of("Hello"), answer_id), thread, share=True)
    for thread, answer_id in ((ONE, "msg_1"), (OTHER, "msg_2")):
        history = History("Hi", tail=("Hi", "Hello"), answer_id=answer_id)
        place = there.find(Trail("ada", history, "Why?"))
        assert place is not None
        assert place.thread_id == thread


def test_the_same_answer_in_two_processes(two: tuple[_runtime._State, _runtime._State]) -> None:
    """A long answer that another process has given too does not decide alone."""
    here, there = (state.threads for state in two)
    canned = "That is nothing that I can help with. " * 3
    questions = {ONE: "A horse?", OTHER: "A bear?"}
    for threads, (thread, text) in zip((here, there), questions.items(), strict=True):
        asked = Trail("ada", History(text, begins=True), text)
        threads.answered(asked.names_after(number_of(canned)), thread, share=True)
    for thread, text in questions.items():
        goes_on = Trail("ada", History(text, tail=(text, canned)), "Why?")
        place = here.find(goes_on)
        assert place is not None
        assert place.thread_id == thread


def test_alike_in_two_processes(two: tuple[_runtime._State, _runtime._State]) -> None:
    """Of conversations that stand at the same place, the latest one goes on first, then others."""
    here, there = (state.threads for state in two)
    asked = Trail("ada", History("Hi", begins=True), "Hi")
    here.answered(asked.names_after(number_of("Hello")), ONE, share=True)
    there.answered(asked.names_after(number_of("Hello")), OTHER, share=True)
    found: list[str] = []
    for question in ("Why?", "How?"):
        goes_on = Trail("ada", History("Hi", tail=("Hi", "Hello")), question)
        place = here.find(goes_on)
        assert place is not None
        place.go_on(goes_on.question)
        found.append(place.thread_id)
    assert found == [OTHER, ONE]


def test_an_answer_of_another_process(two: tuple[_runtime._State, _runtime._State]) -> None:
    """`previous_response_id` names the thread of a response that another process got."""
    here, there = (state.threads for state in two)
    here.remember_answer("resp_1", ONE)
    assert there.of_answer("resp_1") == ONE
    assert there.of_answer("resp_2") is None


def test_named_threads_stay_here(server: Loopback, sink: Sink) -> None:
    """What the app names is told to no other process, but for a UUID: of an answer, by its id."""
    memory = bytearray(BOARD_BYTES)
    threads = _runtime.state().threads
    threads.board = Board(memory)
    patch_openai()
    client = client_of(server, "sync")
    noted: list[tuple[int, str | None]] = []
    for thread_id in ("talk-1", ONE, None):
        answer = Answer("Hello.", id=f"chatcmpl-{thread_id}", usage=None)
        server.script(json_reply(chat_completion(answer)))
        with context(user_id="ada", thread_id=thread_id):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        entries = sum(any(memory[at : at + 32]) for at in range(0, BOARD_BYTES, 32))
        noted.append((entries, threads.of_answer(f"chatcmpl-{thread_id}")))
    client.close()
    assert noted[:2] == [(0, None), (1, ONE)]
    assert noted[2][0] > 2
    assert noted[2][1] not in {None, ONE}


@pytest.mark.parametrize("endpoint", ["chat", pytest.param("responses", marks=needs("responses"))])
def test_a_feedback_elsewhere(endpoint: str, server: Loopback, sink: Sink) -> None:
    """The click may come to another process: it is in the answer's thread, of whoever says so."""
    answer = Answer("At 9.", id=f"answer-of-{endpoint}", usage=None)
    whole = chat_completion(answer) if endpoint == "chat" else response_object(answer)
    server.script(json_reply(whole))
    asked = {"messages": [{"role": "user", "content": "When?"}]}
    request: Any = asked if endpoint == "chat" else {"input": "When?"}
    given = {"user_id": "ada"}
    run_alone(server, sink, GOES_ON, endpoint=endpoint, request=request, given=given)
    run_alone(server, sink, CLICKS, answer_id=f"answer-of-{endpoint}")
    events = told(sink, 4)
    assert {event["$thread_id"] for event in events} == {"thread 1"}
    assert events[2:] == [
        {
            "event": "Feedback",
            "user_id": "bob",
            "$thread_id": "thread 1",
            "$generation_id": answer.id,
            "score": 1,
        },
        {
            "event": "Feedback",
            "user_id": "anon 1",
            "$thread_id": "thread 1",
            "$generation_id": answer.id,
            "score": 0,
            "anonymous": True,
        },
    ]


def test_ids_of_the_app_stay_here(server: Loopback, sink: Sink) -> None:
    """Of a question that failed, the other processes are told what we made up only."""
    memory = bytearray(BOARD_BYTES)
    _runtime.state().threads.board = Board(memory)
    patch_openai()
    server.always(error_reply(500))
    client = client_of(server, "sync", max_retries=0)
    with (
        context(user_id="ada", thread_id=ONE, prompt_id=OTHER),
        contextlib.suppress(openai.APIError),
    ):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    client.close()
    assert any(memory)
    assert uuid.UUID(ONE).bytes not in memory
    assert uuid.UUID(OTHER).bytes not in memory


def test_a_forked_process(server: Loopback, sink: Sink) -> None:
    """A child goes on with its parent's conversation, and the parent with its child's."""

    def answer(request: Request) -> Reply:
        question = request.json["messages"][-1]["content"]
        return json_reply(chat_completion(Answer(f"Answer to {question}", usage=None)))

    server.always(answer)
    subprocess.run([sys.executable, "-c", FORKS], check=True, env=environ(server, sink), timeout=60)
    events = told(sink, 6)
    assert [one["event"] for one in events] == ["Prompt", "Generation"] * 3
    assert {one["$thread_id"] for one in events} == {"thread 1"}


def test_worker_processes(server: Loopback, sink: Sink) -> None:
    """Two processes answer in turn, each sees a window, and it is one conversation."""
    server.always(lambda _: json_reply(chat_completion(Answer("Hello.", usage=None))))
    for since, until in ((0, 1), (1, 3)):
        run_alone(server, sink, TALKS, since=since, until=until)
    events = told(sink, 4)
    assert [one["event"] for one in events] == ["Prompt", "Generation"] * 2
    assert {(one["user_id"], one["$thread_id"]) for one in events} == {("ada", "thread 1")}


@pytest.mark.parametrize("user", ["ada", ""], ids=["named", "anonymous"])
@pytest.mark.parametrize("endpoint", ["chat", pytest.param("responses", marks=needs("responses"))])
@pytest.mark.parametrize(
    ("typed", "prompt_id"),
    [("", None), ("Delete!", None), ("Delete!", "message-17")],
    ids=["as asked", "as typed", "as named"],
)
def test_a_tools_result(
    typed: str, prompt_id: str | None, endpoint: str, user: str, server: Loopback, sink: Sink
) -> None:
    """The process to which the result of a tool comes goes on with the turn of another."""
    asks = Answer(
        tool_calls=(ToolCall("confirm", "{}", f"call_{user}_{endpoint}_{typed}"),), usage=None
    )
    done = Answer("Deleted.", usage=None)
    question = {"role": "user", "content": "Delete it!"}
    result = f"call_{user}_{endpoint}_{typed}"
    if endpoint == "chat":
        server.script(*(json_reply(chat_completion(one)) for one in (asks, done)))
        said = chat_completion(asks)["choices"][0]["message"]
        answered = {"role": "tool", "tool_call_id": result, "content": "yes"}
        requests: list[Any] = [{"messages": [question]}, {"messages": [question, said, answered]}]
    else:
        server.script(*(json_reply(response_object(one, id=result)) for one in (asks, done)))
        output = {"type": "function_call_output", "call_id": result, "output": "yes"}
        requests = [{"input": [question]}, {"input": [output], "previous_response_id": result}]
    given = {"user_id": user or None, "prompt": typed or None, "prompt_id": prompt_id}
    for request in requests:
        run_alone(server, sink, GOES_ON, endpoint=endpoint, request=request, given=given)
    events = told(sink, 3)
    assert [one["event"] for one in events] == ["Prompt", "Tool call", "Generation"]
    assert len({(one["$prompt_id"], one["$thread_id"]) for one in events}) == 1


ADA = {"user_id": "ada"}
Step = tuple[str, dict[str, str], dict[str, Any]]  # which process, who asks, and what


def ask(content: Any, before: Any = ()) -> dict[str, Any]:
    """Return a request."""
    return {"messages": [*before, {"role": "user", "content": content}]}


HI = ask("Hi")
BEHIND = ask("Hi", before=[*ask("Trams?")["messages"], {"role": "assistant", "content": "At 9."}])
TICKETS = [ask(f"{'A head. ' * 200}Ticket {n}.{' A tail.' * 200}") for n in (1, 2)]
PICTURES = [
    ask([{"type": "image_url", "image_url": {"url": f"https://example.com/{name}.png"}}])
    for name in ("horse", "bear")
]


def told_of(
    server: Loopback,
    sink: Sink,
    *steps: Step,
    fails: int | tuple[int, ...] | None = 0,
    first: Reply | None = None,
) -> list[tuple[str, str, str]]:
    """Return name, thread and prompt of each event of two processes that ask; such a step fails.

    A stream is left after its first piece.
    """
    whole = json_reply(chat_completion(Answer("Hello.", usage=None)))
    pieces = chat_stream(chat_chunks(Answer("Hello there.", usage=None)))
    replies = [pieces if request.get("stream") else whole for _, _, request in steps]
    if first is not None:
        replies[0] = first
    for step in (fails,) if isinstance(fails, int) else fails or ():
        replies[step] = error_reply(500)
    server.script(*replies)
    around = environ(server, sink)
    with Worker(around, SET_UP) as one, Worker(around, SET_UP) as other:
        for where, claim, request in steps:
            {"one": one, "other": other}[where].run(ASKS, claim=claim, request=request)
    return [
        (event["event"], event["properties"]["$thread_id"], event["properties"]["$prompt_id"])
        for event in sink.events
    ]


@pytest.mark.parametrize("more", [{}, {"thread_id": "t"}, {"prompt_id": "m-1"}], ids=str)
@pytest.mark.parametrize("user", [ADA, {}], ids=["named", "anonymous"])
def test_a_retry_in_another_process(
    user: dict[str, str], more: dict[str, str], server: Loopback, sink: Sink
) -> None:
    """It is the same prompt, of whoever is known, or under an id of the app's own."""
    claim = {**user, **more}
    events = told_of(server, sink, ("one", claim, HI), ("other", claim, HI))
    expected = ["Prompt", "Generation failed", *([] if claim else ["Prompt"]), "Generation"]
    assert [name for name, *_ in events] == expected
    assert len({prompt for _, _, prompt in events}) == (1 if claim else 2)
    assert len({thread for _, thread, _ in events}) == (1 if claim else 2)


def test_several_assistants_in_another_process(server: Loopback, sink: Sink) -> None:
    """The first gets the last words alone, and is asked again there before the one that failed."""
    allowed, done = (
        json_reply(chat_completion(Answer(one, usage=None))) for one in ("Yes.", "At 9.")
    )
    server.script(allowed, error_reply(500), allowed, done)
    guard, desk = ({"role": "system", "content": one} for one in ("Is this allowed?", "Answer."))
    requests = [{"messages": [guard, *HI["messages"]]}, {"messages": [desk, *BEHIND["messages"]]}]
    claim = {**ADA, "thread_id": "t-1"}
    for _ in range(2):
        run_alone(server, sink, SET_UP + ASK_BOTH, claim=claim, requests=requests)
    events = told(sink, 5)
    assert [one["event"] for one in events] == [
        *("Prompt", "Generation", "Generation failed", "Generation", "Generation")
    ]
    assert {one["$prompt_id"] for one in events} == {"prompt 1"}


def test_another_answer_after_a_retry(server: Loopback, sink: Sink) -> None:
    """The process to which the retry came has asked the question, too."""
    steps: list[Step] = [("one", ADA, ask("Trams?")), ("one", ADA, BEHIND)]
    steps += [("other", ADA, BEHIND), ("other", ADA, BEHIND)]
    events = told_of(server, sink, *steps, fails=1)
    names = [*["Prompt", "Generation"], *["Prompt", "Generation failed"], *["Generation"] * 2]
    assert [name for name, *_ in events] == names
    assert len({prompt for _, _, prompt in events[2:]}) == 1
    assert [one["properties"].get("regenerated") for one in sink.events[4:]] == [None, True]


def test_a_stream_that_was_stopped(server: Loopback, sink: Sink) -> None:
    """What came in part is no failure to another process: the same words are asked anew there."""
    stopped = {**HI, "stream": True}
    events = told_of(server, sink, ("one", ADA, stopped), ("other", ADA, HI), fails=None)
    assert [name for name, *_ in events] == ["Prompt", "Generation", "Prompt", "Generation"]


def test_a_stream_that_was_stopped_after_a_failure(server: Loopback, sink: Sink) -> None:
    """What has come in part was overcome."""
    steps: list[Step] = [("one", ADA, HI), ("one", ADA, {**HI, "stream": True})]
    events = told_of(server, sink, *steps, ("other", ADA, HI))
    names = ["Prompt", "Generation failed", "Generation", "Prompt", "Generation"]
    assert [name for name, *_ in events] == names


def test_a_tools_result_that_fails(server: Loopback, sink: Sink) -> None:
    """Once it was brought again, elsewhere, the same words are a question of their own."""
    call = ToolCall("look", "{}", "call_of_a_failure")
    said = chat_completion(Answer(tool_calls=(call,), usage=None))
    messages = [*HI["messages"], said["choices"][0]["message"]]
    result = {"role": "tool", "tool_call_id": "call_of_a_failure", "content": "sun"}
    brings: dict[str, Any] = {"messages": [*messages, result]}
    steps: list[Step] = [("one", ADA, HI), ("one", ADA, brings), ("other", ADA, brings)]
    events = told_of(server, sink, *steps, ("other", ADA, HI), fails=1, first=json_reply(said))
    names = ["Prompt", "Tool call", "Generation failed", "Generation", "Prompt", "Generation"]
    assert [name for name, *_ in events] == names
    assert len({prompt for _, _, prompt in events}) == 2


@pytest.mark.parametrize("again", ["one", "other"])
def test_the_same_words_after_a_retry(again: str, server: Loopback, sink: Sink) -> None:
    """What was overcome in any process is a question of its own in each."""
    steps: list[Step] = [("one", ADA, HI), ("other", ADA, HI), (again, ADA, HI)]
    events = told_of(server, sink, *steps)
    names = ["Prompt", "Generation failed", "Generation", "Prompt", "Generation"]
    assert [name for name, *_ in events] == names
    assert not {one[2] for one in events[:3]} & {one[2] for one in events[3:]}
    assert not {one[1] for one in events[:3]} & {one[1] for one in events[3:]}


@pytest.mark.parametrize("again", ["one", "other"])
def test_the_same_words_after_a_retry_that_nobody_read(
    again: str, server: Loopback, sink: Sink
) -> None:
    """A failure is tried again once, whether it is known or not what came of that."""
    raw = {**HI, "raw": True}
    steps: list[Step] = [("one", ADA, HI), ("one", ADA, raw), (again, ADA, HI), ("one", ADA, HI)]
    events = told_of(server, sink, *steps)
    names = ["Prompt", "Generation failed", *["Generation", "Prompt"] * 2, "Generation"]
    assert [name for name, *_ in events] == names


def test_the_same_words_that_fail_again(server: Loopback, sink: Sink) -> None:
    """What failed here, and was answered elsewhere, is not what failed there since."""
    steps: list[Step] = [("one", ADA, HI), *[("other", ADA, HI)] * 2, ("one", ADA, HI)]
    events = told_of(server, sink, *steps, fails=(0, 2))
    names = ["Prompt", "Generation failed", "Generation"] * 2
    assert [name for name, *_ in events] == names
    assert len({prompt for _, _, prompt in events[:3]}) == 1
    assert len({prompt for _, _, prompt in events[3:]}) == 1
    assert len({prompt for _, _, prompt in events}) == 2


@pytest.mark.parametrize("again", ["one", "other"])
def test_the_same_words_in_another_conversation(again: str, server: Loopback, sink: Sink) -> None:
    """Who says yes in another conversation does not try again what failed in this one."""
    hello = {"role": "assistant", "content": "Hello."}
    rome, oslo = (ask(f"A week in {city}") for city in ("Rome", "Oslo"))
    yes = [ask("Yes", before=[*one["messages"], hello]) for one in (rome, oslo)]
    steps: list[Step] = [("one", ADA, rome), ("one", ADA, oslo), ("one", ADA, yes[0])]
    # In a process of one task, what comes after a failure is what it tries again.
    steps += [("one", {"user_id": "bob"}, HI), (again, ADA, yes[1]), (again, ADA, yes[0])]
    events = told_of(server, sink, *steps, fails=2)
    prompts = [one for one in events if one[0] == "Prompt"]
    assert len(prompts) == 5
    assert (prompts[4][1], prompts[2][1]) == (prompts[1][1], prompts[0][1])
    assert events[-1][1:] == prompts[2][1:]


@pytest.mark.parametrize(
    ("first", "claim", "then"),
    [
        *[(HI, {"user_id": "bob"}, HI), (HI, {**ADA, "thread_id": "t"}, HI)],
        *[(HI, ADA, BEHIND), (HI, ADA, ask("Hi!")), (PICTURES[0], ADA, PICTURES[1])],
        (TICKETS[0], ADA, TICKETS[1]),
    ],
    ids=["who", "where", "what it answers to", "the words", "the picture", "the middle"],
)
def test_another_question_than_the_one_that_failed(
    first: dict[str, Any],
    claim: dict[str, str],
    then: dict[str, Any],
    server: Loopback,
    sink: Sink,
) -> None:
    """Whoever asks something else, or somewhere else, asks anew."""
    events = told_of(server, sink, ("one", ADA, first), ("other", claim, then))
    assert [name for name, *_ in events].count("Prompt") == 2


def test_a_failure_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the same much later asks anew, in each process."""
    failures, failure = Failures(Board(bytearray(BOARD_BYTES))), Failure(ONE, OTHER)
    assert not failures.any()
    failures.note(7, failure)
    assert failures.any()
    assert (failures.find(7), failures.find(8)) == (failure, None)
    now = time.time()
    for moment in (now + RETRIES_S, now - 60):  # a clock that was set back, too
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert not failures.any()
        assert failures.find(7) is None


def test_failures_of_a_process_that_is_alone() -> None:
    """Nothing is known of others, and nothing is noted for them."""
    alone = Failures(None)
    alone.note(7, Failure(ONE, OTHER))
    alone.overcome(7)
    assert (alone.any(), alone.find(7), alone.is_overcome(7, ONE)) == (False, None, False)
