"""Which applications, how each is driven, and the conversation that has to arrive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests

from tests.apps.place import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.apps.place import Place

SOURCES = Path(__file__).parent / "sources"
MODEL = "gpt-4o-mini"
HOURS, FARE, WEATHER = "When do you open?", "What is the fare?", "What is the weather in Oslo?"
HOURS_ANSWER = "The desk is open from 7:00 to 20:00, every day."
FARE_ANSWER = "A ride is 2.40, a day ticket 6.00."
WEATHER_ANSWER = "I looked it up: Rain. Better take the tram."
ASKED_HOURS = (("Prompt", HOURS), ("Generation", HOURS_ANSWER))
ASKED_FARE = (("Prompt", FARE), ("Generation", FARE_ANSWER))
ASKED_WEATHER = (
    ("Prompt", WEATHER),
    ("Tool call", "get_weather"),
    ("Generation", WEATHER_ANSWER),
)
_TIMEOUT_S = 60


class App(NamedTuple):
    """An application.

    Attributes:
        name: Its folder below `.venv-apps`.
        requires: What is installed for it; the versions of everything else are its own choice.
        drive: Talks to it, as its users do.
        told: The events that have to arrive: their names, and text or tool.
        threads: How many conversations that was.
    """

    name: str
    requires: tuple[str, ...]
    drive: Callable[[Place], object]
    told: tuple[tuple[str, str], ...]
    threads: int = 1


def _script(name: str, **environ: str) -> Callable[[Place], object]:
    def drive(place: Place) -> None:
        place.environ.update(environ)
        place.run("python", str(SOURCES / f"{name}.py"))

    return drive


def _llm(place: Place) -> None:
    place.run("llm", "-m", MODEL, HOURS)
    place.run("llm", "-c", FARE)


def _shell_gpt(place: Place) -> None:
    place.environ["API_BASE_URL"] = place.environ["OPENAI_BASE_URL"]
    for question in (HOURS, FARE):
        place.run("sgpt", "--model", MODEL, "--no-md", "--chat", "trams", question)


def _llama_index(place: Place) -> None:
    place.environ["OPENAI_API_BASE"] = place.environ["OPENAI_BASE_URL"]
    _script("llama_index_app")(place)


def _gradio(place: Place) -> None:
    port = free_port()
    place.environ["GRADIO_SERVER_PORT"] = str(port)
    place.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with place.serving(port, "python", str(SOURCES / "gradio_app.py")):
        place.plain("python", str(SOURCES / "gradio_user.py"), str(port), HOURS, FARE)


def _chainlit(place: Place) -> None:
    port = free_port()
    app = str(SOURCES / "chainlit_app.py")
    with place.serving(port, "chainlit", "run", app, "--headless", "--port", str(port)):
        place.plain("python", str(SOURCES / "chainlit_user.py"), str(port), HOURS, FARE)


def _streamlit(place: Place) -> None:
    port = free_port()
    app = str(SOURCES / "streamlit_app.py")
    served = ("streamlit", "run", app, "--server.headless", "true", "--server.port", str(port))
    with place.serving(port, *served):
        place.plain("python", str(SOURCES / "streamlit_user.py"), str(port), HOURS, FARE)


def _langgraph(place: Place) -> None:
    port = free_port()
    shutil.copy(SOURCES / "langgraph_app.py", place.home)
    graphs = {"graphs": {"agent": "./langgraph_app.py:graph"}, "dependencies": ["."]}
    (place.home / "langgraph.json").write_text(json.dumps(graphs))
    served = ("langgraph", "dev", "--no-browser", "--no-reload", "--port", str(port))
    with place.serving(port, *served):
        url = f"http://127.0.0.1:{port}"
        thread = _post(f"{url}/threads", {})["thread_id"]
        for question in (WEATHER, HOURS):
            said = {"role": "user", "content": question}
            asked = {"assistant_id": "agent", "input": {"messages": [said]}}
            _post(f"{url}/threads/{thread}/runs/wait", asked)


def _otel(place: Place) -> None:
    place.environ.update(OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    place.environ["OTEL_LOGS_EXPORTER"] = "none"
    place.plain("opentelemetry-instrument", "python", str(SOURCES / "openai_app.py"))


def _gunicorn(place: Place) -> None:
    port = free_port()
    served = ("gunicorn", "--chdir", str(SOURCES), "--bind", f"127.0.0.1:{port}", "flask_app:app")
    with place.serving(port, *served):
        for question in (HOURS, FARE):
            _post(f"http://127.0.0.1:{port}/ask", {"question": question})


def _post(url: str, body: object) -> Any:
    answer = requests.post(url, json=body, timeout=_TIMEOUT_S)
    assert answer.ok, f"{url} answers {answer.status_code}: {answer.text[:2000]}"
    return answer.json()


APPS = (
    App("llm", ("llm",), _llm, ASKED_HOURS + ASKED_FARE),
    # shell-gpt 1.5.1 imports click without asking for it.
    App("shell-gpt", ("shell-gpt", "click"), _shell_gpt, ASKED_HOURS + ASKED_FARE),
    App("openai-agents", ("openai-agents",), _script("agents_app"), ASKED_WEATHER + ASKED_HOURS),
    # A forced tool call is its answer, and is told as what it is on the wire: a tool call.
    App(
        "instructor",
        ("instructor",),
        _script("instructor_app"),
        (
            ("Prompt", HOURS),
            ("Tool call", "Answer"),
            ("Prompt", FARE),
            ("Generation", json.dumps({"text": FARE_ANSWER})),
        ),
        threads=2,
    ),
    App(
        "pydantic-ai",
        ("pydantic-ai-slim[openai]",),
        _script("pydantic_ai_app"),
        ASKED_WEATHER + ASKED_HOURS,
    ),
    App("llama-index", ("llama-index",), _llama_index, ASKED_WEATHER + ASKED_HOURS),
    App(
        "haystack",
        ("haystack-ai",),
        _script("haystack_app", HAYSTACK_TELEMETRY_ENABLED="False"),
        ASKED_WEATHER + ASKED_HOURS,
    ),
    App(
        "agno",
        ("agno[openai,sqlite]",),
        _script("agno_app", AGNO_TELEMETRY="false"),
        ASKED_WEATHER + ASKED_HOURS,
    ),
    App(
        "autogen",
        ("autogen-agentchat", "autogen-ext[openai]"),
        _script("autogen_app"),
        ASKED_WEATHER + ASKED_HOURS,
    ),
    # Its tools carry the name of their plugin.
    App(
        "semantic-kernel",
        ("semantic-kernel",),
        _script("semantic_kernel_app"),
        (
            ("Prompt", WEATHER),
            ("Tool call", "WeatherPlugin-get_weather"),
            ("Generation", WEATHER_ANSWER),
            *ASKED_HOURS,
        ),
    ),
    App(
        "strands-agents",
        ("strands-agents[openai]",),
        _script("strands_app"),
        ASKED_WEATHER + ASKED_HOURS,
    ),
    App("litellm", ("litellm",), _script("litellm_app"), ASKED_HOURS + ASKED_FARE),
    App("chainlit", ("chainlit", "openai"), _chainlit, ASKED_HOURS + ASKED_FARE),
    App("gradio", ("gradio", "openai"), _gradio, ASKED_HOURS + ASKED_FARE),
    App(
        "streamlit",
        ("streamlit", "websockets", "openai"),
        _streamlit,
        ASKED_HOURS + ASKED_FARE,
    ),
    App(
        "langgraph",
        ("langgraph-cli[inmem]", "langchain", "langchain-openai"),
        _langgraph,
        ASKED_WEATHER + ASKED_HOURS,
    ),
    App(
        "gunicorn", ("gunicorn", "flask", "openai"), _gunicorn, ASKED_HOURS + ASKED_FARE, threads=2
    ),
    App("opentelemetry", ("opentelemetry-distro", "openai"), _otel, ASKED_HOURS + ASKED_FARE),
)
