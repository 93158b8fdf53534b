"""Run public applications as they are, and see their conversations arrive as they were.

    make test-apps                      # all of them
    make test-apps ARGS="llm gradio"    # some

Each has an environment of its own below `.venv-apps`, with the versions that it asks for itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import model_server

from tests.apps.matrix import APPS, MODEL, App
from tests.apps.place import Place, environ
from tests.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-apps"
ARRIVES_WITHIN_S = 20.0


class Outcome(NamedTuple):
    """How it went with one application; nothing in `wrong` is what is hoped for."""

    name: str
    versions: str
    wrong: str
    took_s: float


def main() -> int:
    """Run the applications that are asked for; return 1 if one's conversation did not arrive."""
    parser = argparse.ArgumentParser(description="Public applications, untouched, observed.")
    parser.add_argument("names", nargs="*", help=", ".join(app.name for app in APPS))
    wanted: list[str] = parser.parse_args().names
    unknown = set(wanted) - {app.name for app in APPS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    outcomes: list[Outcome] = []
    for app in APPS:
        if not wanted or app.name in wanted:
            outcome = _tried(app)
            outcomes.append(outcome)
            state = outcome.wrong or f"as it was: {len(app.told)} events"
            print(
                f"{app.name:<15} {outcome.took_s:>5.1f} s  {outcome.versions}\n  {state}",
                flush=True,
            )
    failed = [outcome.name for outcome in outcomes if outcome.wrong]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} arrived as they were.")
    return int(bool(failed))


def _tried(app: App) -> Outcome:
    versions = ""
    start_s = time.monotonic()
    try:
        programs = _environment(app)
        versions = _versions(programs, app)
        start_s = time.monotonic()
        wrong = _driven(app, programs)
    except (AssertionError, subprocess.SubprocessError, OSError) as error:
        wrong = f"{type(error).__name__}: {error}"
    return Outcome(app.name, versions, wrong, time.monotonic() - start_s)


def _driven(app: App, programs: Path) -> str:
    """Return what is wrong with the events that arrived, empty if nothing is."""
    model_server.MODELS = (MODEL,)
    with (
        model_server.running() as models,
        Sink() as sink,
        tempfile.TemporaryDirectory(prefix=f"{app.name}-") as folder,
    ):
        home = Path(folder)
        app.drive(Place(programs, home, environ(home, programs, models.base_url, sink.host)))
        sink.wait_until(lambda events: len(events) >= len(app.told), ARRIVES_WITHIN_S)
        return _differences(app, sink.events)


def _differences(app: App, events: Sequence[dict[str, Any]]) -> str:
    told = [(event["event"], _shown(event["properties"])) for event in events]
    if told != list(app.told):
        return f"arrived:  {told}\n  expected: {list(app.told)}"
    threads = {event["properties"]["$thread_id"] for event in events}
    if len(threads) != app.threads:
        return f"{len(threads)} conversations instead of {app.threads}"
    models = {event["properties"].get("$assistant_id") for event in events} - {None}
    return "" if models == {MODEL} else f"models: {models}"


def _shown(properties: dict[str, Any]) -> str:
    return str(properties.get("$text") or properties.get("tool_name"))


def _environment(app: App) -> Path:
    """Return the programs of an application's environment, made if need be."""
    folder = ENVIRONMENTS / app.name
    ready = folder / ".ready"
    asked_for = (ROOT / "pyproject.toml", Path(__file__).with_name("matrix.py"))
    newest_s = max(file.stat().st_mtime for file in asked_for)
    if not ready.exists() or ready.stat().st_mtime < newest_s:
        print(f"{app.name}: installing {', '.join(app.requires)} ...", flush=True)
        _do(sys.executable, "-m", "venv", str(folder))
        python = str(folder / "bin" / "python")
        _do(python, "-m", "pip", "install", "--quiet", "--editable", str(ROOT), *app.requires)
        ready.touch()
    return folder / "bin"


def _versions(programs: Path, app: App) -> str:
    """Return the versions that matter, for the report."""
    names = [requirement.partition("[")[0] for requirement in app.requires]
    program = (
        "import sys, importlib.metadata as m\n"
        "print(*(f'{name} {m.version(name)}' for name in sys.argv[1:]), sep=', ')"
    )
    shown = dict.fromkeys([*names, "openai"])
    return _do(str(programs / "python"), "-c", program, *shown).strip()


def _do(*command: str) -> str:
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout[-3000:]}"
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
