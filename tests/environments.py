"""Environments for tests that want other packages, or another Python, than `.venv` has.

uv builds them, in seconds, from where pip is configured to look on this machine. They are kept,
and built again when what was asked for changes.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".venv-versions"
BUILT_WITHIN_S = 600
# pip's settings, and how uv calls the same.
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}


class NotBuiltError(Exception):
    """An environment could not be built; the message has uv's last words."""


def built(
    home: Path,
    requirements: Sequence[str],
    *,
    extras: str = "",
    python: str = sys.executable,
    fresh: bool = False,
) -> Path:
    """Return the Python of an environment with this package and these, built if need be.

    Raises:
        NotBuiltError: When uv fails, or takes too long.
    """
    wanted = [python, extras, *requirements, (ROOT / "pyproject.toml").read_text(encoding="utf-8")]
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    stamp = home / ".ready"
    inside = home / "bin" / "python"
    if not fresh and stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return inside
    _uv("venv", "--quiet", "--clear", "--no-python-downloads", "--python", python, str(home))
    install(inside, ["--editable", f"{ROOT}{extras}", *requirements])
    stamp.write_text(digest, encoding="utf-8")
    return inside


def install(python: Path, requirements: Sequence[str]) -> None:
    """Install into an environment; `--editable` and other options of uv may be among them."""
    _uv("pip", "install", "--quiet", "--python", str(python), *_where_pip_looks(), *requirements)


def find_python(version: str) -> str | None:
    """Return a Python of this version ("3.12"), on the path or one of pyenv's; None without."""
    if not version:
        return None
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    kept = sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    for python in (shutil.which(f"python{version}"), *map(str, kept)):
        # A shim of pyenv's is on the path for each version, and ends with an error for most.
        if (
            python
            and not subprocess.run([python, "-V"], capture_output=True, check=False).returncode
        ):
            return python
    return None


def _uv(*arguments: str) -> None:
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "uv", *arguments],
            cwd=ROOT,
            env={**os.environ, **_trusted()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILT_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotBuiltError(f"uv {arguments[0]} takes over {BUILT_WITHIN_S} s") from error
    if ran.returncode:
        raise NotBuiltError(f"uv {arguments[0]} failed:\n{ran.stdout[-3000:]}")


def _where_pip_looks() -> Iterator[str]:
    """Yield pip's settings as uv's options; uv reads none of pip's files itself."""
    for name, option in OPTIONS.items():
        for value in pip_settings().get(name, "").split():
            yield option
            yield value
    # As pip: the best version of all indexes, not of the first that knows the package.
    yield from ("--index-strategy", "unsafe-best-match")


def _trusted() -> dict[str, str]:
    return {"SSL_CERT_FILE": cert} if (cert := pip_settings().get("cert")) else {}


@functools.cache
def pip_settings() -> dict[str, str]:
    """Return pip's settings on this machine, from its files and its environment variables."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    lines = [line.partition("=") for line in told.splitlines()]
    known = {name: str(ast.literal_eval(text)) for name, _, text in lines}
    sections = ("global", "install", ":env:")  # each overrides the ones before it
    return {
        name.removeprefix(f"{section}."): value
        for section in sections
        for name, value in known.items()
        if name.startswith(f"{section}.")
    }
