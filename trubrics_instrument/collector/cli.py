"""The command `trubrics-instrument collector`; imports nothing of the extra until it runs."""

from __future__ import annotations

import os
import re
import secrets
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from socket import gaierror
from typing import TYPE_CHECKING, Protocol

from trubrics_instrument._base.console import fail, say
from trubrics_instrument._base.folders import data_folder
from trubrics_instrument._base.hosts import COLLECTOR_PORT, LOOPBACK, LOOPBACK_HOSTS

if TYPE_CHECKING:
    import argparse

    from trubrics_instrument._base.console import Subparsers

_EXTRA = ("jinja2", "starlette", "uvicorn")
_HIGHEST_PORT = 65_535
PASSWORD_VARIABLE = "TRUBRICS_COLLECTOR_PASSWORD"  # noqa: S105 - a variable's name
_SPAN = re.compile(r"([1-9]\d{0,3})([hd])")


def add_parser(subparsers: Subparsers) -> None:
    """Add the `collector` command, and those below it."""
    parser = subparsers.add_parser(
        "collector",
        help="see your own conversations: the ingestion API and its pages, on this machine",
        description="Take events as Trubrics does, keep them in a file, and show them as pages. "
        f"Where other machines can reach it, its pages want a password: {PASSWORD_VARIABLE}, "
        "or one that it makes up and prints.",
    )
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=COLLECTOR_PORT,
        help="port to listen on, 0 for a free one (%(default)s)",
    )
    _add_db(parser, default_db())
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="take events only with this key; needed where other machines can reach --host",
    )
    parser.add_argument(
        "--retention", metavar="AGE", help="delete events older than this, as in 30d or 12h"
    )
    parser.set_defaults(run=run)
    _add_commands(parser)


def default_db() -> Path:
    """Return where the events are kept unless told otherwise."""
    return data_folder() / "collector.sqlite3"


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted, and return the exit code."""
    wrong = missing_extra() or _wrong_port(args.port) or _wrong_exposure(args)
    if wrong:
        return fail(wrong)
    try:
        retention = _read_span(args.retention) if args.retention is not None else None
    except ValueError as error:
        return fail(str(error))
    return _serve(args, retention)


def _add_db(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--db", type=Path, default=default, help=f"database file ({default_db()})")


def _add_commands(parser: argparse.ArgumentParser) -> None:
    """Their --db has no default of its own, which would hide the one given before them."""
    from argparse import SUPPRESS  # noqa: PLC0415 - the program that calls this has it already

    commands = parser.add_subparsers(title="instead of serving", metavar="COMMAND")
    export = _described(commands, "export", "write what was collected to standard output")
    export.add_argument(
        "--format",
        choices=("jsonl", "csv"),
        default="jsonl",
        help="JSON Lines, which import takes, or a table (%(default)s)",
    )
    export.add_argument("--user", default="", help="only this user's events")
    export.add_argument("--since", default="", help="only from this day on, as 2026-11-22")
    taking = _described(commands, "import", "take in JSON Lines, as export writes them")
    taking.add_argument("file", type=Path, help="file of JSON Lines")
    forward = _described(commands, "forward", "deliver what was collected to Trubrics")
    forward.add_argument(
        "--to-trubrics",
        action="store_true",
        required=True,
        help="say that the events may leave this machine",
    )
    forward.add_argument("--api-key", help="the project's key (TRUBRICS_API_KEY)")
    forward.add_argument("--to-host", help="another ingestion address than Trubrics' own")
    forward.add_argument(
        "--unsure",
        choices=("send", "skip"),
        default="",
        help="what to do with events that were on their way when an earlier run was cut off",
    )
    delete = _described(commands, "delete-user", "delete every event of a user")
    delete.add_argument("user", help="the user's id")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    for command in (export, taking, forward, delete):
        _add_db(command, SUPPRESS)
    export.set_defaults(run=_command("export_events"))
    taking.set_defaults(run=_command("import_events"))
    forward.set_defaults(run=_command("forward_events"))
    delete.set_defaults(run=_command("delete_events"))


def _described(commands: Subparsers, name: str, what: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")


class _Run(Protocol):
    def __call__(self, args: argparse.Namespace) -> int: ...


def _command(name: str) -> _Run:
    def run_command(args: argparse.Namespace) -> int:
        missing = missing_extra()
        if missing:
            return fail(missing)
        from trubrics_instrument.collector import commands  # noqa: PLC0415 - see the first line

        run: _Run = getattr(commands, name)
        return commands.guarded(run, args)

    return run_command


def missing_extra() -> str:
    """Return the line that says what is not installed; empty if nothing is missing."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if not missing:
        return ""
    return f"The collector needs {', '.join(missing)}: pip install 'trubrics-instrument[collector]'"


def _wrong_port(port: int) -> str:
    if 0 <= port <= _HIGHEST_PORT:
        return ""
    return f"--port {port}: a port is a number from 0 to {_HIGHEST_PORT}"


def _wrong_exposure(args: argparse.Namespace) -> str:
    if args.host in LOOPBACK_HOSTS or args.api_key:
        return ""
    return (
        f"--host {args.host} can be reached from other machines: "
        "choose a key for senders with --api-key"
    )


def _read_span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError(f"--retention {text}: write it as 30d (days) or 12h (hours)")
    count = int(match[1])
    return timedelta(days=count) if match[2] == "d" else timedelta(hours=count)


def _serve(args: argparse.Namespace, retention: timedelta | None) -> int:
    from trubrics_instrument.collector.schema import (  # noqa: PLC0415 - see the first line
        ForeignDatabaseError,
    )
    from trubrics_instrument.collector.serving import serve  # noqa: PLC0415 - the same

    password, origin = _choose_password(args.host)
    try:
        serve(
            args.db,
            host=args.host,
            port=args.port,
            api_key=args.api_key,
            password=password,
            retention=retention,
            on_ready=lambda url: _announce(url, args, origin),
        )
    except ForeignDatabaseError as error:
        return fail(str(error))
    except OSError as error:
        return fail(_explain(error, args))
    except KeyboardInterrupt:
        return 0
    return 0


def _choose_password(host: str) -> tuple[str | None, str]:
    """Return the password that people must give, and where they have it from."""
    password = os.environ.get(PASSWORD_VARIABLE)
    if password:
        return password, f"from {PASSWORD_VARIABLE}"
    if host in LOOPBACK_HOSTS:
        return None, ""
    password = secrets.token_urlsafe(12)
    return password, f"{password} (new at each start)"


def _announce(url: str, args: argparse.Namespace, password: str) -> None:
    say(f"Your conversations: {url}")
    say(f"Kept in:            {args.db}")
    if password:
        say(f"Password:           {password}")
    say()
    say("To send an app's events here:")
    say(f"  export TRUBRICS_HOST={url}")
    if args.api_key:
        say("  export TRUBRICS_API_KEY=<the key given as --api-key>")
    say("  trubrics-instrument run python app.py")


def _explain(error: OSError, args: argparse.Namespace) -> str:
    if error.filename is not None:
        return f"Cannot open {error.filename}: {error.strerror}"
    if isinstance(error, gaierror):
        return f"Cannot listen on {args.host}: no address of that name is known here."
    return (
        f"Cannot listen on {args.host} port {args.port}: {error.strerror}. "
        "Another collector may be running; --port 0 picks a free port."
    )
