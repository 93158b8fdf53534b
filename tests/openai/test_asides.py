"""What is no question and no answer: a cache warmed up, a shorter context, commentary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai_wire import Answer, ToolCall
from responses_wire import response_events, response_object

from tests.openai.asking import MODES, client_of, close_client, needs, pieces, settled
from tests.replies import RESET, error_reply, json_reply, response_stream
from tests.told import told
from trubrics_instrument import context, patch_openai
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from tests.loopback import Loopback
    from tests.openai.asking import Mode
    from tests.sink import Sink

pytestmark = [pytest.mark.anyio, needs("responses")]

BOTH = pytest.mark.parametrize("mode", MODES)
COMPACT = pytest.param("compact", marks=needs("responses.compact"))
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
USER = {"role": "user", "content": "Tidy up my module."}
TOOLS = Answer(tool_calls=(ToolCall("edit", "{}", "call_7"),), id="resp_1", usage=None)
CALL = response_object(TOOLS)["output"][0]
RESULT = {"type": "function_call_output", "call_id": "call_7", "output": "done"}
TRIGGER = {"type": "compaction_trigger"}
SHORT = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
ONE_TURN = [
    ("Prompt", "Tidy up my module.", "prompt 1", "thread 1"),
    ("Tool call", None, "prompt 1", "thread 1"),
    ("Generation", "Done.", "prompt 1", "thread 1"),
]
PREWARM = {"extra_body": {"prompt_cache_options": {"prewarm": True}}}


def message(text: str, **fields: Any) -> dict[str, Any]:
    """Return a message of an output."""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    about = {"type": "message", "id": f"msg {text}", "role": "assistant", "status": "completed"}
    return {**about, "content": [part], **fields}


def is_users(item: dict[str, Any]) -> bool:
    """Whether the user says it."""
    return bool(item.get("role") == "user")


def brief(sink: Sink, n: int) -> list[tuple[Any, ...]]:
    """Return event, text, prompt and thread of the first `n` events."""
    return [
        (one["event"], one.get("$text"), one["$prompt_id"], one["$thread_id"])
        for one in told(sink, n)
    ]


class Asking:
    """Asks a scripted server one thing after the other."""

    def __init__(self, server: Loopback, mode: Mode, *, stream: bool = False) -> None:
        self._server = server
        self._client = client_of(server, mode)
        self._stream = stream

    async def ask(self, given: Any, *output: dict[str, Any], **more: Any) -> None:
        """Ask for an answer with this output, and read it."""
        answered = response_object("", output=list(output), **more.pop("answered", {}))
        events = response_events("", **answered)
        self._server.script(response_stream(events) if self._stream else json_reply(answered))
        wanted = {"model": "gpt-4o", "input": given, "stream": self._stream, **more}
        answer = await settled(self._client.responses.create(**wanted))
        if self._stream:
            assert [piece async for piece in pieces(answer)]

    async def aside(self, kind: str, given: list[Any], short: dict[str, Any] | None = None) -> None:
        """Have something made ready or shorter, of which nothing is told."""
        short = short or SHORT
        if kind == "prewarm":
            await self.ask(given, **PREWARM)
        elif kind == "trigger":
            await self.ask([*given, TRIGGER], short, answered={"id": f"resp {short['id']}"})
        else:
            users = [message(one["content"], role="user") for one in given if is_users(one)]
            await self.compact(given, *users, short)

    async def compact(self, given: Any, *output: dict[str, Any]) -> None:
        """Have a context made shorter."""
        about = {"id": "cmp_resp", "object": "response.compaction", "created_at": 1}
        self._server.script(json_reply({**about, "output": list(output), "usage": None}))
        await settled(self._client.responses.compact(model="gpt-4o", input=given))

    async def close(self) -> None:
        """Close the client."""
        await close_client(self._client)


@BOTH
@EITHER
async def test_warmed_up(mode: Mode, stream: bool, sink: Sink, server: Loopback) -> None:
    """A cache that is warmed up for a question is not asked that question."""
    patch_openai()
    asking = Asking(server, mode, stream=stream)
    await asking.ask([USER], **PREWARM)
    await asking.ask([USER], message("Done."))
    await asking.close()
    assert brief(sink, 2) == [
        ("Prompt", "Tidy up my module.", "prompt 1", "thread 1"),
        ("Generation", "Done.", "prompt 1", "thread 1"),
    ]


@BOTH
async def test_not_warmed_up(mode: Mode, sink: Sink, server: Loopback) -> None:
    """That it failed is no answer's failure, and no turn's."""
    patch_openai()
    asking = Asking(server, mode)
    server.script(error_reply(500))
    with pytest.raises(openai.InternalServerError):
        await settled(asking._client.responses.create(model="gpt-4o", input=[USER], **PREWARM))
    await asking.ask([USER], message("Done."))
    await asking.close()
    assert [one[0] for one in brief(sink, 2)] == ["Prompt", "Generation"]


@BOTH
async def test_warmed_up_between_a_failure_and_its_retry(
    mode: Mode, sink: Sink, server: Loopback
) -> None:
    """A stranger's retry is known by the code that failed, which has not gone on."""
    patch_openai()
    asking = Asking(server, mode)
    server.script(error_reply(500))
    with pytest.raises(openai.InternalServerError):
        await settled(asking._client.responses.create(model="gpt-4o", input=[USER]))
    await asking.ask([{"role": "developer", "content": "Be kind."}], **PREWARM)
    await asking.ask([USER], message("Done."))
    await asking.close()
    assert [one[:2] for one in brief(sink, 3)] == [
        ("Prompt", "Tidy up my module."),
        ("Generation failed", None),
        ("Generation", "Done."),
    ]


@BOTH
@pytest.mark.parametrize("who", [{}, {"user_id": "ada"}], ids=["anonymous", "named"])
@pytest.mark.parametrize("aside", ["prewarm", COMPACT, "trigger"])
async def test_the_same_between_a_failure_and_its_retry(
    aside: str, who: dict[str, Any], mode: Mode, sink: Sink, server: Loopback
) -> None:
    """A failed question that is warmed up, or made shorter, is still to be tried again."""
    patch_openai()
    asking = Asking(server, mode)
    with context(**who):
        server.script(error_reply(500))
        with pytest.raises(openai.InternalServerError):
            await settled(asking._client.responses.create(model="gpt-4o", input=[USER]))
        await asking.aside(aside, [USER])
        await asking.ask([USER], message("Done."))
    await asking.close()
    assert brief(sink, 3) == [
        ("Prompt", "Tidy up my module.", "prompt 1", "thread 1"),
        ("Generation failed", None, "prompt 1", "thread 1"),
        ("Generation", "Done.", "prompt 1", "thread 1"),
    ]


@BOTH
@pytest.mark.parametrize("who", [{}, {"user_id": "ada", "prompt_id": "msg-1"}], ids=["", "named"])
@pytest.mark.parametrize("aside", ["prewarm", COMPACT, "trigger"])
async def test_before_the_question(
    aside: str, who: dict[str, Any], mode: Mode, sink: Sink, server: Loopback
) -> None:
    """A question that stands in what is shortened, or warmed up, has still to be asked."""
    patch_openai()
    asking = Asking(server, mode)
    with context(**who):
        await asking.aside(aside, [USER])
        await asking.ask([USER] if aside == "prewarm" else [USER, SHORT], message("Done."))
    await asking.close()
    assert brief(sink, 2) == [
        ("Prompt", "Tidy up my module.", "prompt 1", "thread 1"),
        ("Generation", "Done.", "prompt 1", "thread 1"),
    ]


async def test_a_conversation_begins_with_its_question(server: Loopback) -> None:
    """Each process names it by that, whether a cache was warmed up for it or not."""
    patch_openai()
    threads: set[str | None] = set()
    for warmed_up in (True, False):
        asking = Asking(server, "sync")
        with capture() as events, context(user_id="ada"):
            if warmed_up:
                await asking.ask([USER], **PREWARM)
            await asking.ask([USER], message("Done."))
        await asking.close()
        threads |= {one.thread_id for one in events}
    assert len(threads) == 1


@BOTH
async def test_shortened_in_a_turn_of_elsewhere(mode: Mode, sink: Sink, server: Loopback) -> None:
    """Where the result of a tool is shortened, the question was asked, if in another process."""
    patch_openai()
    asking = Asking(server, mode)
    await asking.aside("trigger", [USER, CALL, RESULT])
    await asking.ask([USER, SHORT], message("Done."))
    await asking.close()
    assert [one[:2] for one in brief(sink, 1)] == [("Generation", "Done.")]


@BOTH
@pytest.mark.parametrize("inside", [False, True], ids=["behind", "inside"])
@pytest.mark.parametrize("aside", [COMPACT, "trigger"])
async def test_too_long(aside: str, inside: bool, mode: Mode, sink: Sink, server: Loopback) -> None:
    """A question that was too long with its history is tried again with what is made of that."""
    patch_openai()
    asking = Asking(server, mode)
    before, more = [USER, message("Done.")], {"role": "user", "content": "And the other one."}
    await asking.ask([USER], message("Done."))
    server.script(error_reply(400, "context_length_exceeded"))
    with pytest.raises(openai.BadRequestError):
        await settled(asking._client.responses.create(model="gpt-4o", input=[*before, more]))
    await asking.aside(aside, [*before, more] if inside else before)
    shorter = [USER, more, SHORT] if inside else [USER, SHORT, more]
    await asking.ask(shorter, message("Done, too."), answered={"id": "resp_3"})
    await asking.close()
    assert brief(sink, 5)[2:] == [
        ("Prompt", "And the other one.", "prompt 2", "thread 1"),
        ("Generation failed", None, "prompt 2", "thread 1"),
        ("Generation", "Done, too.", "prompt 2", "thread 1"),
    ]


@BOTH
@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("aside", [COMPACT, "trigger"])
async def test_two_who_began_alike(
    aside: str, turns: int, mode: Mode, sink: Sink, server: Loopback
) -> None:
    """What stands for a shortened context names the conversation: the user's words may be alike."""
    patch_openai()
    asking = Asking(server, mode)
    windows: dict[str, list[Any]] = {"A": [], "B": []}
    for turn in range(turns + 2):
        for name, window in windows.items():
            if turn == turns:
                short = SHORT | {"id": f"cmp_{name}"}
                await asking.aside(aside, window, short)
                window[:] = [*[one for one in window if one["role"] == "user"], short]
            text = f"{turn} of {name}" if turn else "Hello"
            told = {"id": f"resp_{turn}{name}"}
            window.append({"role": "user", "content": text})
            await asking.ask(window, message(f"To {turn} of {name}."), answered=told)
            window.append(message(f"To {turn} of {name}."))
    await asking.close()
    events = brief(sink, 4 * (turns + 2))
    threads = [thread for event, _, _, thread in events if event == "Prompt"]
    assert threads == ["thread 1", "thread 2"] * (turns + 2)


@BOTH
@EITHER
@pytest.mark.parametrize("resent", ["all", "shortened"])
async def test_shortened_in_a_turn(
    resent: str, mode: Mode, stream: bool, sink: Sink, server: Loopback
) -> None:
    """A context that is made shorter between a tool and the answer belongs to one question."""
    patch_openai()
    asking = Asking(server, mode, stream=stream)
    await asking.ask([USER], CALL)
    await asking.ask([USER, CALL, RESULT, TRIGGER], SHORT, answered={"id": "resp_2"})
    window = [USER, CALL, RESULT, SHORT] if resent == "all" else [SHORT]
    await asking.ask(window, message("Done."), answered={"id": "resp_3"})
    await asking.close()
    assert brief(sink, 3) == ONE_TURN


@BOTH
async def test_shortened_by_id(mode: Mode, sink: Sink, server: Loopback) -> None:
    """A conversation goes on from its shortened context, which nobody asked for."""
    patch_openai()
    asking = Asking(server, mode)
    await asking.ask([USER], message("Done."))
    shortened = {"previous_response_id": "resp_1", "answered": {"id": "resp_2"}}
    await asking.ask([TRIGGER], SHORT, **shortened)
    again = {"previous_response_id": "resp_2", "answered": {"id": "resp_3"}}
    await asking.ask("And the other one.", message("Done, too."), **again)
    await asking.close()
    assert brief(sink, 4) == [
        ("Prompt", "Tidy up my module.", "prompt 1", "thread 1"),
        ("Generation", "Done.", "prompt 1", "thread 1"),
        ("Prompt", "And the other one.", "prompt 2", "thread 1"),
        ("Generation", "Done, too.", "prompt 2", "thread 1"),
    ]


@BOTH
@needs("responses.compact")
async def test_compacted(mode: Mode, sink: Sink, server: Loopback) -> None:
    """`responses.compact` gives the user's messages back: they are not asked again."""
    patch_openai()
    asking = Asking(server, mode)
    users = message("Tidy up my module.", role="user")
    await asking.ask([USER], CALL)
    await asking.compact([USER, CALL, RESULT], users, SHORT)
    await asking.ask([USER, SHORT], message("Done."), answered={"id": "resp_2"})
    await asking.close()
    assert brief(sink, 3) == ONE_TURN


@BOTH
async def test_shortened_elsewhere(mode: Mode, sink: Sink, server: Loopback) -> None:
    """A question before a shortened context that nobody here has seen is asked."""
    patch_openai()
    asking = Asking(server, mode)
    await asking.ask([USER, SHORT], message("Done."))
    await asking.close()
    assert [one[:2] for one in brief(sink, 2)] == [
        ("Prompt", "Tidy up my module."),
        ("Generation", "Done."),
    ]


@BOTH
async def test_another_effort(mode: Mode, sink: Sink, server: Loopback) -> None:
    """What sets the model's effort anew behind a result says nothing to the user."""
    patch_openai()
    asking = Asking(server, mode)
    update = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    await asking.ask([USER], CALL)
    await asking.ask([USER, CALL, RESULT, update], message("Done."), answered={"id": "resp_2"})
    await asking.close()
    assert [one[0] for one in brief(sink, 3)] == ["Prompt", "Tool call", "Generation"]
    assert {one[2] for one in brief(sink, 3)} == {"prompt 1"}


LOOK = message("I look.", phase="commentary")
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
DONE = message("Done.", phase="final_answer")
HELPER = message("My notes.", agent={"agent_name": "helper"})
ROOT = message("Done.", agent={"agent_name": "main"})


@BOTH
@EITHER
@pytest.mark.parametrize(
    ("output", "events"),
    [
        ((LOOK, SEARCH, DONE), [("Generation", "Done."), ("Tool call", None)]),
        ((LOOK, CALL), [("Tool call", None)]),
        ((LOOK, SEARCH), [("Generation", "I look."), ("Tool call", None)]),
        ((LOOK,), [("Generation", "I look.")]),
        ((DONE, CALL), [("Generation", "Done."), ("Tool call", None)]),
        ((HELPER, ROOT), [("Generation", "Done.")]),
        ((message("One."), message("Two.")), [("Generation", "One.Two.")]),
    ],
    ids=["answer", "own tool", "hosted tool", "alone", "answer and tool", "helper", "no phase"],
)
async def test_on_the_way(
    output: tuple[dict[str, Any], ...],
    events: list[tuple[str, str | None]],
    mode: Mode,
    stream: bool,
    sink: Sink,
    server: Loopback,
) -> None:
    """What a model says on the way to an answer is not the answer."""
    patch_openai()
    asking = Asking(server, mode, stream=stream)
    await asking.ask([USER], *output)
    await asking.close()
    assert [(one["event"], one.get("$text")) for one in told(sink, 1 + len(events))[1:]] == events


@BOTH
@pytest.mark.parametrize(
    ("output", "text"),
    [((LOOK, DONE), "Done."), ((LOOK,), "I look."), ((LOOK, CALL), None)],
    ids=["answer", "alone", "own tool"],
)
async def test_broken_off_on_the_way(
    output: tuple[dict[str, Any], ...], text: str | None, mode: Mode, sink: Sink, server: Loopback
) -> None:
    """The same of a stream that breaks off before its last event, which would hold all."""
    patch_openai()
    events = response_events("", **response_object("", output=list(output)))
    server.script(response_stream([*events[:-1], RESET]))
    client = client_of(server, mode)
    answer = await settled(client.responses.create(model="gpt-4o", input=[USER], stream=True))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever the SDK's version has for it
        _ = [piece async for piece in pieces(answer)]
    await close_client(client)
    assert told(sink, 2)[1].get("$text") == text


@BOTH
@pytest.mark.parametrize(("status", "count"), [("completed", "image:1"), ("failed", None)])
async def test_a_picture(
    status: str, count: str | None, mode: Mode, sink: Sink, server: Loopback
) -> None:
    """A picture that could not be drawn is none."""
    patch_openai()
    asking = Asking(server, mode)
    picture = {"type": "image_generation_call", "id": "ig_1", "status": status, "result": None}
    await asking.ask([USER], picture, message("Here."))
    await asking.close()
    assert told(sink, 2)[1].get("attachments") == count
