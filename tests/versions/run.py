"""Run the suites at the oldest and the newest versions of the SDKs, each in its own environment.

    make test-versions                                      # all of them
    make test-versions ARGS="--list"                        # what there is
    make test-versions ARGS="openai-1.40 providers"         # some, by name
    make test-versions ARGS="openai-2 -- -k stream"         # what follows -- goes to pytest

The environments stay in .venv-versions/, are built again when their requirements change (newest
versions: with --fresh), and each run leaves its output there, in NAME.log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from tests.environments import HOME, ROOT, NotBuiltError, built, find_python
from tests.versions.matrix import ENVIRONMENTS, TEST_TOOLS, Environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHOWN_LINES = 60
# Besides those that an environment asks for.
ALWAYS_TOLD = ("openai", "langchain-core", "pydantic")
VERSIONS = """
import platform, sys
from importlib.metadata import PackageNotFoundError, version
print("Python " + platform.python_version(), end="")
for name in sys.argv[1:]:
    try:
        print(", " + name, version(name), end="")
    except PackageNotFoundError:
        pass
"""


class Outcome(NamedTuple):
    """How a suite ended: a word for it, pytest's own sum, and what was installed."""

    name: str
    passed: bool
    told: str
    versions: str = ""


class Suites(NamedTuple):
    """How all of them run: with which options of pytest, until when, built again or not."""

    pytest_options: Sequence[str]
    ends_at_s: float
    fresh: bool

    async def run(self, environment: Environment) -> Outcome:
        """Build the environment, run its tests there, and say how they ended."""
        _say(environment.name, "starts")
        try:
            python, versions = await asyncio.to_thread(self._built, environment)
        except NotBuiltError as error:
            return Outcome(environment.name, passed=False, told=f"NOT BUILT: {error}")
        _say(environment.name, versions)
        return (await self._tested(environment, python))._replace(versions=versions)

    def _built(self, environment: Environment) -> tuple[Path, str]:
        """Return the environment's Python, and the versions that matter."""
        python = built(
            HOME / environment.name,
            [*environment.requirements, *TEST_TOOLS],
            extras="[collector]",
            python=find_python(environment.python) or sys.executable,
            fresh=self.fresh,
        )
        names = [re.split("[=<>]", requirement)[0] for requirement in environment.requirements]
        told = subprocess.run(
            [str(python), "-c", VERSIONS, *dict.fromkeys([*names, *ALWAYS_TOLD])],
            capture_output=True,
            text=True,
            check=True,
        )
        return python, told.stdout

    async def _tested(self, environment: Environment, python: Path) -> Outcome:
        log = HOME / f"{environment.name}.log"
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        with log.open("w", encoding="utf-8") as output:
            returned = await _ended(
                [*command, *environment.tests, *self.pytest_options], output, self.ends_at_s
            )
        lines = log.read_text(encoding="utf-8").splitlines()
        told = lines[-1].strip("= ") if lines else "no output"
        if returned is None:
            told = f"STOPPED at the deadline: {told}"
        passed = returned == 0 and re.search(r"\b[1-9]\d* passed", told) is not None
        if not passed:
            print("\n".join([f"--- the end of {log}", *lines[-SHOWN_LINES:], "---"]), flush=True)
        return Outcome(environment.name, passed, told if passed else f"FAILED: {told}")


def main(arguments: list[str]) -> int:
    """Build what is missing, run each suite, and return 1 if one of them did not pass."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    known = {environment.name: environment for environment in ENVIRONMENTS}
    parser = _parser()
    options = parser.parse_args(arguments[:end])
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    chosen = [known[name] for name in options.names or known]
    if options.list:
        for environment in chosen:
            print(f"{environment.name:18} {', '.join(environment.requirements)}")
        return 0
    pytest_options = ["--fewer", *arguments[end + 1 :]]
    suites = Suites(pytest_options, time.monotonic() + options.deadline_s, options.fresh)
    outcomes = asyncio.run(_all(suites, chosen, options.jobs))
    print()
    for outcome in outcomes:
        print(f"{outcome.name:18} {outcome.told}\n{'':18} {outcome.versions}")
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} passed. {' '.join(failed)}")
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="What follows -- goes to pytest, such as: openai-2 -- -k stream",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="an environment; all if none")
    parser.add_argument("--list", action="store_true", help="show the environments, and end")
    parser.add_argument("--fresh", action="store_true", help="build the environments again")
    parser.add_argument("--jobs", type=int, default=3, help="how many at a time (3)")
    parser.add_argument(
        "--deadline-s", type=float, default=1200, help="when to stop what still runs (1200)"
    )
    return parser


async def _all(suites: Suites, chosen: Sequence[Environment], jobs: int) -> list[Outcome]:
    """Run them, some at a time, and return how they ended, in the order of the table."""
    HOME.mkdir(exist_ok=True)
    turns = asyncio.Semaphore(jobs)
    outcomes: list[Outcome] = []

    async def one(environment: Environment) -> Outcome:
        async with turns:
            outcome = await suites.run(environment)
        outcomes.append(outcome)
        _say(outcome.name, f"{outcome.told} ({len(outcomes)} of {len(chosen)})")
        return outcome

    return await asyncio.gather(*map(one, chosen))


async def _ended(command: list[str], output: TextIO, ends_at_s: float) -> int | None:
    """Return a command's exit code, or None when its time was up: it and its children end then."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return await asyncio.wait_for(process.wait(), max(ends_at_s - time.monotonic(), 0))
    except asyncio.TimeoutError:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _say(name: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name:18} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
