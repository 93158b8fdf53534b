"""The command `trubrics-instrument spool`: what waits on disk, and what to do with it."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING

from trubrics_instrument import _config
from trubrics_instrument._base.console import fail, redraw, say
from trubrics_instrument._delivery import Outgoing, Sender, SenderOptions
from trubrics_instrument._delivery.leftovers import (
    Leftover,
    Unread,
    clear,
    leftovers,
    look,
    own_path,
)

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from trubrics_instrument._base.console import Subparsers

GLANCE_S = 0.1
BAR = 30
_FAILED = 1


def add_parser(subparsers: Subparsers) -> None:
    """Add the `spool` command."""
    parser = subparsers.add_parser(
        "spool",
        help="see, send or delete events that wait on disk",
        description="Say how many events wait on disk, since when, and for which host.",
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=["list", "send", "clear"],
        default="list",
        help="see them (if nothing is said), deliver them now, or delete them",
    )
    parser.add_argument(
        "--dir", metavar="FOLDER", help="the spool's folder, if it is not the usual one"
    )
    parser.add_argument("--yes", action="store_true", help="clear without asking")
    parser.add_argument(
        "--any-key",
        action="store_true",
        help="send also, with TRUBRICS_API_KEY, what was tracked with another key for this host",
    )
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=10.0,
        help="give up sending after so long without progress (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what was asked, and return the exit code."""
    try:
        config = _config.build(os.environ, {})
    except ValueError as error:
        return fail(str(error))
    try:
        found = leftovers(args.dir or config.spool_dir)
    except OSError as error:
        return fail(f"Cannot look into {error.filename}: {error.strerror}", _FAILED)
    waiting = [each for each in found.spools if each.events]
    if not waiting and (args.action == "send" or not found.unread):
        say("No event waits on disk.")
        return 0
    if args.action == "send":
        return _send(waiting, config, args)
    for line in (*map(_described, waiting), *map(_unread, found.unread)):
        say(line)
    if args.action == "clear":
        return _clear(waiting, [each.path for each in found.unread if each.is_damaged], args)
    return 0


def _clear(waiting: list[Leftover], damaged: list[Path], args: argparse.Namespace) -> int:
    if not (waiting or damaged):
        say("Nothing was deleted.")
        return _FAILED
    if not args.yes and _ask("Delete them for good? [y/N] ").strip().lower() not in {"y", "yes"}:
        say("Nothing was deleted.")
        return _FAILED
    try:
        events = sum(clear(each) for each in waiting)
        for path in damaged:
            path.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        return fail(f"Not everything was deleted: {error}", _FAILED)
    say(f"{events} events were deleted.")
    if damaged:
        say(f"{len(damaged)} files were deleted that could not be read.")
    return 0


def _send(found: list[Leftover], config: _config.Config, args: argparse.Namespace) -> int:
    """Send what waits for the configured host; the key of another one is not known here."""
    spool_dir = args.dir or config.spool_dir
    target = config.destination(api_key=None, host=None)
    ours = target and own_path(spool_dir, target.host, target.api_key)
    code = 0
    for each in found:
        if target is None or each.host != target.host:
            say(f"{_described(each)}: set TRUBRICS_HOST and TRUBRICS_API_KEY to send them.")
            code = 1
            continue
        if each.path != ours and not args.any_key:
            say(f"{_described(each)}, with another key: set that, or add --any-key.")
            code = 1
            continue
        options = SenderOptions(
            target.host,
            target.api_key,
            spool_dir=spool_dir,
            spool_path=each.path,
            session=config.session,
            replay_spread_s=0.0,
            replay_gap_s=0.0,
        )
        code = max(code, _deliver(options, each, args.patience))
    return code


def _deliver(options: SenderOptions, waiting: Leftover, patience_s: float) -> int:
    sender = Sender(options, lambda _item, _event_id: Outgoing("", {}))
    sender.start()
    left, moved_at = waiting.events, time.monotonic()
    while left and time.monotonic() - moved_at < patience_s:
        time.sleep(GLANCE_S)
        now = look(waiting.path).events
        if now != left:
            left, moved_at = now, time.monotonic()
        redraw(_bar(waiting.events - left, waiting.events))
    redraw(_bar(waiting.events - left, waiting.events), end="\n")
    stats = sender.stats()
    sender.shutdown(1.0)
    dropped = sum(stats.dropped.values())
    say(f"{stats.delivered} events were delivered to {waiting.host}, {dropped} refused.")
    if not left:
        return 0
    say(f"{left} still wait: {stats.last_error or 'no answer from the host'}.")
    return 1


def _bar(done: int, total: int) -> str:
    filled = BAR * done // total
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {done} of {total}"


def _described(leftover: Leftover) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(leftover.since_s))
    return f"{leftover.events} events wait for {leftover.host}, since {since}"


def _unread(file: Unread) -> str:
    remedy = "; spool clear deletes it" if file.is_damaged else ""
    return f"{file.path} cannot be read: {file.why}{remedy}"


def _ask(question: str) -> str:
    sys.stdout.write(question)
    sys.stdout.flush()
    return sys.stdin.readline()
