"""The command line: `trubrics-instrument collector` and its siblings."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, cast

from trubrics_instrument import spool_cli
from trubrics_instrument._version import __version__
from trubrics_instrument.collector import cli as collector_cli
from trubrics_instrument.doctor import cli as doctor_cli
from trubrics_instrument.zero_code import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code: 0 done, 1 failed, 2 asked for the impossible."""
    arguments = _parser().parse_args(argv)
    run = cast("Callable[[argparse.Namespace], int]", arguments.run)
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trubrics-instrument",
        description="Every LLM conversation of a Python app in Trubrics.",
        epilog="`trubrics-instrument COMMAND --help` tells more of a command.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run_cli.add_parser(commands)
    collector_cli.add_parser(commands)
    doctor_cli.add_parser(commands)
    spool_cli.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
