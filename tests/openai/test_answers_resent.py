"""An answer in the form in which apps send it back, which names the conversation that it was in."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall, chat_chunks, chat_completion
from responses_wire import response_events, response_object

from tests.openai.asking import client_of, needs
from tests.replies import CLOSE, Reply, chat_stream, json_reply, response_stream
from trubrics_instrument import context, patch_openai
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.loopback import Loopback
    from trubrics_instrument.testing import Events

Json = dict[str, Any]
USERS = pytest.mark.parametrize("user", ["ada", None], ids=["named", "anonymous"])
LONG = "We have three plans: Basic at 5 euros, Plus at 9 euros, and Pro at 19 euros a month."


@pytest.fixture
def events() -> Iterator[Events]:
    """Put the patch on, and collect what is told."""
    patch_openai()
    with capture() as taken:
        yield taken


def says(text: str, number: int) -> Json:
    """Return a message of a response."""
    part: Json = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{number}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def searched(number: int) -> list[Json]:
    """Return an answer for which the host has searched the web."""
    action = {"type": "search", "query": "trams"}
    call = {"id": f"ws_{number}", "type": "web_search_call", "status": "completed"}
    return [call | {"action": action}, says(f"Answer {number}.", number)]


def ran(number: int) -> list[Json]:
    """Return an answer for which the host has run a command, and says with what result."""
    call = {"id": "sh", "type": "shell_call", "call_id": "call_1", "status": "completed"}
    action = {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}
    output: Json = {"id": "sho", "type": "shell_call_output", "call_id": "call_1", "output": []}
    return [
        call | {"action": action},
        output | {"max_output_length": None, "status": "completed"},
        says(f"Answer {number}.", number),
    ]


def only_calls(number: int) -> list[Json]:
    """Return an answer that calls two tools of the app's, and says nothing."""
    names = [f"call_{number}", f"call_{number}_b"]
    function = {"type": "function_call", "name": "show", "arguments": "{}", "status": "completed"}
    return [function | {"id": f"fc_{name}", "call_id": name} for name in names]


def in_two_messages(number: int) -> list[Json]:
    """Return an answer that says first what it is going to do."""
    return [says(f"Let me look {number}.", 2 * number), says(f"Answer {number}.", number)]


def on_the_way(number: int) -> list[Json]:
    """Return an answer that says first what it is going to do, and says that this is no answer."""
    (call, done), look = searched(number), says(f"Let me look {number}. ", 2 * number)
    return [look | {"phase": "commentary"}, call, done | {"phase": "final_answer"}]


def by_helpers(number: int) -> list[Json]:
    """Return an answer before which another agent has made its notes."""
    notes, done = says("My notes. ", 2 * number), says(f"Answer {number}.", number)
    return [notes | {"agent": {"agent_name": "a"}}, done | {"agent": {"agent_name": "b"}}]


def always_the_same_in_two_messages(number: int) -> list[Json]:
    """Return an answer in the same words as any other, whose first message has no id of its own."""
    return [says("Let me look.", 0), says("Certainly.", number)]


def in_two_parts(number: int) -> list[Json]:
    """Return an answer in one message of several parts."""
    message = says(f"Answer {number}.", number)
    return [message | {"content": [*message["content"], *message["content"]]}]


def without_ids_of_its_own(number: int) -> list[Json]:
    """Return an answer of a host that gives every message the same id."""
    return [says(f"Answer {number}.", 0)]


def always_the_same(number: int) -> list[Json]:
    """Return an answer in the same words as any other."""
    return [says("Certainly.", number)]


def refused(number: int) -> list[Json]:
    """Return a refusal."""
    part = {"type": "refusal", "refusal": f"I may not say {number}."}
    return [says("", number) | {"content": [part]}]


def two_tabs(ask: Callable[[list[Json], int], list[Json]], events: Events) -> list[str | None]:
    """Ask in two conversations that begin alike, by turns; return the thread of each Prompt."""
    tabs: list[list[Json]] = [[], []]
    numbers = count(1)
    for turn in range(3):
        for place, tab in enumerate(tabs):
            text = f"Question {turn} of tab {place}?" if turn else "Hi"
            tab.append({"role": "user", "content": text})
            tab.extend(ask(tab, next(numbers)))
    return [one.thread_id for one in events.named("Prompt")]


def assert_two_threads(threads: list[str | None]) -> None:
    """Check that the two conversations of `two_tabs` are two, and each is one."""
    assert threads == threads[:2] * 3
    assert threads[0] != threads[1]


@USERS
@needs("responses")
@pytest.mark.parametrize(
    "output",
    [
        *(searched, ran, only_calls, in_two_messages, in_two_parts, refused),
        *(always_the_same, always_the_same_in_two_messages, without_ids_of_its_own),
    ],
)
def test_the_items_of_a_response(
    output: Callable[[int], list[Json]], user: str | None, events: Events, server: Loopback
) -> None:
    """Whatever the host did for it, and however many messages it is made of."""
    with client_of(server, "sync") as client:

        def ask(tab: list[Json], number: int) -> list[Json]:
            server.script(
                json_reply(
                    response_object(Answer(id=f"resp_{number}", usage=None), output=output(number))
                )
            )
            answer = client.responses.create(model="m", input=tab, store=False)
            return [item.model_dump(exclude_none=True) for item in answer.output]

        with context(user_id=user):
            assert_two_threads(two_tabs(ask, events))


@USERS
@needs("responses")
def test_a_question_that_is_kept_in_other_words(
    user: str | None, events: Events, server: Loopback
) -> None:
    """The model gets the time with it, say: the id of the answer is enough, if it is random."""
    with client_of(server, "sync") as client:

        def ask(tab: list[Json], number: int) -> list[Json]:
            said = says("Yes.", number) | {"id": f"msg_{number:032x}"}
            server.script(json_reply(response_object(Answer(usage=None), output=[said])))
            now = tab[-1] | {"content": f"[It is 9:0{number}.] {tab[-1]['content']}"}
            client.responses.create(model="m", input=[*tab[:-1], now], store=False)
            return [said]

        with context(user_id=user):
            assert_two_threads(two_tabs(ask, events))


@needs("responses")
def test_ids_that_a_host_counts(events: Events, server: Loopback) -> None:
    """Each of its conversations has an answer of that id: with other words it is another one."""
    server.always(json_reply(response_object(Answer(usage=None), output=[says("Yes.", 1)])))
    with client_of(server, "sync") as client:
        for question, resent in (("Hi", "Hi"), ("Trams?", "Are there trams?")):
            client.responses.create(model="m", input=question)
            asked = [{"role": "user", "content": resent}, says("Yes.", 1)]
            item = {"role": "user", "content": f"More of {question}"}
            client.responses.create(model="m", input=[*asked, item])
    first, second, third, fourth = (one.thread_id for one in events.named("Prompt"))
    assert first == second
    assert len({first, third, fourth}) == 3


@USERS
@needs("responses")
def test_ids_of_the_apps_own(user: str | None, events: Events, server: Loopback) -> None:
    """Ids that nobody here has given tell nothing: the words do."""
    with client_of(server, "sync") as client:

        def ask(tab: list[Json], number: int) -> list[Json]:
            answer = response_object(Answer(usage=None), output=[says(f"Answer {number}.", number)])
            server.script(json_reply(answer))
            client.responses.create(model="m", input=tab, store=False)
            return [says(f"Answer {number}.", 100 + number)]

        with context(user_id=user):
            assert_two_threads(two_tabs(ask, events))


@USERS
@needs("responses")
def test_the_items_of_a_stream(user: str | None, events: Events, server: Loopback) -> None:
    """Conversations in the same words are told apart by the ids of their messages."""
    with client_of(server, "sync") as client:

        def ask(tab: list[Json], number: int) -> list[Json]:
            answer = Answer("Certainly.", id=f"resp_{number}", usage=None)
            told = response_events(answer)
            for one in told:
                for item in one.get("response", {}).get("output", ()):
                    item["id"] = f"msg_{number}"
            server.script(response_stream(told))
            *_, last = client.responses.create(model="m", input=tab, stream=True)
            return [item.model_dump(exclude_none=True) for item in last.response.output]

        with context(user_id=user):
            assert_two_threads(two_tabs(ask, events))


@USERS
@needs("responses")
@pytest.mark.parametrize("streamed", ["", "streamed", "nothing at the end"])
@pytest.mark.parametrize("output", [in_two_messages, on_the_way, by_helpers])
def test_the_text_of_several_messages(
    output: Callable[[int], list[Json]],
    streamed: str,
    user: str | None,
    events: Events,
    server: Loopback,
) -> None:
    """An app may send back what the SDK puts together, too."""
    with client_of(server, "sync") as client:

        def ask(tab: list[Json], number: int) -> list[Json]:
            body = response_object(Answer(id=f"resp_{number}", usage=None), output=output(number))
            pieces = response_events("", **body)
            if streamed == "nothing at the end":  # as some hosts have it
                pieces[-1]["response"] = body | {"output": []}
            server.script(response_stream(pieces) if streamed else json_reply(body))
            told = client.responses.create(model="m", input=tab, store=False, stream=bool(streamed))
            deltas = (piece for piece in told if piece.type.endswith("text.delta"))
            text = "".join(piece.delta for piece in deltas) if streamed else told.output_text
            return [{"role": "assistant", "content": text}]

        with context(user_id=user):
            assert_two_threads(two_tabs(ask, events))


@USERS
@needs("responses")
def test_the_text_of_a_stream_that_is_left(
    user: str | None, events: Events, server: Loopback
) -> None:
    """What had come by then, with what was said on the way, names the conversation too."""
    said: list[Json] = []
    with client_of(server, "sync") as client, context(user_id=user):
        for number in range(3):
            said.append({"role": "user", "content": f"Question {number}?"})
            body = response_object(Answer(id=f"resp_{number}"), output=on_the_way(number))
            server.script(response_stream(response_events("", **body)))
            come = ""
            with client.responses.create(model="m", input=said[-3:], stream=True) as pieces:
                while not come.endswith(f"Answer {number}."):
                    piece = next(pieces)
                    come += piece.delta if piece.type.endswith("text.delta") else ""
            said.append({"role": "assistant", "content": come})
    threads = [one.thread_id for one in events.named("Prompt")]
    assert threads == threads[:1] * 3


@needs("responses")
def test_another_answer_after_a_search(events: Events, server: Loopback) -> None:
    """What the host has searched is nothing that anybody has to answer: the turn is at its end."""
    history = [{"role": "user", "content": "Trams?"}, *searched(0)]
    question = {"role": "user", "content": "And tomorrow?"}
    with client_of(server, "sync") as client, context(user_id="ada"):
        for number, asked in enumerate((history[:1], [*history, question], [*history, question])):
            body = response_object(Answer(id=f"resp_{number}", usage=None), output=searched(number))
            server.script(json_reply(body))
            client.responses.create(model="m", input=asked)
    assert [one.text for one in events.named("Prompt")] == ["Trams?", "And tomorrow?"]
    answers = events.named("Generation")
    assert [one.properties.get("regenerated") for one in answers] == [None, None, True]


@USERS
@pytest.mark.parametrize("resent", ["dumped", "by its id", "in words"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_is_spoken(
    resent: str, streamed: bool, user: str | None, events: Events, server: Loopback
) -> None:
    """A spoken answer is sent back by its id, or in words; what the user says is never text."""
    with client_of(server, "sync") as client:

        def ask(tab: list[Json], number: int) -> list[Json]:
            tab[-1] = tab[-1] | {"content": [{"type": "input_audio", "input_audio": SOUND}]}
            sound = {"id": f"audio_{number}", "data": "AAAA", "transcript": f"Answer {number}."}
            server.script(_spoken(sound | {"expires_at": 9}, streamed=streamed))
            stream: Json = {"stream": True} if streamed else {}
            answer = client.chat.completions.create(model="m", messages=tab, **stream)
            if streamed:
                assert len(list(answer)) == 3
            forms: dict[str, Json] = {
                "dumped": {"content": None, "refusal": None, "audio": sound},
                "by its id": {"audio": {"id": sound["id"]}},
                "in words": {"content": sound["transcript"]},
            }
            return [{"role": "assistant"} | forms[resent]]

        with context(user_id=user):
            threads = two_tabs(ask, events)
    assert_two_threads(threads)
    answers = events.named("Generation")
    assert [one.text for one in answers] == [f"Answer {number}." for number in range(1, 7)]
    assert {one.properties["attachments"] for one in answers} == {"audio:1"}


SOUND = {"data": "AAAA", "format": "wav"}


def _spoken(sound: Json, *, streamed: bool) -> Reply:
    body = chat_completion(Answer("x", usage=None))
    if not streamed:
        body["choices"][0]["message"] = {"role": "assistant", "content": None, "audio": sound}
        return json_reply(body)
    chunks = chat_chunks(Answer("x", usage=None))[:1] * 2
    pieces = [{"id": sound["id"], "data": "AA"}, {"transcript": sound["transcript"]}]
    told = [
        chunk | {"choices": [{"index": 0, "delta": {"audio": piece}, "finish_reason": None}]}
        for chunk, piece in zip(chunks, pieces, strict=True)
    ]
    end: Json = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return chat_stream([*told, chunks[0] | {"choices": [end]}])


def test_a_refusal(events: Events, server: Loopback) -> None:
    """Who insists after a refusal asks anew, in the same conversation."""
    messages: list[Json] = []
    with client_of(server, "sync") as client, context(user_id="ada"):
        for question, answer in (
            ("Hi", Answer("Hello!", usage=None)),
            ("Tell me", Answer(refusal="I may not.", usage=None)),
            ("Tell me", Answer(refusal="I still may not.", usage=None)),
        ):
            server.script(json_reply(chat_completion(answer)))
            messages.append({"role": "user", "content": question})
            said = client.chat.completions.create(model="m", messages=messages)
            messages.append(said.choices[0].message.model_dump(exclude_none=True))
    prompts = events.named("Prompt")
    assert [one.text for one in prompts] == ["Hi", "Tell me", "Tell me"]
    assert len({one.thread_id for one in events}) == 1
    assert not any("regenerated" in one.properties for one in events)


def test_signing_in(events: Events, server: Loopback) -> None:
    """Who has said by now who they are goes on with the conversation that they began as nobody."""
    messages: list[Json] = []
    with client_of(server, "sync") as client:
        for user, question, answer in (
            (None, "What plans do you have?", LONG),
            ("ada", "I am signed in now. Plus, please.", "Done."),
            ("ada", "Thanks!", "You're welcome!"),
        ):
            server.script(json_reply(chat_completion(Answer(answer, usage=None))))
            messages.append({"role": "user", "content": question})
            with context(user_id=user):
                client.chat.completions.create(model="m", messages=messages)
            messages.append({"role": "assistant", "content": answer})
    assert len({one.thread_id for one in events}) == 1
    assert [one.user_id for one in events.named("Prompt")][1:] == ["ada", "ada"]


@needs("responses")
@USERS
def test_an_answer_of_elsewhere(user: str | None, events: Events, server: Loopback) -> None:
    """Whoever goes on from the same answer is in one conversation, whoever has told it."""
    with client_of(server, "sync") as client, context(user_id=user):
        for text, previous in (("yes", "resp_a"), ("yes", "resp_b"), ("no", "resp_a")):
            server.script(json_reply(response_object(Answer("Done.", id=f"{text} {previous}"))))
            client.responses.create(model="m", input=text, previous_response_id=previous)
    first, other, again = [one.thread_id for one in events.named("Prompt")]
    assert first == again
    assert first != other


@needs("responses")
@pytest.mark.parametrize("end", ["fetched elsewhere", "broken off"])
def test_an_answer_that_was_not_told(end: str, events: Events, server: Loopback) -> None:
    """The id of an answer that has begun is known, though it came to nobody here."""
    with client_of(server, "sync") as client:
        if end == "fetched elsewhere":
            queued = response_object(Answer(id="resp_1"), status="queued", background=True)
            server.script(json_reply(queued))
            client.responses.create(model="m", input="A report!", background=True)
        else:
            stream = response_stream(response_events(Answer("Hello there", id="resp_1"))[:4])
            server.script(Reply(headers=stream.headers, steps=[*stream.steps, CLOSE], chunked=True))
            with pytest.raises(Exception, match=r"."):
                list(client.responses.create(model="m", input="A report!", stream=True))
        server.script(json_reply(response_object(Answer("Done.", id="resp_2"))))
        client.responses.create(model="m", input="Shorter!", previous_response_id="resp_1")
    prompts = events.named("Prompt")
    assert [one.text for one in prompts] == ["A report!", "Shorter!"]
    assert len({one.thread_id for one in prompts}) == 1


SHOW = ToolCall("show", "{}", "call_1")


class Chat:
    """A chatbot with a tool, which keeps its messages."""

    def __init__(self, server: Loopback, client: Any) -> None:
        self.messages: list[Json] = []
        self._server, self._client = server, client

    def ask(self, text: str | None, answer: Answer) -> None:
        """Ask, or send the results of tools if there is no text, and get this answer."""
        if text:
            self.messages.append({"role": "user", "content": text})
        self._server.script(json_reply(chat_completion(answer)))
        self.send()

    def send(self) -> None:
        """Send all that was said, and keep what comes back, with what its tools say."""
        said = self._client.chat.completions.create(model="m", messages=self.messages)
        message = said.choices[0].message
        self.messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            result = {"role": "tool", "tool_call_id": call.id, "content": "Shown."}
            self.messages.append(result)


@pytest.fixture
def chats(server: Loopback) -> Iterator[tuple[Chat, Chat]]:
    """Give two chatbots of one process."""
    with client_of(server, "sync") as client:
        yield Chat(server, client), Chat(server, client)


@USERS
def test_an_answer_that_is_a_tool_call(
    user: str | None, chats: tuple[Chat, Chat], events: Events
) -> None:
    """It ends the turn where the tool shows the answer, and then names the conversation."""
    numbers = count(1)
    with context(user_id=user):
        for turn in range(3):
            for place, chat in enumerate(chats):
                text = f"Question {turn} of tab {place}?" if turn else "Hi"
                call = SHOW._replace(id=f"call_{next(numbers)}")
                chat.ask(text, Answer(tool_calls=(call,), usage=None))
    assert_two_threads([one.thread_id for one in events.named("Prompt")])


@pytest.mark.parametrize("again", ["tool", "retry"])
def test_a_call_more_takes_nobody_elses_place(
    again: str, chats: tuple[Chat, Chat], server: Loopback, events: Events
) -> None:
    """Strangers who begin alike part with their next question, whatever calls that one needs."""
    one, other = chats
    for chat in chats:
        chat.ask("Hi", Answer("Hello.", usage=None))
    if again == "tool":
        one.ask("The weather?", Answer(tool_calls=(SHOW,), usage=None))
        one.ask(None, Answer("Rain.", usage=None))
    else:
        server.script(Reply(400))
        with pytest.raises(openai.BadRequestError):
            one.ask("The weather?", Answer("Rain.", usage=None))
        one.send()
    other.ask("Open?", Answer("Yes.", usage=None))
    one.ask("Thanks", Answer("Bye.", usage=None))
    other.ask("Thanks", Answer("See you.", usage=None))
    threads = [prompt.thread_id for prompt in events.named("Prompt")]
    assert threads[2:4] == threads[4:]
    assert threads[2] != threads[3]
