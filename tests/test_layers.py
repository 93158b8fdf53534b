"""The architecture is what the folders say: imports go downward only."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trubrics_instrument

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOT = Path(trubrics_instrument.__file__).parent
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"_base", "_version"}),
    frozenset({"_config", "_events"}),
    frozenset({"_context", "_conversations", "_cost", "_delivery", "_privacy"}),
    frozenset({"_prepare"}),
    frozenset({"_runtime"}),
    frozenset({"_feedback", "_observing", "_public"}),
    frozenset({"django", "langchain", "providers", "serverless"}),
    frozenset({"_libraries", "asgi", "collector", "spool_cli", "testing", "ui", "wsgi"}),
    frozenset({"doctor", "pytest_plugin", "zero_code"}),
    frozenset({"cli"}),
)
# The package's front door looks everything up by name, and only when it is asked for.
FRONT_DOOR = "trubrics_instrument"
FOREIGN = {
    "django": "django",
    "openai": "providers",
    "langchain_core": "langchain",
    "starlette": "collector",
}
COLLECTOR_MAY_IMPORT = frozenset({"_base", "_events", "_version", "collector"})


def sources() -> list[Path]:
    """Return the package's files."""
    return sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """Return the room a file belongs to: its name below the package, without its folder's rest."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def full_name(path: Path) -> str:
    """Return the name by which a file is imported."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path, *, types: bool = True) -> Iterator[str]:
    """Yield each module that a file imports, by its full name; those for types alone too."""
    package = [FRONT_DOOR, *path.relative_to(ROOT).parts[:-1]]
    tree = ast.parse(path.read_text())
    typed = {inner for node in ast.walk(tree) if for_types(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in typed and not types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def for_types(node: ast.AST) -> bool:
    """Whether it is what only type checkers run."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def module_of(name: str, modules: Collection[str]) -> str:
    """Return the module of ours in which a name is to be found, "" if in none."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def floor(name: str) -> int:
    """Return the floor of a room."""
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    """A file imports from its own room and from floors below; nobody imports the front door."""
    here = room(path)
    if here == "__init__":
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != FRONT_DOOR:
            owner = FOREIGN.get(parts[0])
            assert owner in {None, here}, f"{path.name} imports {module}"
            continue
        assert len(parts) > 1, f"{path.name} imports the front door"
        there = parts[1]
        assert there == here or floor(there) < floor(here), f"{path.name} imports {module}"
        assert here != "collector" or there in COLLECTOR_MAY_IMPORT


def test_no_circles() -> None:
    """Inside a room, too, no file imports one that imports it."""
    modules = {full_name(path): path for path in sources()}
    below = {
        name: {module_of(imported, modules) for imported in imports(path, types=False)} - {name, ""}
        for name, path in modules.items()
        if name != FRONT_DOOR
    }
    TopologicalSorter(below).prepare()


def test_no_name_is_a_file_too() -> None:
    """What a room gives is not also a file of it: once loaded, the file takes the name's place.

    Unless the name is bound later: not where a room looks it up when asked (the collector's), nor
    with Python 3.15's lazy imports (PEP 810).
    """
    modules = {full_name(path) for path in sources()}
    for room_file in ROOT.rglob("*/__init__.py"):
        given = {name for name in imports(room_file) if name not in modules}
        here = full_name(room_file)
        assert not modules & {f"{here}.{name.rpartition('.')[2]}" for name in given}


def test_every_room_has_a_floor() -> None:
    """A new file is put on a floor deliberately, and none is listed that is not planned."""
    rooms = {room(path) for path in sources()} - {"__init__"}
    assert rooms <= frozenset[str]().union(*FLOORS)


def test_public_names() -> None:
    """`__all__`, the table of homes and what a type checker sees are the same names."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(FRONT_DOOR)
        for alias in node.names
    }
    assert set(trubrics_instrument.__all__) == typed == set(trubrics_instrument._HOMES)
    assert trubrics_instrument.__all__ == sorted(trubrics_instrument.__all__)
    for name in trubrics_instrument.__all__:
        value = getattr(trubrics_instrument, name)
        home = importlib.import_module(f"{FRONT_DOOR}.{trubrics_instrument._HOMES[name]}")
        assert value is getattr(home, name)
    assert set(trubrics_instrument.__all__) <= set(dir(trubrics_instrument))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = trubrics_instrument.nonsense


NEEDS_LANGCHAIN = (
    "TrubricsCallbackHandler needs langchain-core: pip install 'trubrics-instrument[langchain]'\n"
)


def without_langchain(program: str) -> str:
    """Return what a program writes where LangChain is not installed."""
    missing = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'langchain_core':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", missing + program],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    return ended.stdout


def test_a_missing_extra_is_named() -> None:
    """Who asks for the handler without LangChain is told what to install."""
    program = (
        "try:\n"
        "    from trubrics_instrument import TrubricsCallbackHandler\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert without_langchain(program) == NEEDS_LANGCHAIN


def test_a_missing_extra_stops_nobody_else() -> None:
    """Without LangChain, `import *` and `help()` give everything but the handler."""
    program = (
        "from trubrics_instrument import *\n"
        "names = set(dir())\n"
        "import pydoc, trubrics_instrument\n"
        "pydoc.render_doc(trubrics_instrument)\n"
        "print(*sorted(names))\n"
    )
    given = {*without_langchain(program).split()}
    assert {*trubrics_instrument.__all__} - given == {"TrubricsCallbackHandler"}


def test_a_missing_extra_in_its_own_room() -> None:
    """Without LangChain, `help()` of its room works, and `import *` says what to install."""
    program = (
        "import pydoc, trubrics_instrument.langchain\n"
        "assert 'patch_langchain' in pydoc.render_doc(trubrics_instrument.langchain)\n"
        "try:\n"
        "    from trubrics_instrument.langchain import *\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert without_langchain(program) == NEEDS_LANGCHAIN


def test_importing_does_nothing() -> None:
    """The import loads no library, starts no thread, and touches no log handler."""
    program = (
        "import sys, threading, logging\n"
        "import trubrics_instrument\n"
        "heavy = {'openai', 'langchain_core', 'wrapt', 'requests', 'sqlite3', 'starlette'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert threading.active_count() == 1\n"
        "assert not logging.getLogger('trubrics_instrument').handlers\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
