"""The command `trubrics-instrument collector`; imports nothing of the extra until it runs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from platformdirs import user_data_dir

if TYPE_CHECKING:
    import argparse

_EXTRA = ("jinja2", "starlette", "uvicorn")
_USAGE_ERROR = 2
_HIGHEST_PORT = 65_535


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns; argparse has no public name for it."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's name
        """Add a command."""
        ...


def add_parser(subparsers: Subparsers) -> None:
    """Add the `collector` command."""
    parser = subparsers.add_parser(
        "collector",
        help="see your own conversations: the ingestion API and its pages, on this machine",
        description="Take events as Trubrics does, keep them in a file, and show them as pages.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8782, help="port to listen on, 0 for a free one (%(default)s)"
    )
    parser.add_argument("--db", type=Path, default=default_db(), help="database file (%(default)s)")
    parser.add_argument("--api-key", help="take events only with this key")
    parser.set_defaults(run=run)


def default_db() -> Path:
    """Return where the events are kept unless told otherwise."""
    return Path(user_data_dir("trubrics-instrument", appauthor=False)) / "collector.sqlite3"


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted, and return the exit code."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        return _fail(
            f"The collector needs {', '.join(missing)}: "
            "pip install 'trubrics-instrument[collector]'"
        )
    if not 0 <= args.port <= _HIGHEST_PORT:
        return _fail(f"--port {args.port}: a port is a number from 0 to {_HIGHEST_PORT}")
    return _serve(args)


def _serve(args: argparse.Namespace) -> int:
    from trubrics_instrument.collector.schema import (  # noqa: PLC0415 - see the module's docstring
        ForeignDatabaseError,
    )
    from trubrics_instrument.collector.serve import serve  # noqa: PLC0415 - the same

    def announce(url: str) -> None:
        _say(f"Your conversations: {url}")
        _say(f"Kept in:            {args.db}")
        _say("")
        _say("To send an app's events here:")
        _say(f"  export TRUBRICS_HOST={url}")
        if args.api_key:
            _say("  export TRUBRICS_API_KEY=<the key given as --api-key>")
        _say("  trubrics-instrument run python app.py")

    try:
        serve(args.db, host=args.host, port=args.port, api_key=args.api_key, on_ready=announce)
    except ForeignDatabaseError as error:
        return _fail(str(error))
    except OSError as error:
        if error.filename is not None:
            return _fail(f"Cannot open {error.filename}: {error.strerror}")
        return _fail(
            f"Cannot listen on {args.host} port {args.port}: {error.strerror}. "
            "Another collector may be running; --port 0 picks a free port."
        )
    except KeyboardInterrupt:
        return 0
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(line: str) -> int:
    sys.stderr.write(f"{line}\n")
    return _USAGE_ERROR
