"""Programs that a test runs as processes of their own: `children.py NAME URL SPOOL SPOOL_DIR`."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import types
from typing import TYPE_CHECKING

from trubrics_instrument._base.shield import faults
from trubrics_instrument._delivery import Outgoing, Sender, SenderOptions, lifecycle
from trubrics_instrument._delivery.lane import WORTH_A_WARNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument._delivery.options import SpoolMode

COUNT = 250
POOL_TASKS = 20


def prepare(item: object, event_id: str) -> Outgoing:
    """Make an event of a number; every tenth number has the same key."""
    assert isinstance(item, int)
    return Outgoing(f"thread-{item % 10}", {"event_id": event_id, "n": item, "pid": os.getpid()})


def new_sender(url: str, spool: SpoolMode, spool_dir: str) -> Sender:
    """Return a sender whose replays do not wait for a random while."""
    options = SenderOptions(
        url, "secret-key", spool=spool, spool_dir=spool_dir, look_s=0.5, replay_spread_s=0
    )
    return Sender(options, prepare)


def track(sender: Sender, count: int = COUNT) -> None:
    """Track numbers from 0."""
    for n in range(count):
        assert sender.put(n)


def exit_at_once(sender: Sender) -> None:
    """Track, and fall off the end; print when that was."""
    track(sender)
    sys.stdout.write(f"{time.monotonic()}\n")


def exit_after_a_flush(sender: Sender) -> None:
    """Track, wait until it has arrived, track once more, and fall off the end."""
    track(sender)
    assert sender.flush(10)
    sender.put(COUNT)


def exit_after_an_outage(sender: Sender) -> None:
    """Track, wait until trouble is worth a line, and fall off the end."""
    track(sender)
    while sender.stats().retries < WORTH_A_WARNING:
        time.sleep(0.05)


def tell_what_the_exit_needs(sender: Sender) -> None:
    """Track, fall off the end, and say what has been imported and started between."""
    modules: set[str] = set()
    threads: set[threading.Thread] = set()

    def tell() -> None:
        started = [one.name for one in threading.enumerate() if one not in threads]
        sys.stdout.write(f"modules: {sorted(set(sys.modules) - modules)}, threads: {started}\n")

    atexit.register(tell)
    # Handlers run in reverse: its own comes after, so that it runs before.
    atexit.unregister(lifecycle._close_all)
    atexit.register(lifecycle._close_all)
    track(sender)
    modules |= set(sys.modules)
    threads |= set(threading.enumerate())


def exit_in_thread(sender: Sender) -> None:
    """Track in a thread that ends with sys.exit."""

    def work() -> None:
        track(sender)
        sys.exit(3)

    threading.Thread(target=work).start()


def track_at_exit(sender: Sender) -> None:
    """Track for the first time when the interpreter is on its way out."""
    import atexit

    atexit.register(track, sender)


def announce_and_wait(sender: Sender) -> None:
    """Track, say so, and wait to be killed."""
    track(sender)
    sys.stdout.write("tracked\n")
    sys.stdout.flush()
    signal.pause()


def track_on_a_full_disk(sender: Sender) -> None:
    """Track where no file may grow beyond 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for _ in range(8):
        track(sender)
    assert sender.flush(10)


def _leave(_number: int, _frame: object) -> None:
    sys.exit(0)


def exit_on_sigterm(sender: Sender) -> None:
    """Track and wait; SIGTERM ends the process as sys.exit does."""
    signal.signal(signal.SIGTERM, _leave)
    announce_and_wait(sender)


def exit_with_two_senders(sender: Sender) -> None:
    """Track for two hosts, and fall off the end; print when that was."""
    second = new_sender(sys.argv[2] + "/second", sys.argv[3], sys.argv[4])  # type: ignore[arg-type]  # a mode
    track(sender, 10)
    track(second, 10)
    sys.stdout.write(f"{time.monotonic()}\n")


def shut_down(sender: Sender) -> None:
    """Track, then close by hand with the default budget; print how long that took."""
    track(sender)
    started = time.monotonic()
    sender.shutdown(3.0)
    sys.stdout.write(f"{time.monotonic() - started:.2f}\n")


def be_interrupted(sender: Sender) -> None:
    """Track, say so, close by hand with all patience, be interrupted, and fall off the end."""
    track(sender)
    sys.stdout.write("tracked\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        sender.shutdown(60.0)


def carry_on(sender: Sender) -> None:
    """Track one event more, then live until SIGTERM: the process that comes after an accident."""
    signal.signal(signal.SIGTERM, _leave)
    sender.put(COUNT)
    signal.pause()


def fork(sender: Sender) -> None:
    """Track in the parent, fork, and track in the child, which exits as a program does."""
    track(sender)
    pid = os.fork()
    if pid == 0:
        track(sender)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def fork_and_flush(sender: Sender) -> None:
    """Track in the parent and let the child flush, then leave without any exit hook."""
    track(sender)
    pid = os.fork()
    if pid == 0:
        track(sender)
        # The end of the main thread is told otherwise, and this one would come too late.
        os._exit(0 if sender.flush(10) and not hasattr(lifecycle._held, "end") else 1)
    assert os.waitpid(pid, 0)[1] == 0


def fork_again(sender: Sender) -> None:
    """Fork with the spool open, and let the child fork; it tells of faults of ours."""
    track(sender)
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(os.wait()[1] or len(faults()))
    assert os.wait()[1] == 0


def fork_in_thread(sender: Sender) -> None:
    """Fork in a thread; the child tracks there, and is over when this thread is.

    Another of its threads forks once more, which ends nothing.
    """
    track(sender)
    codes: list[int] = []
    ends: list[int] = []
    close_all = lifecycle._close_all

    def close_and_count(*_: object, **__: object) -> None:
        ends.append(os.getpid())
        close_all()

    lifecycle._close_all = close_and_count

    def fork_once_more() -> None:
        if os.fork() == 0:
            os._exit(len(faults()) + len(ends))
        codes.append(os.wait()[1])

    def work() -> None:
        pid = os.fork()
        if pid == 0:
            track(sender)
            another = threading.Thread(target=fork_once_more)
            another.start()
            another.join()
            if codes[0]:
                os._exit(1)
            sys.exit()
        codes.append(os.waitpid(pid, 0)[1])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [0]


def fork_in_thread_and_go_on(sender: Sender) -> None:
    """Fork in a thread; the child tracks in another one, which goes on when that is over."""
    track(sender)
    codes: list[int] = []

    def work() -> None:
        pid = os.fork()
        if pid == 0:
            threading.Thread(target=go_on, args=[threading.current_thread()]).start()
            return
        codes.append(os.waitpid(pid, 0)[1])

    def go_on(first: threading.Thread) -> None:
        run = sender._run
        first.join()
        until = time.monotonic() + 10
        while sender._run is run and time.monotonic() < until:
            time.sleep(0.01)
        os._exit(0 if all(map(sender.put, range(COUNT))) and sender.flush(10) else 1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [0]


def fork_unseen(_sender: Sender) -> None:
    """Fork with the spool open, and no hook told: uWSGI forks so."""
    sys.modules["uwsgi"] = types.ModuleType("uwsgi")
    sender = new_sender(*sys.argv[2:])  # type: ignore[arg-type]  # a mode
    lifecycle.dismiss(sender)  # the hooks that Python runs pass it by
    track(sender)
    assert sender.flush(10)
    pid = os.fork()
    if pid == 0:
        track(sender)
        usable = sender._run.spool.file.is_usable()
        os._exit(0 if sender.flush(10) and not usable else 1)
    assert os.waitpid(pid, 0)[1] == 0


_pool_sender: Sender


def _pool_task(n: int) -> None:
    assert _pool_sender.put(n)


def join_pool(sender: Sender) -> None:
    """Track in the workers of a pool that is closed and joined."""
    global _pool_sender  # noqa: PLW0603 - what a forked worker inherits
    _pool_sender = sender
    assert sender.put(1000)
    pool = multiprocessing.get_context("fork").Pool(2)
    pool.map(_pool_task, range(POOL_TASKS), chunksize=1)
    pool.close()
    pool.join()


def terminate_pool(sender: Sender) -> None:
    """Track in the workers of a pool that is terminated."""
    global _pool_sender  # noqa: PLW0603 - what a forked worker inherits
    _pool_sender = sender
    assert sender.put(1000)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(_pool_task, range(POOL_TASKS), chunksize=1)


PROGRAMS: dict[str, Callable[[Sender], None]] = {
    program.__name__: program
    for program in (
        exit_at_once,
        exit_after_a_flush,
        exit_after_an_outage,
        tell_what_the_exit_needs,
        exit_in_thread,
        fork_in_thread,
        fork_in_thread_and_go_on,
        track_at_exit,
        announce_and_wait,
        exit_on_sigterm,
        exit_with_two_senders,
        shut_down,
        be_interrupted,
        carry_on,
        track_on_a_full_disk,
        fork,
        fork_and_flush,
        fork_again,
        fork_unseen,
        join_pool,
        terminate_pool,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](new_sender(sys.argv[2], sys.argv[3], sys.argv[4]))  # type: ignore[arg-type]
