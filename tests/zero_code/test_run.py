"""An app is observed as it is, and nobody who watches it can tell the difference."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import requests

from tests.replies import json_reply, raw_reply
from tests.zero_code.running import ASK, TIMEOUT_S, environ, run, start
from trubrics_instrument import collector
from trubrics_instrument.zero_code import beside

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Loopback
    from tests.replies import Reply
    from tests.sink import Sink

# The Python that the environment was made from, which has nothing installed of ours.
BASE_PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"


def told(sink: Sink, n: int) -> list[tuple[str, str]]:
    """Return the first events: their names and texts."""
    return [(event["event"], event["properties"]["$text"]) for event in sink.wait_for(n)[:n]]


def test_an_app_is_observed(server: Loopback, sink: Sink) -> None:
    """A script that knows nothing of us delivers its conversation by the time it has ended."""
    ended = run(environ(server, sink.host), sys.executable, "-c", ASK, "When do you open?")
    assert ended == (0, "At nine.\n", "")
    assert told(sink, 2) == [("Prompt", "When do you open?"), ("Generation", "At nine.")]


def test_a_module_is_run(server: Loopback, sink: Sink, tmp_path: Path) -> None:
    """`run -m` runs a package as `python -m` does, its own options included."""
    (tmp_path / "chatbot.py").write_text(ASK)
    environment = environ(server, sink.host, PYTHONPATH=str(tmp_path))
    assert run(environment, "-m", "chatbot", "--local") == (0, "At nine.\n", "")
    assert told(sink, 1) == [("Prompt", "--local")]


def test_child_processes_are_observed(server: Loopback, sink: Sink) -> None:
    """What the app starts is observed too: workers, sub-commands, spawned pools."""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}, 'Hello?'])"
    assert run(environ(server, sink.host), sys.executable, "-c", parent)[0] == 0
    assert told(sink, 1) == [("Prompt", "Hello?")]


def test_langchain_is_observed(server: Loopback, sink: Sink) -> None:
    """A chain is one question, with the words of its user."""
    app = (
        "from langchain_core.prompts import ChatPromptTemplate\n"
        "from langchain_openai import ChatOpenAI\n"
        "chain = ChatPromptTemplate.from_template('Be brief. {question}') | ChatOpenAI(model='m')\n"
        "print(chain.invoke({'question': 'When do you open?'}).content)\n"
    )
    code, out, _ = run(environ(server, sink.host), sys.executable, "-W", "ignore", "-c", app)
    assert (code, out) == (0, "At nine.\n")
    assert told(sink, 2) == [("Prompt", "When do you open?"), ("Generation", "At nine.")]
    assert {event["properties"]["framework"] for event in sink.events} == {"langchain"}


def test_exit_code_and_input_are_the_apps(server: Loopback) -> None:
    """What is typed reaches the app, and its exit code comes back."""
    app = "import sys; print(sys.stdin.read().upper()); sys.exit(7)"
    ended = run(environ(server, "http://127.0.0.1:9"), sys.executable, "-c", app, typed="hello")
    assert ended == (7, "HELLO\n", "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signals_are_the_apps(server: Loopback, name: str) -> None:
    """A signal to `run` is one to the app, which may answer it; there is no process between."""
    app = (
        "import os, signal, sys, time\n"
        f"signal.signal(signal.{name}, lambda *_: sys.exit(5))\n"
        "print(os.getpid(), flush=True)\n"
        "while True: time.sleep(0.05)\n"  # a signal may come just before a single wait
    )
    with start(environ(server, "http://127.0.0.1:9"), sys.executable, "-c", app) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{process.pid}\n"
        process.send_signal(signal.Signals[name])
        assert process.wait(TIMEOUT_S) == 5


def test_a_signal_that_kills_is_seen(server: Loopback) -> None:
    """An app that a signal ends has ended by that signal for whoever started `run`."""
    app = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()"
    assert run(environ(server, "http://127.0.0.1:9"), sys.executable, "-c", app)[0] == -15


def test_ignored_signals_are_not_handed_on(server: Loopback) -> None:
    """A shell's pipeline still ends when its reader does, though Python ignores SIGPIPE."""
    ended = run(environ(server, "http://127.0.0.1:9"), "sh", "-c", "yes | head -n 1")
    assert ended == (0, "y\n", "")


def test_an_existing_sitecustomize_has_its_turn(server: Loopback, tmp_path: Path) -> None:
    """It runs once, under its own name, and finds the path as it would be without us."""
    (tmp_path / "sitecustomize.py").write_text("import sys; print('theirs', len(sys.path))")
    app = "import sys, sitecustomize; print(sitecustomize.__file__, *sys.path, sep='\\n')"
    environment = environ(server, "http://127.0.0.1:9", PYTHONPATH=str(tmp_path))
    alone = subprocess.run(
        [sys.executable, "-c", app], env=environment, capture_output=True, text=True, check=True
    )
    once, _, rest = alone.stdout.partition("\n")
    assert once.startswith("theirs ")
    # `run` itself is a Python process too, and says it first.
    expected = (0, f"{once}\n{once}\n{rest}", alone.stderr)
    assert run(environment, sys.executable, "-c", app) == expected


def test_a_sitecustomize_that_raises_is_as_ever(server: Loopback, tmp_path: Path) -> None:
    """Python says of it what it says without us, and the app is still observed."""
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('theirs')")
    app = "import sys; print(type(sys.meta_path[0]).__name__)"
    environment = environ(server, "http://127.0.0.1:9", PYTHONPATH=str(tmp_path))
    code, out, err = run(environment, sys.executable, "-c", app)
    assert (code, out) == (0, "Watch\n")
    assert "ValueError: theirs" in err


def test_a_process_that_asks_nothing_pays_nothing(server: Loopback) -> None:
    """Nothing heavy is imported before the app imports what is to be observed."""
    app = (
        "import sys\n"
        "print([name for name in ('logging', 'trubrics_instrument') if name in sys.modules])\n"
    )
    ended = run(environ(server, "http://127.0.0.1:9"), sys.executable, "-c", app)
    assert ended == (0, "[]\n", "")


def test_a_library_that_does_not_load_fails_as_ever(server: Loopback, tmp_path: Path) -> None:
    """An exception in a watched import is the app's, each time that it tries."""
    (tmp_path / "openai.py").write_text("raise ZeroDivisionError")
    app = (
        "for _ in range(2):\n"
        "    try:\n"
        "        import openai\n"
        "    except ZeroDivisionError as error:\n"
        "        print(error.__traceback__.tb_next.tb_frame.f_code.co_filename[-9:])\n"
    )
    environment = environ(server, "http://127.0.0.1:9", PYTHONPATH=str(tmp_path))
    code, out, err = run(environment, sys.executable, "-c", app)
    assert (code, len(out.splitlines()), err) == (0, 2, "")


def test_a_loader_keeps_its_type(server: Loopback) -> None:
    """Whoever looks at the spec of a watched module sees what is there without us."""
    app = (
        "import importlib.util, openai\n"
        "print(type(openai.__spec__.loader).__name__, vars(openai.__spec__.loader).keys())\n"
        "print(importlib.util.find_spec('openai') is openai.__spec__)\n"
    )
    ended = run(environ(server, "http://127.0.0.1:9"), sys.executable, "-c", app)
    assert ended == (0, "SourceFileLoader dict_keys(['name', 'path'])\nTrue\n", "")


def test_switched_off_is_off(server: Loopback, sink: Sink) -> None:
    """`TRUBRICS_ENABLED=0` leaves the app alone."""
    environment = environ(server, sink.host, TRUBRICS_ENABLED="0")
    assert run(environment, sys.executable, "-c", ASK, "Hello?") == (0, "At nine.\n", "")
    assert sink.events == []


def test_without_key_and_host_the_app_runs(server: Loopback) -> None:
    """One line says that nothing is sent, and the two ways out."""
    code, out, err = run(environ(server, None), sys.executable, "-c", ASK, "Hello?")
    assert (code, out) == (0, "At nine.\n")
    assert err == (
        "trubrics-instrument: nothing is sent: set TRUBRICS_API_KEY, "
        "or see it on this machine with run --local\n"
    )


def test_another_python_is_told(server: Loopback, tmp_path: Path) -> None:
    """An app whose Python lacks us runs, and one line says so; who asks nothing hears nothing."""
    (tmp_path / "openai.py").write_text("print('theirs')")
    environment = environ(server, "http://127.0.0.1:9", PYTHONPATH=str(tmp_path))
    silent = run(environment, BASE_PYTHON, "-c", "print('runs')", cwd=tmp_path)
    assert silent == (0, "runs\n", "")
    app = "import openai; print('runs')"
    code, out, err = run(environment, BASE_PYTHON, "-c", app, cwd=tmp_path)
    assert (code, out) == (0, "theirs\nruns\n")
    assert err == (
        "trubrics-instrument: openai is not observed: ModuleNotFoundError: "
        "No module named 'trubrics_instrument'. "
        f"Is it installed? {BASE_PYTHON} -m pip install trubrics-instrument\n"
    )


def test_what_cannot_be_run_is_one_clear_line(server: Loopback, tmp_path: Path) -> None:
    """The exit codes are those of a shell."""
    script = tmp_path / "app.py"
    script.write_text("")
    environment = environ(server, "http://127.0.0.1:9")
    assert run(environment, "no-such-program") == (127, "", "no-such-program: command not found\n")
    assert run(environment, str(script)) == (
        126,
        "",
        f"{script} is no program: trubrics-instrument run python {script}\n",
    )
    assert run(environment) == (
        2,
        "",
        "No command is given. For example: trubrics-instrument run python app.py\n",
    )


def test_an_impossible_setting_stops_it_at_once(server: Loopback) -> None:
    """A mistake is told before the app starts, not hidden in it."""
    environment = environ(server, None, TRUBRICS_SAMPLE_RATE="often")
    ended = run(environment, sys.executable, "-c", "print('runs')")
    assert ended == (2, "", "TRUBRICS_SAMPLE_RATE='often' is no number\n")


def test_local_brings_its_own_collector(server: Loopback, tmp_path: Path) -> None:
    """It is there while the app is, it gets no key, and the app has no child of ours."""
    app = (
        f"import sys; sys.argv.append('Hello?'); exec({ASK!r})\n"
        "import os, requests, trubrics_instrument\n"
        "assert trubrics_instrument.flush()\n"
        "host = os.environ['TRUBRICS_HOST']\n"
        "print(host)\n"
        "print('Hello?' in requests.get(host + '/export.jsonl').text)\n"
        "print(repr(os.environ['TRUBRICS_API_KEY']))\n"
        "try:\n"
        "    os.waitpid(-1, os.WNOHANG)\n"
        "except ChildProcessError:\n"
        "    print('no children')\n"
    )
    taken = _answers("http://127.0.0.1:8782")
    environment = environ(server, None, XDG_DATA_HOME=str(tmp_path), TRUBRICS_API_KEY="secret")
    code, out, err = run(environment, "--local", sys.executable, "-c", app)
    answer, url, *rest = out.splitlines()
    assert (code, answer, rest) == (0, "At nine.", ["True", "''", "no children"])
    assert err == (
        f"Your conversations: {url} (as long as the app runs)\n"
        "and afterwards:     trubrics-instrument collector\n"
    )
    if not taken:
        _until_gone(url)


@pytest.mark.parametrize(("api_key", "used"), [(None, True), ("secret", False)])
def test_local_uses_the_collector_that_runs(
    tmp_path: Path, api_key: str | None, *, used: bool
) -> None:
    """One that is there already is taken, unless it wants a key, which an app need not have."""
    with collector.running(tmp_path / "db", api_key=api_key) as there:
        assert beside.takes_events(there.url) is used


def test_local_says_whose_collector_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is there already stays when the app ends."""
    with collector.running(tmp_path / "db") as there:
        monkeypatch.setattr(beside, "COLLECTOR_PORT", int(there.url.rpartition(":")[2]))
        assert beside.start(0) == {"TRUBRICS_HOST": there.url, "TRUBRICS_API_KEY": ""}
    line = f"Your conversations: {there.url} (the collector that is running)\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "reply", [json_reply({}), json_reply([], 422), raw_reply(b"Hello"), raw_reply(b"5")]
)
def test_local_takes_nothing_else_for_a_collector(server: Loopback, reply: Reply) -> None:
    """Whatever else listens on its port gets no conversations."""
    server.always(reply)
    assert not beside.takes_events(server.url)


def test_local_shows_no_login_to_who_listens(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of ~/.netrc are for others."""
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.always(json_reply({}))
    assert not beside.takes_events(server.url)
    assert [request.headers.get("authorization") for request in server.requests] == [None]


def test_local_without_the_extra_is_one_clear_line(server: Loopback) -> None:
    """What is missing for a collector is named before the app starts."""
    without = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'starlette' else real(name, *rest)\n"
        "from trubrics_instrument.zero_code import beside\n"
        "beside.takes_events = lambda url: False\n"
        "from trubrics_instrument.cli import main\n"
        "sys.exit(main(['run', '--local', sys.executable, '-c', 'print(1)']))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", without],
        env=environ(server, None),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        2,
        "",
        "The collector needs starlette: pip install 'trubrics-instrument[collector]'\n",
    )


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=TIMEOUT_S).ok
    except requests.ConnectionError:
        return False


def _until_gone(url: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while _answers(url):
        assert time.monotonic() < deadline, f"the collector at {url} outlives the app"
        time.sleep(0.05)
