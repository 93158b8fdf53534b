"""The model server starts and ends, as a program and inside one, and serves LangChain."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import openai
import pytest

# LangChain leaves a part of this type open.
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from model_server import running
from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionMessageParam

PROGRAM = Path(__file__).parents[2] / "examples" / "model_server.py"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
HELLO_ANSWER = "Hello! How can I help you in Linden?"


@tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city}: clear, 21 °C"


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def model(base_url: str, request: pytest.FixtureRequest) -> Iterator[ChatOpenAI]:
    """Give LangChain's model of OpenAI, on either API."""
    # Of the test's own, to be closed here: LangChain's own clients are shared and stay open.
    with cast("Any", openai.DefaultHttpxClient()) as http_client:
        yield ChatOpenAI(
            model="stand-in-mini",
            base_url=base_url,
            api_key=SecretStr("any"),
            use_responses_api=request.param,
            stream_usage=True,
            http_client=http_client,
        )


def test_langchain_model(model: ChatOpenAI) -> None:
    """A LangChain model gets text and usage, whole and streamed."""
    whole = model.invoke("Hello")
    chunks = list(model.stream("Hello"))
    streamed = chunks[0]
    for chunk in chunks[1:]:
        streamed += chunk
    assert (str(whole.text), str(streamed.text)) == (HELLO_ANSWER, HELLO_ANSWER)
    for message in (whole, streamed):
        assert message.usage_metadata is not None
        assert message.usage_metadata["total_tokens"] == 9


def test_langchain_agent(model: ChatOpenAI) -> None:
    """An agent calls its tool and answers from the result."""
    agent = cast("Any", create_agent(model, [get_weather], system_prompt="You help travellers."))
    asked = {"messages": [("user", "What is the weather in Oslo and Rome?")]}
    messages = cast("list[Any]", agent.invoke(asked)["messages"])
    assert [type(message).__name__ for message in messages] == [
        "HumanMessage",
        "AIMessage",
        "ToolMessage",
        "ToolMessage",
        "AIMessage",
    ]
    assert isinstance(messages[-1], AIMessage)
    assert str(messages[-1].text) == (
        "I looked it up: Oslo: clear, 21 °C. I looked it up: Rome: clear, 21 °C. "
        "A good day for a bike."
    )


def test_program() -> None:
    """The program prints where it is, answers, and ends on Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "--port", "0", "--word-delay", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/v1", process.stdout.readline())
            assert found is not None
            with openai.OpenAI(base_url=found[0], api_key="any", timeout=5) as client:
                got = client.chat.completions.create(model="stand-in-mini", messages=HELLO)
            assert got.choices[0].message.content == HELLO_ANSWER
        finally:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_port_taken() -> None:
    """A port that is taken is said in one line."""
    with running() as server:
        port = server.base_url.rsplit(":", 1)[1].removesuffix("/v1")
        done = subprocess.run(
            [sys.executable, str(PROGRAM), "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(rf"Port {port} cannot be used: .+\n", done.stderr)


def test_closing_ends_streams(caplog: pytest.LogCaptureFixture) -> None:
    """A server that closes ends the streams that are open, without a fuss."""
    with contextlib.ExitStack() as outliving:
        with running(word_delay_s=0.2) as server:
            client = openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0)
            outliving.enter_context(client)
            ask = client.chat.completions.create
            stream = ask(model="stand-in-mini", messages=HELLO, stream=True)
            first = next(stream)
        rest = list(stream)
    assert first.choices[0].delta.role == "assistant"
    assert len(rest) < len(HELLO_ANSWER.split())
    assert caplog.records == []
