"""Defects that were found once, each with the rule that it broke."""

from __future__ import annotations

import copy
import logging
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall, chat_completion

from tests.openai.asking import client_of, needs
from tests.replies import json_reply
from tests.told import told
from trubrics_instrument import (
    _runtime,
    configure,
    context,
    flush,
    identify,
    patch_openai,
    stats,
    track,
)
from trubrics_instrument._base import shield

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.loopback import Loopback
    from tests.sink import Sink


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    """Give a client whose server always answers the same."""
    server.always(lambda _: json_reply(chat_completion(Answer("No more.", usage=None))))
    with client_of(server, "sync") as ready:
        yield ready


def say(client: Any, *history: str) -> None:
    """Ask with a history of user and assistant, by turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(history)]
    client.chat.completions.create(model="gpt-4o", messages=messages)


def test_another_host_without_a_key() -> None:
    """A host of an observer's own, without a key, is refused: nothing goes to the wrong project."""
    configure("project-a", host="https://a.example/api")
    with pytest.raises(ValueError, match=r"host='https://b\.example/api' needs its own api_key"):
        patch_openai(host="https://b.example/api")
    patch_openai(host="https://a.example/api/")


@needs("responses")
def test_a_server_that_quotes_the_question_in_its_codes(sink: Sink, server: Loopback) -> None:
    """With `capture="metadata"` no word of it leaves, in whichever field the server puts it."""
    configure(host=sink.host, capture="metadata")
    patch_openai()
    reply = chat_completion(Answer("No more.", usage=None))
    reply["model"] = "a model for Ada Lovelace"
    reply["choices"][0]["finish_reason"] = "stopped at Ada Lovelace"
    failed: dict[str, Any] = {"id": "r-1", "object": "response", "status": "failed", "output": []}
    failed["error"] = {"code": "nothing about Ada Lovelace", "message": "Ada Lovelace"}
    server.script(json_reply(reply))
    server.script(json_reply(failed))
    with client_of(server, "sync") as client:
        say(client, "Who was Ada Lovelace?")
        client.responses.create(model="gpt-4o", input="Who was Ada Lovelace?")

    events = sink.wait_for(4)
    assert [event["event"] for event in events] == [
        *("Prompt", "Generation"),
        *("Prompt", "Generation failed"),
    ]
    assert "Lovelace" not in str(events)


def test_the_same_exchange_again_and_again(sink: Sink, client: Any) -> None:
    """The same word, answered alike each time, is a new question each time."""
    patch_openai(user_id="ada")
    history: list[str] = []
    for _ in range(6):
        history.append("more")
        say(client, *history)
        history.append("No more.")
    events = told(sink, 12)
    assert [event["event"] for event in events] == ["Prompt", "Generation"] * 6
    assert len({event["$prompt_id"] for event in events}) == 6
    assert len({event["$thread_id"] for event in events}) == 1
    assert not any("regenerated" in event for event in events)


@pytest.mark.parametrize("user", [42, "  ", "x" * 600])
def test_any_default_user(user: Any, sink: Sink, client: Any) -> None:
    """The configured user may be anything that `context()` takes."""
    configure(host=sink.host, user_id=user)
    patch_openai()
    say(client, "Hi")
    assert len(sink.wait_for(2)[0]["user_id"]) <= 512
    assert stats().faults == {}


def test_one_tool_call_id_for_two_conversations(sink: Sink, server: Loopback) -> None:
    """Hosts that number their tool calls from 0 do not mix the turns of two conversations."""
    call = Answer(tool_calls=(ToolCall("look", "{}", "call_0"),), usage=None)
    done = Answer("Done.", usage=None)
    server.script(*(json_reply(chat_completion(one)) for one in (call, call, done, done)))
    patch_openai()
    question = {"role": "user", "content": "Look!"}
    result = {"role": "tool", "tool_call_id": "call_0", "content": "seen"}
    messages = [question, chat_completion(call)["choices"][0]["message"], result]
    with client_of(server, "sync") as client:
        for asked in ([question], messages):
            for thread in ("t-1", "t-2"):
                with context(thread_id=thread):
                    client.chat.completions.create(model="m", messages=asked)
    events = sink.wait_for(6)
    prompts = {
        event["properties"]["$thread_id"]: event["properties"]["$prompt_id"]
        for event in events
        if event["event"] == "Prompt"
    }
    generations = {
        event["properties"]["$thread_id"]: event["properties"]["$prompt_id"]
        for event in events
        if event["event"] == "Generation"
    }
    assert generations == prompts
    assert len(prompts) == 2


def test_one_prompt_id_for_two_users(sink: Sink, client: Any) -> None:
    """Two users whose messages are numbered alike are still two."""
    patch_openai()
    for user in ("ada", "bob"):
        with context(user_id=user, thread_id=f"{user}-1", prompt_id="1"):
            say(client, "Hi")
    assert [(event["user_id"], event["event"]) for event in told(sink, 4)] == [
        ("ada", "Prompt"),
        ("ada", "Generation"),
        ("bob", "Prompt"),
        ("bob", "Generation"),
    ]


def test_an_app_whose_log_handler_raises(sink: Sink, client: Any) -> None:
    """A log handler of the app's that raises does not reach the call of a model."""

    class Broken(logging.Handler):
        """Raises at each line."""

        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("the log is down")

    patch_openai()
    shield.set_strict(strict=False)
    handler = Broken()
    logging.getLogger("trubrics_instrument").addHandler(handler)
    try:
        with shield.shield("testing"):
            raise KeyError
    finally:
        logging.getLogger("trubrics_instrument").removeHandler(handler)
    assert stats().faults == {"testing": 1}


def test_properties_that_are_none() -> None:
    """What is no mapping is left out: `identify()` is called in the middle of a request."""
    shield.set_strict(strict=False)
    wrong: Any = 7
    copy_context().run(lambda: identify("ada", properties=wrong))
    with context(properties=wrong):
        assert stats().faults == {"reading properties": 2}


def test_an_impossible_environment(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    """At set-up it raises; at run time nothing is sent, and the app goes on."""
    monkeypatch.setenv("TRUBRICS_SAMPLE_RATE", "abc")
    with pytest.raises(ValueError, match="TRUBRICS_SAMPLE_RATE='abc' is no number"):
        patch_openai()
    assert flush(1)
    assert not _runtime.config().enabled
    say(client, "Hi")


@pytest.mark.parametrize("spool", ["off", "strict"])
@pytest.mark.parametrize("option", ["before_send", "redact", "redact and more"])
def test_an_event_that_asks_a_model(
    option: str, spool: Any, sink: Sink, client: Any, tmp_path: Path
) -> None:
    """What handles events may ask a model itself: that makes no events, or they would never end."""
    asked: list[object] = []

    def ask(given: Any) -> Any:
        asked.append(given)
        assert len(asked) < 20
        with context(user_id="judge"):
            say(client, "Is this fine?")
            track("Judged")
        return given

    def before_send(event: dict[str, Any]) -> dict[str, Any]:
        return event if event["event"] == "Judged" else ask(event)

    def redact(text: str) -> str:
        return ask(text) if text == "Hi" else text

    options: dict[str, dict[str, Any]] = {
        "before_send": {"before_send": before_send},
        "redact": {"redact": redact},
        "redact and more": {"redact": ["secrets", redact]},
    }
    configure(host=sink.host, spool=spool, spool_dir=tmp_path, **options[option])
    patch_openai(user_id="ada")
    say(client, "Hi")
    assert flush(5)
    judged = 2 if option == "before_send" else 1
    # What is tracked while the others are flushed comes behind them.
    heard = sorted((one["user_id"], one["event"]) for one in sink.wait_for(2 + judged))
    assert heard == [("ada", "Generation"), ("ada", "Prompt"), *[("judge", "Judged")] * judged]
    assert stats().faults == {}


class Plain(openai.OpenAI):
    """A client of an app's own, whose address is what the app says."""

    address: Any = None

    @property
    def base_url(self) -> Any:
        """The address, of whichever type."""
        return self.address

    @base_url.setter
    def base_url(self, url: Any) -> None:
        self.address = url

    def _prepare_url(self, url: str) -> Any:
        said, self.address = self.address, self._base_url  # what the SDK was given
        try:
            return super()._prepare_url(url)
        finally:
            self.address = said


class NoText:
    """An address whose host no encoding can read."""

    raw_host = b"\xff.example"


@pytest.mark.parametrize(
    ("address", "provider", "faults"),
    [
        ("http://models.example:8000/v1", "models.example", {}),
        ("https://api.openai.com/v1", "openai", {}),
        ("nowhere", None, {}),
        (None, None, {}),
        (NoText(), "\\xff.example", {}),
        ("http://[", None, {"reading the provider": 1}),
    ],
)
def test_any_address(
    address: Any, provider: str | None, faults: dict[str, int], sink: Sink, server: Loopback
) -> None:
    """An address that cannot be read costs at most the provider's name."""
    server.always(lambda _: json_reply(chat_completion("Hello")))
    shield.set_strict(strict=False)
    patch_openai()
    with Plain(base_url=server.base_url, api_key="k") as client:
        client.address = address
        say(client, "Hi")
    events = [(event["event"], event.get("provider")) for event in told(sink, 2)]
    assert events == [("Prompt", provider), ("Generation", provider)]
    assert stats().faults == faults


def test_a_client_that_copies_its_options(sink: Sink, server: Loopback) -> None:
    """A client whose own code copies a request in depth makes one call of it all the same."""

    class Copying(openai.OpenAI):
        def _prepare_options(self, options: Any) -> Any:
            return copy.deepcopy(options)

    server.always(lambda _: json_reply(chat_completion("Yes")))
    patch_openai()
    with Copying(base_url=server.base_url, api_key="k") as client:
        say(client, "Hi")
    assert flush(5)
    assert [event["event"] for event in sink.events] == ["Prompt", "Generation"]
