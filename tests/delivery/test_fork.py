"""A forked child delivers its own events, and none of its parent's."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.delivery.children import COUNT, POOL_TASKS
from tests.delivery.faulty_server import FaultyServer
from tests.delivery.processes import PATIENCE_S, ROOT, restart, run
from tests.delivery.senders import sending
from tests.strict import STRICT_PYTHON

if TYPE_CHECKING:
    from pathlib import Path


def test_no_thread_before_the_first_event() -> None:
    """A master that preloads the app forks without one; those that come keep no process alive."""
    with FaultyServer() as server, sending(server) as sender:
        before = set(threading.enumerate())
        assert sender.flush(1)
        assert set(threading.enumerate()) == before
        sender.put(1)
        server.wait_for(1)
        own = [one for one in threading.enumerate() if one.name.startswith("trubrics")]
        assert own
        assert all(one.daemon for one in own)


@pytest.mark.parametrize("spool", ["auto", "always", "strict", "off"])
@pytest.mark.parametrize(
    "program", ["fork", "fork_and_flush", "fork_in_thread", "fork_in_thread_and_go_on"]
)
def test_parent_and_child_deliver_their_own(tmp_path: Path, program: str, spool: str) -> None:
    """Each number arrives twice, once from each process, under an event id of its own."""
    with FaultyServer() as server:
        assert run(program, server, spool, tmp_path).code == 0
        assert Counter(server.numbers()) == Counter(list(range(COUNT)) * 2)
        assert set(server.taken.values()) == {1}
        by_pid = Counter(event["pid"] for event in server.events)
        assert sorted(by_pid.values()) == [COUNT, COUNT]


def test_a_child_that_forks_again_has_its_own_to_go_on_with(tmp_path: Path) -> None:
    """What its parent had paused for the first fork is none of its business."""
    with FaultyServer() as server:
        assert run("fork_again", server, "strict", tmp_path).code == 0
        assert Counter(server.numbers()) == Counter(range(COUNT))


@pytest.mark.parametrize("spool", ["always", "strict"])
def test_a_child_that_inherits_an_open_spool_stays_off_the_disk(tmp_path: Path, spool: str) -> None:
    """A fork that Python does not see leaves no moment to close the file: memory has to do."""
    with FaultyServer() as server:
        assert run("fork_unseen", server, spool, tmp_path).code == 0
        assert Counter(server.numbers()) == Counter(list(range(COUNT)) * 2)
        assert set(server.taken.values()) == {1}


def test_a_joined_pool_delivers_everything(tmp_path: Path) -> None:
    """Workers of multiprocessing run no atexit; the finalizer delivers."""
    with FaultyServer() as server:
        assert run("join_pool", server, "auto", tmp_path).code == 0
        assert Counter(server.numbers()) == Counter([*range(POOL_TASKS), 1000])


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_that_loads_the_app_anew(tmp_path: Path, method: str) -> None:
    """Multiprocessing throws finalizers away that were registered before its child's work began."""
    program = str(ROOT / "tests" / "delivery" / "loaded_in_a_child.py")
    with FaultyServer() as server:
        command = [*STRICT_PYTHON, program, method, server.url, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, env=environment, timeout=PATIENCE_S, check=False)
        assert ended.returncode == 0
        assert Counter(server.numbers()) == Counter(range(COUNT))


def test_a_terminated_pool_loses_nothing_that_is_strict(tmp_path: Path) -> None:
    """Its workers die of SIGTERM; what `put` had accepted comes with the next process."""
    with FaultyServer() as server:
        assert run("terminate_pool", server, "strict", tmp_path).code == 0
        restart(server, "strict", tmp_path, POOL_TASKS + 2)
        assert set(server.numbers()) == {*range(POOL_TASKS), 1000, COUNT}
