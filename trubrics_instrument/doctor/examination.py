"""Everything that the doctor looks at, in the order in which a remedy makes sense."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import TYPE_CHECKING

from trubrics_instrument import _config, _runtime
from trubrics_instrument.doctor.delivery import delivery, send_test_event
from trubrics_instrument.doctor.finding import Finding, note, wrong
from trubrics_instrument.doctor.installed import installed
from trubrics_instrument.doctor.patched import patched
from trubrics_instrument.doctor.seen import seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def report(*, app: bool = True, send: bool = False) -> list[Finding]:
    """Return what is found in this process.

    Args:
        app: Whether this is the app's process, and its set-up has run.
        send: Whether to send a test event as well.
    """
    return list(_findings(app=app, send=send))


def misspelt(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the variables that nobody reads, and whose names are nearly those of others."""
    for name in sorted(environ):
        if name.startswith("TRUBRICS_") and name not in _config.VARIABLES:
            option = name.removeprefix("TRUBRICS_").lower()
            if option in _config.OPTIONS:
                remedy = f"use configure({option}=...)"
                yield note("configuration", f"{name} is not read", remedy)
                continue
            for meant in get_close_matches(name, _config.VARIABLES, n=1, cutoff=0.85):
                yield note("configuration", f"{name} is not read", f"is it {meant}?")


def _findings(*, app: bool, send: bool) -> Iterator[Finding]:
    yield from installed()
    yield from misspelt(os.environ)
    try:
        config = _runtime.config() if app else _config.build(os.environ, {})
    except ValueError as error:
        yield wrong("configuration", str(error), "correct it, or remove it")
        return
    yield from patched(app=app)
    yield from delivery(config)
    if send:
        yield send_test_event()
    yield from seen()
