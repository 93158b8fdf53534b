"""What `trubrics-instrument collector` does besides serving: in, out, on, and away."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING

from trubrics_instrument._base.console import fail, redraw, say
from trubrics_instrument._base.hosts import TRUBRICS_HOST, is_address
from trubrics_instrument.collector import transfer
from trubrics_instrument.collector.forward import (
    NotDeliveredError,
    Progress,
    Target,
    forward,
)
from trubrics_instrument.collector.removal import delete_user
from trubrics_instrument.collector.schema import ForeignDatabaseError
from trubrics_instrument.collector.store import Store
from trubrics_instrument.collector.wording import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

_FAILED = 1
_INTERRUPTED = 130
_MOST_REFUSALS_SHOWN = 10


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; what can go wrong outside of this program is one line, no traceback."""
    try:
        return run(args)
    except (ForeignDatabaseError, sqlite3.OperationalError) as error:
        return fail(str(error))
    except NotDeliveredError as error:
        return fail(str(error), _FAILED)
    except BrokenPipeError:
        # Whoever read this stopped reading, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except OSError as error:
        return fail(f"Cannot open {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return fail("Interrupted. Run it again to go on.", _INTERRUPTED)


def export_events(args: argparse.Namespace) -> int:
    """Write the events to standard output."""
    if not _is_day(args.since):
        return fail(f"--since {args.since}: write a day, such as 2026-11-22")
    write = transfer.write_csv if args.format == "csv" else transfer.write_jsonl
    with closing(_existing(args.db)) as store, store.reading() as db:
        for part in write(transfer.select(db, user_id=args.user, since=args.since)):
            sys.stdout.buffer.write(part.encode())
        sys.stdout.flush()
    return 0


def import_events(args: argparse.Namespace) -> int:
    """Take in a file of JSON Lines; lines that cannot be taken are named."""
    with args.file.open("rb") as lines, closing(Store(args.db)) as store:
        imported = transfer.read_jsonl(store, lines)
    say(f"{imported.stored:,} events taken in, {imported.duplicates:,} were there already.")
    for number, reason in imported.refused[:_MOST_REFUSALS_SHOWN]:
        fail(f"line {number}: {reason}")
    if not imported.refused:
        return 0
    fail(f"{counted(len(imported.refused), 'line')} not taken.")
    return _FAILED


def forward_events(args: argparse.Namespace) -> int:
    """Deliver to Trubrics, showing how far it is."""
    api_key = args.api_key or os.environ.get("TRUBRICS_API_KEY", "")
    if not api_key:
        return fail("A key is needed: set TRUBRICS_API_KEY to the one from the project's settings.")
    host = args.to_host or TRUBRICS_HOST
    if not is_address(host):
        return fail(f"--to-host {host}: write a URL, such as {TRUBRICS_HOST}")
    target = Target(host.rstrip("/"), api_key)
    with closing(_existing(args.db)) as store:
        done = forward(store, target, unsure=args.unsure, report=_report)
    if done.total:
        _report(done, end="\n")
    say(f"{done.sent:,} events delivered to {target.host}, {done.refused:,} refused.")
    return _FAILED if done.refused else 0


def delete_events(args: argparse.Namespace) -> int:
    """Delete a user's events, after a question unless told not to ask."""
    with closing(_existing(args.db)) as store:
        with store.reading() as db:
            query = "SELECT coalesce(sum(events), 0) FROM users WHERE user_id = ?"
            (count,) = db.execute(query, (args.user,)).fetchone()
        if not count:
            return fail(f"There is no event of {args.user}.")
        if not args.yes:
            say(
                f"Delete {counted(count, 'event')} of {args.user}? This cannot be undone. Type yes:"
            )
            if sys.stdin.readline().strip() != "yes":
                return fail("Nothing was deleted.", _FAILED)
        say(f"{counted(delete_user(store, args.user), 'event')} deleted.")
    return 0


def _existing(path: Path) -> Store:
    """Open a database that somebody has filled; a mistyped name must not make another one."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no database", str(path))
    return Store(path)


def _is_day(text: str) -> bool:
    """Whether a text is a day, or nothing."""
    try:
        return not text or bool(date.fromisoformat(text))
    except ValueError:
        return False


def _report(progress: Progress, end: str = "") -> None:
    redraw(f"{progress.sent + progress.refused:,} of {progress.total:,}", end)
