"""Run LangChain's own tests twice, without a handler of ours and with one on every run.

    python -m tests.sdk.run_langchain                        # all four packages
    python -m tests.sdk.run_langchain langgraph              # one of them
    python -m tests.sdk.run_langchain langchain-core -- -k stream

The sdists come from the package index into .venv-versions/langchain-sdk/, together with an
environment of its own. No test may differ but those that assert the exact list of handlers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.sdk.run_openai import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-versions" / "langchain-sdk"
PYTHON = HOME / "bin" / "python"
SOURCES = HOME / "sources"
# What their tests need beside them; tests that lack more fail alike in both runs.
TOOLS = (
    *("pytest>=8", "pytest-asyncio>=0.25", "pytest-timeout>=2.3", "pytest-mock>=3.10"),
    *("pytest-socket>=0.7", "pytest-recording>=0.13", "vcrpy>=7", "syrupy>=4", "freezegun>=1.2"),
    *("blockbuster>=1.5", "numpy>=1.26", "responses>=0.25", "grandalf>=0.8", "langchain-tests"),
    *("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary]"),
    *("pycryptodome", "redis"),
)


class Package(NamedTuple):
    """One package: its tests in the sdist, and pytest's options for them."""

    name: str
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


PACKAGES = (
    Package("langchain-core", ("tests/unit_tests",)),
    Package("langchain", ("tests/unit_tests",)),
    Package("langgraph", ("tests",)),
    Package("langchain-openai", ("tests/unit_tests",)),
    Package(  # what they recorded of the real API; their other integration tests need it
        "langchain-openai",
        ("tests/integration_tests/chat_models",),
        ("-m", "vcr", "--record-mode=none", "--benchmark-disable"),
    ),
)
# These assert the exact list of a run's handlers, which has one more with ours.
EXACT_HANDLERS = ("test_merge_config_callbacks",)


def main(arguments: list[str]) -> int:
    """Run both, print what differs, and return 1 if anything does that may not."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="packages; all if none")
    names = parser.parse_args(arguments[:end]).names
    chosen = [one for one in PACKAGES if one.name in names or not names]
    _prepare()
    return max([_compared(package, arguments[end + 1 :]) for package in chosen], default=0)


def _prepare() -> None:
    """Build the environment with the newest packages, and fetch their sources, once."""
    if (HOME / ".ready").exists():
        return
    names = list(dict.fromkeys(package.name for package in PACKAGES))
    print(f"fetching {', '.join(names)} into {HOME} ...", flush=True)
    SOURCES.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-qq", "--editable", str(ROOT), *names, *TOOLS], check=True)
    for name in names:
        code = f"from importlib.metadata import version; print(version({name!r}))"
        shown = subprocess.run(
            [str(PYTHON), "-c", code], check=True, capture_output=True, text=True
        )
        wanted = f"{name}=={shown.stdout.strip()}"
        only_source = ["--no-deps", "--no-binary", ":all:", "--dest", str(SOURCES)]
        subprocess.run([*pip, "download", "-qq", *only_source, wanted], check=True)
    for archive in SOURCES.glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extractall(SOURCES, filter="data")
    (HOME / ".ready").touch()


def _compared(package: Package, options: Sequence[str]) -> int:
    name = package.name.replace("-", "_")
    source = max(SOURCES.glob(f"{name}-[0-9]*/"), key=lambda it: it.stat().st_mtime)
    bare = _run(package, source, options, patched=False)
    patched = _run(package, source, options, patched=True)
    differing = _differing(bare, patched)
    if differing:  # some depend on time, and fail on a busy machine in one run or in the other
        again = package._replace(tests=tuple(differing))
        differing = _differing(
            _run(again, source, options, patched=False), _run(again, source, options, patched=True)
        )
    print(f"{package.name}: {len(bare.outcomes)} tests without, {len(patched.outcomes)} with")
    print(f"  events {patched.events}, faults of ours: {patched.faults or 'none'}")
    for test, rules in patched.broken.items():
        print(f"  TOLD WRONG: {test}: {'; '.join(rules)}")
    wrong = 0
    for test, (before, after) in differing.items():
        allowed = any(known in test for known in EXACT_HANDLERS)
        wrong += not allowed
        print(f"  {'may differ' if allowed else 'DIFFERS'}: {test}\n    {before}\n    {after}")
    return int(bool(wrong or patched.faults or patched.broken))


def _differing(bare: Run, patched: Run) -> dict[str, tuple[str | None, str | None]]:
    """Return how each test ended that ended differently."""
    return {
        test: (bare.outcomes.get(test), patched.outcomes.get(test))
        for test in sorted({*bare.outcomes, *patched.outcomes})
        if bare.outcomes.get(test) != patched.outcomes.get(test)
    }


def _run(package: Package, source: Path, options: Sequence[str], *, patched: bool) -> Run:
    print(f"== {source.name} {'with' if patched else 'without'} a handler", flush=True)
    report = HOME / "report.json"
    report.unlink(missing_ok=True)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("TRUBRICS_")}
    environ |= {"PYTHONPATH": str(Path(__file__).parent), "TRUBRICS_REPORT": str(report)}
    environ |= {"OPENAI_API_KEY": "k", "LANGSMITH_TRACING": "false", "NO_DOCKER": "true"}
    if patched:
        environ["TRUBRICS_PATCHED"] = "1"
    command = [str(PYTHON), "-m", "pytest", "-q", "--tb=no", "-p", "langchain_sdk_plugin"]
    command += [
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "--timeout=120",
        "--continue-on-collection-errors",
    ]
    command += [*package.options, *options, *package.tests]
    subprocess.run(command, cwd=source, check=False, env=environ)
    return Run(**json.loads(report.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
