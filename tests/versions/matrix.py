"""The versions that are tested: the oldest that is supported, milestones, and the newest."""

from __future__ import annotations

from typing import NamedTuple


class Environment(NamedTuple):
    """Versions to test at.

    Attributes:
        name: What it is called on the command line.
        requirements: What to install beside this package and the tests' own tools.
        tests: What to run there.
        python: Where this Python is on the machine it runs there, else with the one of `.venv`.
    """

    name: str
    requirements: tuple[str, ...]
    tests: tuple[str, ...]
    python: str = ""


TEST_TOOLS = (
    "anyio>=4",
    "hypothesis>=6.100",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "sybil>=9",
    "trio>=0.22",
    "websockets>=13",
)
OPENAI = ("tests/openai", "tests/provider")
LANGCHAIN = ("tests/langchain",)
# The oldest of all that `pyproject.toml` asks for, at once.
OLDEST = (
    *("openai==1.40.0", "httpx<0.28", "platformdirs==3.0.0", "requests==2.28.0", "wrapt==1.14.0"),
    *("jinja2==3.1.0", "langchain-core==0.3.10", "starlette==0.37.0", "uvicorn==0.29.0"),
)
WITH_OLDEST = (
    *OPENAI,
    *("tests/collector", "tests/doctor", "tests/web/test_asgi.py", "tests/web/test_wsgi.py"),
    *("tests/delivery/test_answers.py", "tests/delivery/test_retry.py"),
)
# Other instrumentations of the same SDK, beside which ours must stand.
OTHERS = (
    "openai",
    "langfuse",
    "logfire",
    "openinference-instrumentation-openai",
    "opentelemetry-instrumentation-openai-v2==2.4b0",
    "opentelemetry-util-genai==1.1b0",  # 1.2b0 renamed a module that the line before imports
)
CORE_0_3_10 = (
    *("langchain-core==0.3.10", "langchain-openai==0.2.2", "langgraph<0.3"),
    *("langgraph-checkpoint<3", "openai<2", "pydantic<2.11"),
)
CORE_0_3_86 = (
    *("langchain-core==0.3.86", "langchain-openai<1", "langgraph<1", "langgraph-checkpoint<3"),
)
CORE_1_0 = (
    *("langchain-core==1.0.0", "langchain==1.0.0", "langchain-openai==1.0.0"),
    *("langgraph<1.1", "langgraph-checkpoint<3.1"),
)
CORE_1_2 = ("langchain-core==1.2.31", "langchain", "langchain-openai", "langgraph")
NEWEST = ("langchain-core", "langchain", "langchain-openai", "langgraph")
PROVIDERS = (
    *("langchain-openai", "langchain-anthropic", "langchain-google-genai"),
    *("langchain-ollama", "langchain-mistralai", "langchain-classic"),
)
# Tests of packages that no other environment has.
ALONE = ("tests/langchain/test_providers.py", "tests/langchain/test_agent_executor.py")
UI = ("openai", "chainlit>=2.0", "gradio>=6.0", "streamlit>=1.40")

ENVIRONMENTS = (
    Environment("openai-1.40", OLDEST, WITH_OLDEST, "3.10"),
    Environment("openai-1.109", ("openai==1.109.1",), OPENAI),
    Environment("openai-2", ("openai>=2,<3",), OPENAI, "3.12"),
    Environment("openai-3", ("openai>=3,<4",), OPENAI, "3.13"),
    Environment("langchain-0.3.10", CORE_0_3_10, LANGCHAIN),
    Environment("langchain-0.3.86", CORE_0_3_86, LANGCHAIN),
    Environment("langchain-1.0", CORE_1_0, LANGCHAIN, "3.12"),
    Environment("langchain-1.2", CORE_1_2, LANGCHAIN),
    Environment("langchain-newest", NEWEST, LANGCHAIN, "3.13"),
    Environment("providers", PROVIDERS, ALONE),
    Environment("others", OTHERS, ("tests/openai/test_beside_others.py",)),
    Environment("ui", UI, ("tests/ui",)),
)
