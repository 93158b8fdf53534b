"""The command `trubrics-instrument run`: an app as it is, observed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from argparse import REMAINDER
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trubrics_instrument import _config
from trubrics_instrument._base.console import Subparsers, fail
from trubrics_instrument.zero_code import beside

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

SITE = Path(__file__).parent / "_site"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell says it


def add_parser(subparsers: Subparsers) -> None:
    """Add the `run` command."""
    parser = subparsers.add_parser(
        "run",
        help="run an app as it is, and observe what it asks OpenAI and LangChain",
        description="Run a command, and observe what it, and every Python process below it, asks.",
    )
    parser.usage = "%(prog)s [--local] python app.py ... | gunicorn app:app ... | -m package ..."
    parser.add_argument(
        "--local",
        action="store_true",
        help="send to a collector on this machine, which is there as long as the app",
    )
    parser.add_argument(
        "-m", dest="module", nargs=REMAINDER, help="run a module, as `python -m` does"
    )
    parser.add_argument("command", nargs=REMAINDER, help="the command, with its arguments")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the command; return an exit code only if that is impossible."""
    command = [sys.executable, "-m", *args.module] if args.module else list(args.command)
    if command[:1] == ["--"]:
        del command[0]
    if not command:
        return fail("No command is given. For example: trubrics-instrument run python app.py")
    try:
        config = _config.build(os.environ, {})
    except ValueError as error:
        return fail(str(error))
    program = find_program(command[0])
    if program is None:
        return _not_found(command[0])
    environ = environment(os.environ)
    if args.local:
        try:
            environ |= beside.start(os.getpid())
        except beside.NotStartedError as error:
            return fail(str(error))
    elif config.destination(api_key=None, host=None) is None:
        _warn("nothing is sent: set TRUBRICS_API_KEY, or see it on this machine with run --local")
    return _become(program, command, environ)


def find_program(name: str) -> str | None:
    """Return what a shell would run; else one that is installed beside this package."""
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which each Python process patches what it imports."""
    before = environ.get("PYTHONPATH")
    paths = [str(SITE), *([before] if before else [])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}


def _not_found(name: str) -> int:
    if not Path(name).is_file():
        fail(f"{name}: command not found")
        return _NOT_FOUND
    python = f"trubrics-instrument run python {name}"
    fail(f"{name} is no program" + (f": {python}" if name.endswith(".py") else ""))
    return _NOT_EXECUTABLE


def _become(program: str, command: Sequence[str], environ: dict[str, str]) -> int:
    """Replace this process: whoever waits for it, signals it or types into it reaches the app."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # exec there leaves the console before the command has ended
        return subprocess.call([program, *command[1:]], env=environ)  # noqa: S603 - the user's command
    return _exec(program, command, environ)


def _exec(program: str, command: Sequence[str], environ: dict[str, str]) -> NoReturn:
    # Python ignores these two, and what is ignored stays so in the command.
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)
    os.execve(program, list(command), environ)  # noqa: S606 - the user's command


def _warn(line: str) -> None:
    sys.stderr.write(f"trubrics-instrument: {line}\n")
