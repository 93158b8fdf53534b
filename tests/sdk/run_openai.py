"""Run the newest openai's own tests twice, without our patch and with it: no test may differ.

    python tests/sdk/run_openai.py                    # the offline part, about 10 minutes
    python tests/sdk/run_openai.py tests/lib/chat     # some of them, by their path in the sdist

The sdist comes from the package index into .venv-versions/openai-sdk/, together with an
environment of its own. With the patch on, events go to a loopback sink through the real sender.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-versions" / "openai-sdk"
PYTHON = HOME / "bin" / "python"
SOURCES = HOME / "sources"
# What the SDK's tests need beside the SDK; tests that lack more fail alike in both runs.
TOOLS = (
    *("pytest>=9", "pytest-asyncio>=1.4", "pytest-timeout>=2.3", "inline-snapshot>=0.28"),
    *("rich>=13.7", "trio>=0.22", "websockets>=13", "azure-identity>=1.14", "botocore>=1.40"),
)
# tests/api_resources wants a mock server of the whole API, which the sdist does not have.
OFFLINE = ("tests", "--ignore=tests/api_resources")


class Run(NamedTuple):
    """One run of the tests: how each ended, which events arrived, and faults of ours.

    `broken` has the rules of a turn that a test's events broke, where somebody looked.
    """

    outcomes: dict[str, str]
    events: dict[str, int]
    faults: dict[str, int]
    broken: Mapping[str, list[str]] = {}


def main(arguments: list[str]) -> int:
    """Run both, print what differs, and return 1 if anything does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="tests in the sdist; the offline part if none")
    parser.add_argument("--version", default="", help="such as 3.54.0; the newest if not given")
    parser.add_argument("--fresh", action="store_true", help="fetch and install again")
    options = parser.parse_args(arguments)
    source = _source(options.version, fresh=options.fresh)
    paths = options.paths or OFFLINE
    run = functools.partial(_run, source)
    return _compare(run(paths, patched=False), run(paths, patched=True), run)


def _source(version: str, *, fresh: bool) -> Path:
    """Return the unpacked sdist, with its environment ready."""
    known = sorted(SOURCES.glob(f"openai-{version or '*'}/pyproject.toml"))
    if known and not fresh:
        return known[-1].parent
    wanted = f"openai=={version}" if version else "openai"
    print(f"fetching {wanted}, and what its tests need, into {HOME} ...", flush=True)
    SOURCES.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    only_source = ["--no-deps", "--no-binary", ":all:", "--dest", str(SOURCES)]
    subprocess.run([*pip, "download", "-qq", *only_source, wanted], check=True)
    archive = max(
        SOURCES.glob(f"openai-{version or '*'}.tar.gz"), key=lambda it: it.stat().st_mtime
    )
    with tarfile.open(archive) as packed:
        packed.extractall(SOURCES, filter="data")
    source = SOURCES / archive.name.removesuffix(".tar.gz")
    own = ["--editable", str(ROOT), f"{source}[aiohttp,realtime]", *TOOLS]
    subprocess.run([*pip, "install", "-qq", *own], check=True)
    return source


def _run(source: Path, paths: Sequence[str], *, patched: bool) -> Run:
    print(f"== {source.name}'s tests {'with' if patched else 'without'} the patch", flush=True)
    report = HOME / "report.json"
    report.unlink(missing_ok=True)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("TRUBRICS_")}
    environ |= {"PYTHONPATH": str(Path(__file__).parent), "TRUBRICS_REPORT": str(report)}
    if patched:
        environ["TRUBRICS_PATCHED"] = "1"
    command = [str(PYTHON), "-m", "pytest", "-q", "--tb=no", "-p", "openai_sdk_plugin"]
    settings = ["-o", "addopts=", "--timeout=120", "-p", "no:cacheprovider"]
    settings.append("--continue-on-collection-errors")
    subprocess.run([*command, *settings, *paths], cwd=source, check=False, env=environ)
    return Run(**json.loads(report.read_text(encoding="utf-8")))


def _compare(bare: Run, patched: Run, again: Callable[..., Run]) -> int:
    """Print the sums and each test that differs, and return 1 if one does so again, alone.

    Some of the SDK's tests depend on time, and fail on a busy machine in one run or in the other.
    """
    failing = sum(":failed" in outcome for outcome in bare.outcomes.values())
    print(f"{len(bare.outcomes)} tests without the patch, {failing} of them fail")
    print(f"{len(patched.outcomes)} tests with the patch: events {patched.events}")
    print(f"faults of ours: {patched.faults or 'none'}")
    differing = _differing(bare, patched)
    print(f"{len(differing)} tests differ: {', '.join(differing) or 'none'}")
    if differing:
        differing = _differing(again(differing, patched=False), again(differing, patched=True))
        print(f"{len(differing)} of them differ again, alone: {', '.join(differing) or 'none'}")
    if not patched.events:
        print("no event arrived: these tests show nothing")
    return int(bool(differing or patched.faults or not patched.events))


def _differing(bare: Run, patched: Run) -> list[str]:
    names = sorted({*bare.outcomes, *patched.outcomes})
    return [name for name in names if bare.outcomes.get(name) != patched.outcomes.get(name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
