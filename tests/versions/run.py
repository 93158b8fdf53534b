"""Run the suites at the oldest and the newest versions of the SDKs, each in its own environment.

    python tests/versions/run.py                        # all of them
    python tests/versions/run.py openai-1.40 others     # some, by name
    python tests/versions/run.py openai-2 -- -k stream  # what follows -- goes to pytest

The environments stay in .venv-versions/ and are built again when their requirements change.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-versions"
TEST_TOOLS = (
    "anyio>=4",
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "sybil>=9",
    "websockets>=13",
)


class Environment(NamedTuple):
    """Versions to test at: what to install, what to run, and with which Python ("3.10")."""

    name: str
    requirements: tuple[str, ...]
    tests: tuple[str, ...]
    python: str | None = None


# Other instrumentations of the same SDK, beside which ours must stand.
OTHERS = (
    "openai",
    "langfuse",
    "logfire",
    "openinference-instrumentation-openai",
    "opentelemetry-instrumentation-openai-v2==2.4b0",
    "opentelemetry-util-genai==1.1b0",  # 1.2b0 renamed a module that the line before imports
)
ENVIRONMENTS = (
    Environment("openai-1.40", ("openai==1.40.0", "httpx<0.28"), ("tests/openai",)),
    Environment("openai-1.109", ("openai==1.109.1",), ("tests/openai",)),
    Environment("openai-2", ("openai>=2,<3",), ("tests/openai",)),
    Environment("openai-3", ("openai>=3,<4",), ("tests/openai",)),
    Environment("others", OTHERS, ("tests/openai/test_beside_others.py",)),
)


def main(arguments: list[str]) -> int:
    """Build what is missing, run each suite, and return 1 if one of them did not pass."""
    own, pytest_options = _split(arguments)
    parser = _parser()
    options = parser.parse_args(own)
    known = {environment.name: environment for environment in ENVIRONMENTS}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    chosen = [known[name] for name in options.names or known]
    if options.list:
        for environment in chosen:
            print(f"{environment.name:16} {', '.join(environment.requirements)}")
        return 0
    outcomes = [
        _reported(environment, pytest_options, fresh=options.fresh) for environment in chosen
    ]
    print("\n".join(outcomes))
    return int(any(" passed " not in outcome for outcome in outcomes))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before -- and those after it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="What follows -- goes to pytest, such as: openai-2 -- -k stream",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="an environment; all if none")
    parser.add_argument("--list", action="store_true", help="show the environments, and end")
    parser.add_argument("--fresh", action="store_true", help="build the environments again")
    return parser


def _reported(environment: Environment, pytest_options: list[str], *, fresh: bool) -> str:
    print(f"== {environment.name}", flush=True)
    start_s = time.monotonic()
    outcome = _run(environment, pytest_options, fresh=fresh)
    return f"{environment.name:16} {outcome} after {time.monotonic() - start_s:.0f} s"


def _run(environment: Environment, pytest_options: list[str], *, fresh: bool) -> str:
    python = _interpreter(environment.python)
    if python is None:
        return f"left out: there is no python{environment.python}"
    home = HOME / environment.name
    if not _build(environment, python, home, fresh=fresh):
        return "not installed"
    command = [str(home / "bin" / "python"), "-m", "pytest", "-q", *environment.tests]
    done = subprocess.run([*command, *pytest_options], cwd=ROOT, check=False)
    return "passed" if done.returncode == 0 else f"FAILED ({done.returncode})"


def _interpreter(version: str | None) -> str | None:
    return shutil.which(f"python{version}") if version else sys.executable


def _build(environment: Environment, python: str, home: Path, *, fresh: bool) -> bool:
    """Make the environment unless it stands already, and return whether it does."""
    wanted = [*environment.requirements, *TEST_TOOLS, python]
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    stamp = home / ".ready"
    if not fresh and stamp.exists() and stamp.read_text() == digest:
        return True
    print(f"    installing {', '.join(environment.requirements)} ...", flush=True)
    pip = [
        str(home / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-qq",
    ]
    for command in (
        [python, "-m", "venv", "--clear", str(home)],
        [*pip, "--editable", f"{ROOT}[collector]", *environment.requirements, *TEST_TOOLS],
    ):
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return False
    stamp.write_text(digest)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
