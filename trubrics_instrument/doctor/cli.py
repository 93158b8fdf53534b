"""The command `trubrics-instrument doctor`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

from trubrics_instrument._base.console import Subparsers, fail, say
from trubrics_instrument.doctor.examination import report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from trubrics_instrument.doctor.finding import Finding


def add_parser(subparsers: Subparsers) -> None:
    """Add the `doctor` command."""
    parser = subparsers.add_parser(
        "doctor",
        help="what is installed, patched, configured and reachable, with a remedy for each finding",
        description="Look at what matters, a line each. Exit code 1 says that something is wrong.",
    )
    parser.add_argument("--json", action="store_true", help="write an array for programs")
    parser.add_argument(
        "--send-test-event", action="store_true", help="deliver one event, and see it arrive"
    )
    parser.add_argument(
        "--import",
        dest="module",
        metavar="MODULE",
        help="import the app's module first, and say what it has patched",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the findings, and return the exit code."""
    if args.module:
        module, colon, _ = args.module.partition(":")
        if colon:
            return fail(f"--import {args.module}: give the module alone, {module}")
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does
        try:
            importlib.import_module(args.module)
        except (Exception, SystemExit) as error:  # a script ends itself
            return fail(f"--import {args.module}: {type(error).__name__}: {error}")
    findings = report(app=bool(args.module), send=args.send_test_event)
    if args.json:
        say(json.dumps([one._asdict() for one in findings], indent=2))
    else:
        _write(findings)
    return int(any(one.level == "wrong" for one in findings))


def _write(findings: Sequence[Finding]) -> None:
    for one in findings:
        say(one.line())
    wrong = sum(one.level == "wrong" for one in findings)
    say()
    say(f"{wrong} to put right." if wrong else "Nothing is wrong.")
