"""What is the same question again, and what is another one."""

from __future__ import annotations

import contextlib
import enum
from contextvars import Context
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall, chat_chunks, chat_completion
from responses_wire import response_object

from tests.openai.asking import client_of, needs
from tests.replies import RESET, Reply, chat_stream, error_reply, json_reply, raw_reply
from trubrics_instrument import _runtime, context, patch_openai
from trubrics_instrument._conversations.trail import number_of
from trubrics_instrument._observing.names import names_by_id
from trubrics_instrument._observing.reader import TurnKey
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback
    from trubrics_instrument.testing import Events

Message = dict[str, Any]


@pytest.fixture
def events() -> Iterator[Events]:
    """Put the patch on, and collect what is told."""
    patch_openai(user_id="ada")
    with capture() as taken:
        yield taken


def user(text: str) -> Message:
    """Return what the user says."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Return what the assistant has said."""
    return {"role": "assistant", "content": text}


def ask(client: openai.OpenAI, *messages: Any) -> None:
    """Ask, whatever comes of it."""
    try:
        client.chat.completions.create(model="m", messages=messages)
    except openai.APIStatusError:
        return


def questions(events: Events) -> list[tuple[str | None, str | None]]:
    """Return the Prompts, with the last answer to each."""
    answers = {one.prompt_id: one.text for one in events.named("Generation")}
    return [(one.text, answers.get(one.prompt_id)) for one in events.named("Prompt")]


def said(text: str, answer_id: str = "c1") -> Any:
    """Return the reply of a server that says something."""
    return json_reply(chat_completion(Answer(text, id=answer_id)))


def test_a_failure_that_was_overcome(events: Events, server: Loopback) -> None:
    """Once a call was tried again with success, the same words are a question of their own."""
    call = ToolCall("look", "{}", "call_1")
    server.script(
        json_reply(chat_completion(Answer(tool_calls=(call,)))),
        error_reply(429),
        said("Five are open.", "c2"),
        said("None is open.", "c3"),
    )
    with client_of(server, "sync") as client:
        first = [user("Status?")]
        ask(client, *first)
        calls = chat_completion(Answer(tool_calls=(call,)))["choices"][0]["message"]
        results = [*first, calls, {"role": "tool", "tool_call_id": "call_1", "content": "5"}]
        ask(client, *results)
        ask(client, *results)
        ask(client, *first)
    assert questions(events) == [("Status?", "Five are open."), ("Status?", "None is open.")]
    assert len({one.thread_id for one in events}) == 2


def test_a_stop_after_which_the_user_went_on(events: Events, server: Loopback) -> None:
    """An answer that was stopped may be asked for again, until the conversation goes on."""
    server.script(
        chat_stream(chat_chunks(Answer("Hello there friend", usage=None))),
        said("Sure.", "c2"),
        said("Hi again.", "c3"),
    )
    with client_of(server, "sync") as client:
        with client.chat.completions.create(
            model="m", messages=[user("Hi")], stream=True
        ) as stream:
            while not events.named("Generation"):
                if next(stream).choices[0].delta.content:
                    stream.close()
        stopped = events.one("Generation", status="incomplete").text
        assert stopped
        ask(client, user("Hi"), assistant(stopped), user("What can you do?"))
        ask(client, user("Hi"))
    assert [text for text, _ in questions(events)] == ["Hi", "What can you do?", "Hi"]
    assert events[-1].thread_id != events[0].thread_id


def test_another_picture(events: Events, server: Loopback) -> None:
    """Another picture after one that was refused is another question; the same one is not."""

    def picture(data: str) -> Message:
        url = f"data:image/png;base64,{data}"
        return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}

    server.script(error_reply(400), error_reply(400), said("A cat."))
    with client_of(server, "sync") as client:
        for data in ("A" * 300, "A" * 300, "A" * 299 + "B"):
            ask(client, picture(data))
    assert len(events.named("Prompt")) == 2


@pytest.mark.parametrize(
    "again", ["less history", "an instruction more"], ids=lambda one: one.replace(" ", "-")
)
def test_in_another_form(again: str, events: Events, server: Loopback) -> None:
    """A retry with less of the history, or with instructions, is one: nothing is regenerated."""
    long = "The tram leaves at nine from the stop behind the station, and every ten minutes then. "
    server.script(said(long, "c1"), said(long + "2", "c2"), error_reply(400), said("Yes.", "c3"))
    system: Message = {"role": "system", "content": "Be brief."}
    with client_of(server, "sync") as client:
        asked = [user("One?")]
        ask(client, *asked)
        asked += [assistant(long), user("Two?")]
        ask(client, *asked)
        asked += [assistant(long + "2"), user("Three?")]
        ask(client, *asked)
        ask(client, *(asked[2:] if again == "less history" else [system, *asked]))
    assert [text for text, _ in questions(events)] == ["One?", "Two?", "Three?"]
    last = events.one("Generation", text="Yes.")
    assert (last.get("regenerated"), last.prompt_id) == (None, events[-2].prompt_id)


def test_too_long_for_the_model(events: Events, server: Loopback) -> None:
    """The question alone, after it failed with its history, is a retry; not so another's."""
    server.script(said("One."), error_reply(400), said("Two."), error_reply(400), said("Three."))
    with client_of(server, "sync") as client, context(thread_id="t"):
        asked = [user("One?"), assistant("One."), user("Yes")]
        ask(client, asked[0])
        ask(client, *asked)
        ask(client, asked[-1])
        ask(client, *asked)
        ask(client, user("Say yes?"), assistant("Really?"), user("Yes"))
    assert questions(events) == [("One?", "One."), ("Yes", "Two."), ("Yes", "Three.")]


@pytest.mark.parametrize("before", [[], [user("One?"), assistant("One.")]], ids=["first", "later"])
def test_kept_in_the_history(before: list[Message], events: Events, server: Loopback) -> None:
    """A question that failed, stayed in the history and is asked again behind itself is one."""
    server.script(error_reply(400), said("Two."))
    with client_of(server, "sync") as client:
        ask(client, *before, user("Two?"))
        ask(client, *before, user("Two?"), user("Two?"))
    assert questions(events) == [("Two?", "Two.")]


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_kept_in_a_window(size: int, events: Events, server: Loopback) -> None:
    """A question that failed, and stayed, pushes out of the window what it answers to."""
    history: list[Message] = []
    with client_of(server, "sync", max_retries=0) as client:
        for number in range(3):
            failures = [] if number == 0 else [error_reply(500), error_reply(500)]
            server.script(*failures, said(f"Answer {number}.", f"c{number}"))
            for _ in (*failures, "answered"):
                history.append(user(f"Question {number}?"))
                ask(client, *history[-size:])
            history.append(assistant(f"Answer {number}."))
    assert questions(events) == [(f"Question {n}?", f"Answer {n}.") for n in range(3)]
    assert len({one.thread_id for one in events}) == 1


def test_failed_in_another_chat(events: Events, server: Loopback) -> None:
    """The same words behind something else that the user said are a question of their own."""
    server.script(error_reply(400), said("Shorter."))
    with client_of(server, "sync") as client:
        ask(client, user("Shorten it"))
        ask(client, user("A long text."), user("Shorten it"))
    assert questions(events) == [("Shorten it", None), ("Shorten it", "Shorter.")]
    assert events[0].thread_id != events[-1].thread_id


@pytest.mark.parametrize("again", ["Open?", "On Sundays?"], ids=["the same", "another"])
def test_failed_behind_a_tool(again: str, events: Events, server: Loopback) -> None:
    """So is one that failed behind the result of a tool, and stayed there with it."""
    calls = chat_completion(Answer(tool_calls=(ToolCall("look", "{}", "call_1"),)))
    server.script(json_reply(calls), error_reply(400), said("Yes."))
    with client_of(server, "sync") as client:
        turn = [user("Open?")]
        ask(client, *turn)
        turn.append(calls["choices"][0]["message"])
        turn.append({"role": "tool", "tool_call_id": "call_1", "content": "9 to 5"})
        ask(client, *turn)
        ask(client, *turn, user(again))
    both = [("Open?", None), (again, "Yes.")]
    assert questions(events) == ([("Open?", "Yes.")] if again == "Open?" else both)
    assert len({one.thread_id for one in events}) == 1


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": null}', b"[]", b'{"choices": []}'])
def test_no_answer_at_all(body: bytes, events: Events, server: Loopback) -> None:
    """What brought no answer is tried again like what failed."""
    kind = "text/html" if body == b"<html>" else "application/json"
    server.script(raw_reply(body, content_type=kind), said("Yes."))
    with client_of(server, "sync") as client:
        for _ in range(2):
            client.chat.completions.create(model="m", messages=[user("Hi")])
    assert questions(events) == [("Hi", "Yes.")]


@needs("responses")
@pytest.mark.parametrize("first", ["chat", "responses"])
def test_the_other_endpoint(first: str, events: Events, server: Loopback) -> None:
    """A fallback to the other endpoint asks the same."""
    with client_of(server, "sync") as client:
        for endpoint in (first, "responses" if first == "chat" else "chat"):
            answer = response_object(Answer("Yes.")) if endpoint == "responses" else None
            fine = said("Yes.") if answer is None else json_reply(answer)
            server.script(error_reply(503) if endpoint == first else fine)
            if endpoint == "chat":
                ask(client, user("Hi"))
                continue
            with contextlib.suppress(openai.APIStatusError):
                client.responses.create(model="m", input="Hi")
    assert questions(events) == [("Hi", "Yes.")]


@pytest.mark.parametrize("typed", ["Weather?", None], ids=["typed", "with the time"])
def test_put_anew_at_each_step(typed: str | None, events: Events, server: Loopback) -> None:
    """Other documents, or the time, in the question of a turn that goes on: it is the same turn."""
    calls = [Answer(tool_calls=(ToolCall("look", "{}", f"call_{at}"),)) for at in range(2)]
    server.script(*(json_reply(chat_completion(one)) for one in calls), said("Sunny."))
    steps: list[Message] = []
    with client_of(server, "sync") as client, context(prompt=typed):
        for at in range(3):
            ask(client, user(f"It is 12:00:0{at}. Weather?"), *steps)
            for call in calls[at : at + 1]:
                steps.append(chat_completion(call)["choices"][0]["message"])
                steps.append({"role": "tool", "tool_call_id": f"call_{at}", "content": "sun"})
    assert [text for text, _ in questions(events)] == [typed or "It is 12:00:00. Weather?"]
    assert {one.prompt_id for one in events} == {events[0].prompt_id}
    assert len({one.thread_id for one in events}) == 1


RANDOM_ID = "call_Xb92kLmNopQ45rStUvWxYz01"


def tool_round(call_id: str) -> list[Message]:
    """Return the message that calls a tool, and the tool's result."""
    call = chat_completion(Answer(tool_calls=(ToolCall("look", "{}", call_id),)))
    result: Message = {"role": "tool", "tool_call_id": call_id, "content": "sun"}
    return [call["choices"][0]["message"], result]


@pytest.mark.parametrize("who", ["ada", None], ids=["named", "anonymous"])
@pytest.mark.parametrize("resent", ["anew", "not at all"])
def test_the_result_of_a_call_with_an_id_of_its_own(
    resent: str, who: str | None, events: Events, server: Loopback
) -> None:
    """It goes on with the turn of that call, in another request too, whatever comes with it."""
    patch_openai(user_id=who)
    call = Answer(tool_calls=(ToolCall("look", "{}", RANDOM_ID),))
    server.script(json_reply(chat_completion(call)), said("Sunny."))
    question = [user("It is 12:00:01. Weather?")] if resent == "anew" else []
    with client_of(server, "sync") as client:
        Context().run(ask, client, user("It is 12:00:00. Weather?"))
        Context().run(ask, client, *question, *tool_round(RANDOM_ID))
    assert questions(events) == [("It is 12:00:00. Weather?", "Sunny.")]
    assert len({(one.prompt_id, one.thread_id, one.user_id) for one in events}) == 1


def test_an_id_that_a_host_gives_again(events: Events, server: Loopback) -> None:
    """What is no call's alone tells nothing: the result may be anybody's."""
    patch_openai()
    call = json_reply(chat_completion(Answer(tool_calls=(ToolCall("look", "{}", RANDOM_ID),))))
    server.script(call, call, said("Sunny."))
    with client_of(server, "sync") as client:
        for text in ("It is 12:00:00. Weather?", "It is 12:00:01. Trams?"):
            Context().run(ask, client, user(text))
        Context().run(ask, client, user("It is 12:00:02. Weather?"), *tool_round(RANDOM_ID))
    prompts = {one.prompt_id for one in events.named("Prompt")}
    assert len(prompts) == 2
    assert events.one("Generation").prompt_id not in prompts


@pytest.mark.parametrize(
    "call_id",
    [
        *("functions.get_weather:0", "get_current_weather", "call_1"),
        *("lookUpTheWeatherOfAnyCity", "call_Xb92kLmNopQ45rStUvWxYz:0"),
    ],
)
def test_an_id_that_each_process_may_see(call_id: str, events: Events, server: Loopback) -> None:
    """What counts, or is a tool's name, may be another call's of which nobody here knows."""
    patch_openai()
    call = json_reply(chat_completion(Answer(tool_calls=(ToolCall("look", "{}", call_id),))))
    server.script(call, said("Sunny."), said("Hot.", "c2"))
    with client_of(server, "sync") as client:
        Context().run(ask, client, user("Weather in Paris?"))
        Context().run(ask, client, user("Weather in Paris?"), *tool_round(call_id))
        Context().run(ask, client, user("Weather in Rome?"), *tool_round(call_id))
    paris, rome = events.named("Generation")
    assert paris.prompt_id == events.one("Prompt").prompt_id
    assert (rome.prompt_id, rome.thread_id) != (paris.prompt_id, paris.thread_id)
    assert rome.user_id != paris.user_id


def test_an_id_that_is_very_long() -> None:
    """It takes no time, and is not kept."""
    long = [TurnKey("a1" * 500_000 + end) for end in ("=", "", "=")]
    (kept,) = names_by_id(long)
    assert kept == ("id", number_of(str(long[1].name)))


def test_an_id_of_another_user(events: Events, server: Loopback) -> None:
    """Who knows the id of a call that another user's answer made has not asked that question."""
    call = Answer(tool_calls=(ToolCall("look", "{}", RANDOM_ID),))
    server.script(json_reply(chat_completion(call)), said("Sunny."))
    with client_of(server, "sync") as client:
        ask(client, user("Weather?"))
        as_bob = context(user_id="bob")(ask)
        Context().run(as_bob, client, user("What did ada say?"), *tool_round(RANDOM_ID))
    assert events.one("Generation").prompt_id != events.one("Prompt").prompt_id


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_another_answer_after_a_try_of_somebody_else(
    failures: int, events: Events, server: Loopback
) -> None:
    """Nobody knows whose a first try was that failed; what it brings at last has another answer."""
    patch_openai()
    replies = [*[error_reply(500)] * failures, said("Sunny.", "c2"), said("Hot.", "c3")]
    server.script(said("Hello."), *replies)
    asked = [user("Hi"), assistant("Hello."), user("Weather?")]
    with client_of(server, "sync") as client:
        Context().run(ask, client, asked[0])
        for _ in replies:
            Context().run(ask, client, *asked)
    told = [(one.text, one.get("regenerated")) for one in events.named("Generation")]
    assert told == [("Hello.", None), ("Sunny.", None), ("Hot.", True)]
    assert [one.text for one in events.named("Prompt")] == ["Hi", "Weather?"]


@pytest.mark.parametrize("then", ["a tool", "a failure"])
def test_another_answer_after(then: str, events: Events, server: Loopback) -> None:
    """Another answer is one also where it takes a tool, or a second try."""
    call = json_reply(chat_completion(Answer(tool_calls=(ToolCall("look", "{}", "call_1"),))))
    between = call if then == "a tool" else error_reply(429)
    server.script(said("Hello."), said("Sunny.", "c2"), between, said("Hot.", "c3"))
    asked = [user("Hi"), assistant("Hello."), user("Weather?")]
    with client_of(server, "sync") as client:
        ask(client, asked[0])
        ask(client, *asked)
        ask(client, *asked)
        ask(client, *asked, *(tool_round("call_1") if then == "a tool" else []))
    assert questions(events) == [("Hi", "Hello."), ("Weather?", "Hot.")]
    told = [(one.text, one.get("regenerated")) for one in events.named("Generation")]
    assert told == [("Hello.", None), ("Sunny.", None), ("Hot.", True)]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_what_the_app_reads_by_itself(streamed: bool, events: Events, server: Loopback) -> None:
    """It has come, though nobody here has read it: the same words later are another question."""
    body = chat_stream(chat_chunks(Answer("Hello."))) if streamed else said("Hello.")
    server.script(body, body)
    with client_of(server, "sync") as client:
        create: Any = client.chat.completions.with_streaming_response.create
        for _ in range(2):
            with create(model="m", messages=[user("next")], stream=streamed) as response:
                assert b"Hello." in b"".join(response.iter_bytes())
    assert questions(events) == [("next", None)] * 2
    assert [one.get("status") for one in events.named("Generation")] == ["unread"] * 2


def test_what_breaks_off_while_the_app_reads_it(events: Events, server: Loopback) -> None:
    """What has not come to its end is asked for again."""
    whole = chat_stream(chat_chunks(Answer("Hello there.")))
    half = Reply(headers=whole.headers, steps=[*whole.steps[:2], RESET], chunked=True)
    server.script(half, said("Hello."))
    with client_of(server, "sync") as client:
        create: Any = client.chat.completions.with_streaming_response.create
        with (
            contextlib.suppress(Exception),
            create(model="m", messages=[user("next")], stream=True) as response,
        ):
            list(response.iter_lines())
        ask(client, user("next"))
    assert questions(events) == [("next", "Hello.")]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_what_the_app_does_not_read(streamed: bool, events: Events, server: Loopback) -> None:
    """Who lets go of an answer before any of it was read asks for it again."""
    body = chat_stream(chat_chunks(Answer("Hello."))) if streamed else said("Hello.")
    server.script(body, said("Hello."))
    with client_of(server, "sync") as client:
        create: Any = client.chat.completions.with_streaming_response.create
        with create(model="m", messages=[user("next")], stream=streamed):
            pass
        ask(client, user("next"))
    assert questions(events) == [("next", "Hello.")]


def test_results_of_elsewhere_that_fail(events: Events, server: Loopback) -> None:
    """Who tries again to bring the results of a turn that nobody here has seen begin is in one."""
    server.script(error_reply(500), error_reply(500), said("Sunny."))
    with client_of(server, "sync") as client:
        for _ in range(3):
            ask(client, user("Weather?"), *tool_round("call_7"))
    assert [one.event for one in events] == ["Generation failed"] * 2 + ["Generation"]
    assert len({one.prompt_id for one in events}) == 1


def test_other_documents_in_a_retry(events: Events, server: Loopback) -> None:
    """What the user typed is what is asked again, whatever else the app puts around it."""
    server.script(error_reply(500), said("Sunny."))
    with client_of(server, "sync") as client, context(prompt="Weather?"):
        for documents in ("One", "Two"):
            ask(client, user(f"{documents} ... Weather?"))
    assert questions(events) == [("Weather?", "Sunny.")]


def test_the_rest_of_a_turn_of_elsewhere(events: Events, server: Loopback) -> None:
    """A turn that another process began, and named, has its Prompt there."""
    call = chat_completion(Answer(tool_calls=(ToolCall("look", "{}", "call_1"),)))
    results = [
        call["choices"][0]["message"],
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    ]
    server.script(said("Sunny."))
    with client_of(server, "sync") as client, context(prompt_id="p-1", thread_id="t"):
        ask(client, user("Weather?"), *results)
    assert [(one.event, one.prompt_id) for one in events] == [("Generation", "p-1")]


@needs("responses")
def test_long_questions_that_begin_and_end_alike(events: Events, server: Loopback) -> None:
    """Two questions at one place are two, however much of them is the same."""
    rules = "Please judge this review by the rules that we have agreed upon, in one word. " * 3
    answers = [Answer(text, id=f"resp_{text}") for text in ("ready", "good", "bad", "awful")]
    server.script(*(json_reply(response_object(one)) for one in answers))
    with client_of(server, "sync") as client:
        client.responses.create(model="m", input="The rules are these.")
        for review in ("Great!", "Awful!", "Awful!"):
            asked = f"{rules} {review} {rules}"
            client.responses.create(model="m", input=asked, previous_response_id="resp_ready")
    assert [one.get("regenerated") for one in events.named("Generation")] == [None] * 3 + [True]
    assert len(events.named("Prompt")) == 3


def test_a_kind_of_str(events: Events, server: Loopback) -> None:
    """A model that an Enum names is told as it is sent."""

    class Model(str, enum.Enum):
        BIG = "gpt-4o"

    server.script(said("Yes."))
    with client_of(server, "sync") as client:
        client.chat.completions.create(model=Model.BIG, messages=[user("Hi")])
    assistant_id = events.one("Generation").assistant_id
    assert (type(assistant_id), assistant_id) == (str, "gpt-4o")


def test_put_anew_in_another_request(events: Events, server: Loopback) -> None:
    """What was typed goes on with its turn in the next request, whatever is put around it there."""
    call = chat_completion(Answer(tool_calls=(ToolCall("look", "{}", "call_1"),)))
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
    server.script(json_reply(call), said("Sunny."))

    def step(time: str, *results: Message) -> None:
        with context(prompt="Weather?"):
            ask(client, user(f"Weather? (It is {time}.)"), *results)

    with client_of(server, "sync") as client:
        Context().run(step, "12:00")
        Context().run(step, "12:01", call["choices"][0]["message"], result)
    assert questions(events) == [("Weather?", "Sunny.")]
    assert events.one("Generation").get("model_calls") == 2


def test_two_that_failed_alike(events: Events, server: Loopback) -> None:
    """Of two messages that failed with the same words, an answer to one leaves the other open."""
    server.script(error_reply(500), error_reply(500), said("One.", "c1"), said("Two.", "c2"))
    with client_of(server, "sync") as client:
        for prompt_id in ("m-1", "m-2", "m-1", None):
            with context(prompt_id=prompt_id):
                ask(client, user("Hi"))
    assert [(one.event, one.prompt_id) for one in events] == [
        ("Prompt", "m-1"),
        ("Generation failed", "m-1"),
        ("Prompt", "m-2"),
        ("Generation failed", "m-2"),
        ("Generation", "m-1"),
        ("Generation", "m-2"),
    ]


def test_behind_its_whole_answer(events: Events, server: Loopback) -> None:
    """A question whose answer was whole, and stands behind it, is asked for another answer."""
    server.script(said("One.", "c1"), said("Two.", "c2"), said("Zwei.", "c3"))
    asked = [user("One?"), assistant("One."), user("Two?")]
    with client_of(server, "sync") as client:
        ask(client, asked[0])
        ask(client, *asked)
        ask(client, *asked, assistant("Two."))
    assert questions(events) == [("One?", "One."), ("Two?", "Zwei.")]
    assert events[-1].get("regenerated") is True


def test_the_same_words_behind_a_cut_answer(events: Events, server: Loopback) -> None:
    """What is said again behind a half answer, which stays in the history, is said once more."""
    server.script(chat_stream([*chat_chunks("Half of")[:2]]), said("Sure.", "c2"))
    with client_of(server, "sync") as client:
        with client.chat.completions.create(
            model="m", messages=[user("Go on")], stream=True
        ) as stream:
            next(stream)
            next(stream)
        half = events.one("Generation", status="incomplete").text
        assert half
        ask(client, user("Go on"), assistant(half), user("Go on"))
    assert questions(events) == [("Go on", half), ("Go on", "Sure.")]
    assert len({one.thread_id for one in events}) == 1


def test_results_of_the_question_before(events: Events, server: Loopback) -> None:
    """Where two calls of tools have one id, the results are those of the question before them."""
    call = chat_completion(Answer(tool_calls=(ToolCall("look", "{}", "call_0"),)))
    results = [
        call["choices"][0]["message"],
        {"role": "tool", "tool_call_id": "call_0", "content": "sun"},
    ]
    server.script(json_reply(call), json_reply(call), said("For one."))
    with client_of(server, "sync") as client:
        ask(client, user("One?"))
        ask(client, user("Two?"))
        ask(client, user("One?"), *results)
    assert questions(events) == [("One?", "For one."), ("Two?", None)]


def test_an_answer_by_its_words(events: Events, server: Loopback) -> None:
    """Who knows nothing but the words of an answer and its conversation, as a UI, finds it."""
    server.script(said("Yes."), said("No.", "c2"))
    with client_of(server, "sync") as client:
        ask(client, user("Open?"))
        ask(client, user("Closed?"))
    found = [_runtime.state().turns.answer_with(one.thread_id, number_of("Yes.")) for one in events]
    ids = [told and told.generation_id for told in found]
    assert ids == ["c1", "c1", None, None]
