"""Feedback: on the answer that is meant, from the user who got it."""

from __future__ import annotations

import contextvars
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from openai_wire import Answer, chat_completion
from responses_wire import response_object

from tests.openai.asking import client_of
from tests.replies import error_reply, json_reply
from tests.told import told
from trubrics_instrument import (
    TrubricsCallbackHandler,
    _public,
    context,
    feedback,
    patch_openai,
    suppress,
)
from trubrics_instrument._context import scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback import Loopback
    from tests.sink import Sink

QUESTION: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    """Give an observed client, in a scope of its own."""
    before = scope._here.get()
    patch_openai()
    with client_of(server, "sync") as ready:
        yield ready
    scope._here.set(before)


def ask(client: Any, server: Loopback, **answer: Any) -> Any:
    """Ask, and return the answer."""
    server.script(json_reply(chat_completion(Answer("Hello", usage=None, **answer))))
    return client.chat.completions.create(model="m", messages=QUESTION, n=1)


def test_on_a_response(client: Any, sink: Sink, server: Loopback) -> None:
    """A response names its answer; user and thread are those of the answer, wherever one is."""
    with context(user_id="ada", thread_id="a"):
        answer = ask(client, server, id="answer-1")
    assert feedback(answer, 1, comment="Nice", properties={"page": 2})
    *_, event = told(sink, 3)
    assert event == {
        "event": "Feedback",
        "user_id": "ada",
        "$text": "Nice",
        "$thread_id": "thread 1",
        "$prompt_id": "prompt 1",
        "$generation_id": "answer-1",
        "score": 1,
        "page": 2,
    }


@pytest.mark.parametrize(
    "target",
    ["answer-1", {"id": "answer-1"}, AIMessage("Hello", id="answer-1")],
    ids=["id", "dict", "message"],
)
def test_on_whatever_has_the_id(target: object, client: Any, sink: Sink, server: Loopback) -> None:
    """An id, a dict and a LangChain message name the same answer."""
    with context(user_id="ada", thread_id="a"):
        ask(client, server, id="answer-1")
    assert feedback(target, 0)
    *_, event = told(sink, 3)
    assert (event["user_id"], event["$thread_id"], event["$generation_id"], event["score"]) == (
        "ada",
        "thread 1",
        "answer-1",
        0,
    )


def test_on_a_response_of_the_other_api(client: Any, sink: Sink, server: Loopback) -> None:
    """The Responses API's answers have ids too."""
    server.script(json_reply(response_object(Answer("Hello", id="resp_a"))))
    answer = client.responses.create(model="m", input="Hi")
    assert feedback(answer, 0.5)
    prompt, _, event = told(sink, 3)
    assert event["$generation_id"] == "resp_a"
    assert (event["user_id"], event["$thread_id"]) == (prompt["user_id"], prompt["$thread_id"])
    assert event["anonymous"] is True


def test_on_one_of_several_choices(client: Any, sink: Sink, server: Loopback) -> None:
    """A choice beyond the first has its number behind the answer's id."""
    with context(user_id="ada"):
        ask(client, server, id="answer-1", more=("Hi there",))
    assert feedback("answer-1:1", 1)
    assert feedback("answer-1", 1)
    events = told(sink, 5)
    assert [one["$generation_id"] for one in events[3:]] == ["answer-1:1", "answer-1"]


def test_on_the_last_answer(client: Any, sink: Sink, server: Loopback) -> None:
    """Without a target it is the last answer of this task or thread."""
    with context(user_id="ada", generation_id="mine"):
        ask(client, server, id="answer-1")
    assert feedback(None, True)
    event = told(sink, 3)[-1]
    assert (event["user_id"], event["$generation_id"], event["score"]) == ("ada", "mine", 1)


def test_on_an_answer_with_a_name_of_its_own(client: Any, sink: Sink, server: Loopback) -> None:
    """A response whose answer was told under the app's own id is found by its own id too."""
    with context(user_id="ada", generation_id="mine"):
        ask(client, server, id="answer-1")
    assert feedback("answer-1", 1)
    event = told(sink, 3)[-1]
    assert (event["user_id"], event["$generation_id"]) == ("ada", "mine")


def test_on_the_last_answer_of_a_context(client: Any, sink: Sink, server: Loopback) -> None:
    """In a context it is that context's last answer, in whatever copy of it the call was made."""
    with context(user_id="ada"):
        with context(properties={"step": 1}):
            contextvars.copy_context().run(ask, client, server, id="answer-1")
        assert feedback(None, 1)
    with context(user_id="bob"), pytest.raises(ValueError, match="there is none"):
        feedback(None, 1)
    event = told(sink, 3)[-1]
    assert (event["user_id"], event["$generation_id"]) == ("ada", "answer-1")


def test_a_context_takes_nothing_from_its_thread(client: Any, sink: Sink, server: Loopback) -> None:
    """What the thread did before a context may be somebody else's."""
    ask(client, server, id="answer-1")
    with context(user_id="bob"), pytest.raises(ValueError, match="there is none"):
        feedback(None, 1)
    assert feedback(None, 1)
    assert [event["event"] for event in told(sink, 3)] == ["Prompt", "Generation", "Feedback"]


def test_on_the_last_answer_of_a_chain(sink: Sink) -> None:
    """LangChain runs the steps of a chain in copies of the context; its answer is found too."""
    chain = RunnableLambda(str) | FakeListChatModel(responses=["Hello"])
    with context(user_id="ada"):
        chain.invoke("Hi", {"callbacks": [TrubricsCallbackHandler()]})
        assert feedback(None, 1)
    _, generation, event = told(sink, 3)
    assert event["$generation_id"] == generation["$generation_id"]


def test_on_the_last_answer_of_a_request(client: Any, sink: Sink, server: Loopback) -> None:
    """In a request it is that request's last answer, never the one before it."""
    with scope.Request():
        ask(client, server, id="answer-1")
        assert feedback(None, 1)
    with scope.Request(), pytest.raises(ValueError, match="there is none"):
        feedback(None, 1)
    assert told(sink, 3)[-1]["$generation_id"] == "answer-1"


def test_on_an_answer_of_another_process(sink: Sink) -> None:
    """An id that this process does not know is told with what the scope says."""
    with context(user_id="ada", thread_id="a"):
        assert feedback("elsewhere", 5)
    assert feedback("elsewhere", 1, user_id="bob")
    assert feedback("elsewhere", 1)
    events = told(sink, 3)
    assert [(one["user_id"], one.get("$thread_id")) for one in events] == [
        ("ada", "thread 1"),
        ("bob", None),
        ("anon 1", None),
    ]


def test_by_somebody_else(client: Any, sink: Sink, server: Loopback) -> None:
    """Whoever is named is who thinks so."""
    with context(user_id="ada"):
        answer = ask(client, server)
    assert feedback(answer, 1, user_id="a reviewer")
    assert told(sink, 3)[-1]["user_id"] == "a reviewer"


@pytest.mark.parametrize("target", ["", " ", object(), {}, {"id": 7}, AIMessage("Hello")])
def test_for_nothing(target: object, sink: Sink) -> None:
    """A feedback for nothing is a mistake, told at once."""
    with pytest.raises(ValueError, match="needs an answer or its id"):
        feedback(target, 1)


def test_when_there_was_no_answer(client: Any, sink: Sink, server: Loopback) -> None:
    """A call that failed has no answer to think anything of."""
    server.script(error_reply(400))
    with pytest.raises(Exception, match="Scripted"), context():
        client.chat.completions.create(model="m", messages=QUESTION)
    with pytest.raises(ValueError, match="there is none"):
        feedback(None, 1)
    assert [event["event"] for event in told(sink, 2)] == ["Prompt", "Generation failed"]


@pytest.mark.parametrize("score", [None, "up", float("nan"), float("inf"), 10**400, 1j], ids=repr)
def test_impossible_scores(score: Any, sink: Sink) -> None:
    """A score is a number."""
    with pytest.raises(ValueError, match="score must be a number"):
        feedback("answer-1", score)


@pytest.mark.parametrize(("score", "told"), [(True, 1), (4, 4), (0.5, 0.5), (Fraction(1, 4), 0.25)])
def test_possible_scores(score: Any, told: float, sink: Sink) -> None:
    """Whatever counts as a real number is one, of whichever library."""
    feedback("answer-1", score)
    assert sink.wait_for(1)[0]["properties"]["score"] == told


def test_switched_off(sink: Sink) -> None:
    """Nothing is sent, and nothing is missed, where observation is off."""
    with suppress():
        assert not feedback(None, 1)
    _public.configure(host=sink.host, enabled=False)
    assert not feedback("answer-1", 1)
