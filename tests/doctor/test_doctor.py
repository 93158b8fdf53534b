"""Each finding is a line with its remedy, and the exit code is for scripts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
import requests
import wrapt

import trubrics_instrument
from tests.homeless import be_homeless
from tests.replies import json_reply, raw_reply
from trubrics_instrument import _config, cli, collector
from trubrics_instrument._delivery.spool_file import connect, spool_path
from trubrics_instrument.doctor import Finding, report
from trubrics_instrument.doctor import delivery as of_delivery
from trubrics_instrument.doctor.delivery import _unreachable, delivery, send_test_event
from trubrics_instrument.doctor.examination import misspelt
from trubrics_instrument.doctor.installed import OLDEST, installed, others
from trubrics_instrument.doctor.patched import patched
from trubrics_instrument.doctor.seen import seen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.loopback import Loopback
    from tests.sink import Sink

KEY = "a-key-that-nobody-may-see"
TIMEOUT_S = 60


def doctor(*arguments: str, home: Path, **variables: str) -> tuple[int, str, str]:
    """Return the exit code, the output and the error output of the command."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TRUBRICS_")}
    ran = subprocess.run(
        [sys.executable, "-m", "trubrics_instrument.cli", "doctor", *arguments],
        env={**plain, "XDG_DATA_HOME": str(home), "XDG_STATE_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


def found(findings: Iterable[Finding], check: str) -> Finding:
    """Return the only finding of a check."""
    (one,) = [one for one in findings if one.check == check]
    return one


def of_host(host: str, **options: Any) -> list[Finding]:
    """Return what is found of a host with these options."""
    trubrics_instrument.configure(host=host, **options)
    return list(delivery(trubrics_instrument._runtime.config()))


def test_a_misspelt_variable() -> None:
    """What nobody reads and was meant to be another is told; what is somebody else's is not."""
    environ = {"TRUBRICS_HOSTS": "x", "TRUBRICS_HOST": "x", "TRUBRICS_COLLECTOR_PASSWORD": "x"}
    environ |= {"TRUBRICS_EMAIL": "x", "TRUBRICS_FLUSH_INTERVAL_S": "3"}
    told = "note  configuration   {} is not read -> {}".format
    assert [one.line() for one in misspelt(environ)] == [
        told("TRUBRICS_FLUSH_INTERVAL_S", "use configure(flush_interval_s=...)"),
        told("TRUBRICS_HOSTS", "is it TRUBRICS_HOST?"),
    ]


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "note  enabled         no: nothing is observed -> look for configure(enabled=False)"),
        (
            {"ENABLED": "0"},
            "note  enabled         no: nothing is observed -> remove TRUBRICS_ENABL",
        ),
        ({"SAMPLE_RATE": "7"}, "wrong enabled         no, because TRUBRICS_SAMPLE_RATE=7.0 must"),
    ],
)
def test_switched_off(environ: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says who did it; a key that is missing is not what keeps events at home then."""
    for name, value in environ.items():
        monkeypatch.setenv(f"TRUBRICS_{name}", value)
    (finding,) = delivery(_config.Config(enabled=False))
    assert finding.line().startswith(line)


def test_a_user_without_a_home(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have none: that is told, and stops neither doctor nor app."""
    be_homeless(monkeypatch)
    spool = found(of_host(sink.host, spool="auto"), "spool")
    assert spool.line().startswith("wrong spool")
    assert spool.line().endswith("/trubrics-instrument cannot be written -> set TRUBRICS_SPOOL_DIR")
    assert found(seen(), "collector").said == "nothing collected here yet"
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])


def test_all_is_well(server: Loopback, tmp_path: Path) -> None:
    """A line each, nothing to put right, exit code 0, and no word of the key."""
    server.always(json_reply({"detail": [{"msg": "1 to 100"}]}, 422), path="/publish_events")
    variables = {"TRUBRICS_HOST": server.url, "TRUBRICS_API_KEY": KEY}
    code, out, err = doctor(home=tmp_path, **variables)
    assert (code, err) == (0, "")
    assert out.endswith("\nNothing is wrong.\n")
    assert re.search(r"^ok    key +set \(it is not shown\)$", out, re.MULTILINE)
    assert re.search(rf"^ok    host +{server.url} takes events$", out, re.MULTILINE)
    assert re.search(r"^ok    openai patch +can be put on", out, re.MULTILINE)
    assert re.search(r"^ok    langchain patch +can be put on", out, re.MULTILINE)
    assert KEY not in out
    (asked,) = server.requests
    assert (asked.headers["x-api-key"], asked.json) == (KEY, [])


def test_it_is_for_programs_too(tmp_path: Path) -> None:
    """`--json` writes the same findings, and what is wrong is exit code 1."""
    code, out, err = doctor("--json", home=tmp_path)
    assert (code, err) == (1, "")
    findings = [Finding(**one) for one in json.loads(out)]
    assert found(findings, "key") == Finding(
        "key",
        "wrong",
        "none, so nothing is sent",
        "set TRUBRICS_API_KEY, or start trubrics-instrument collector and set TRUBRICS_HOST",
    )
    assert [one.check for one in findings if one.level == "wrong"] == ["key"]


def test_an_impossible_setting_is_a_finding(tmp_path: Path) -> None:
    """What `configure()` would refuse is told with its reason."""
    code, out, _ = doctor(home=tmp_path, TRUBRICS_SPOOL="sometimes")
    assert code == 1
    assert (
        "wrong configuration   TRUBRICS_SPOOL='sometimes' is unknown: "
        "use one of auto, always, strict, off -> correct it, or remove it\n"
    ) in out


def test_the_bounds_are_those_of_the_package() -> None:
    """What is called supported is what the package asks for."""
    text = Path("pyproject.toml").read_text()
    stated = dict(re.findall(r'"([a-z-]+)>=([\d.]+)"', text))
    assert OLDEST.items() <= stated.items()
    levels = {one.check: one.level for one in installed()}
    assert set(levels.values()) == {"ok"}


@pytest.mark.parametrize(
    ("status", "level", "remedy"),
    [
        (422, "ok", None),
        (401, "wrong", "it wants a key: set TRUBRICS_API_KEY"),
        (429, "wrong", "it has trouble of its own; events wait until it is better"),
        (503, "wrong", "it has trouble of its own; events wait until it is better"),
        (405, "wrong", "give the address before /publish_events as TRUBRICS_HOST"),
        (302, "wrong", "set TRUBRICS_HOST to https://app.trubrics.com/api/ingestion, or remove it"),
    ],
)
def test_what_a_host_answers(server: Loopback, status: int, level: str, remedy: str | None) -> None:
    """Each answer means something, and the remedy is that of its meaning."""
    server.always(json_reply({}, status, location="/elsewhere"))
    server.always(json_reply({}, 422), path="/elsewhere")
    host = found(of_host(server.url), "host")
    assert (host.level, host.remedy) == (level, remedy)


def test_a_key_that_a_host_refuses(server: Loopback) -> None:
    """It was given one, so another is wanted."""
    server.always(json_reply({}, 401))
    host = found(of_host(server.url, api_key="a-key"), "host")
    assert host.remedy == "the key is not one of this host's: set TRUBRICS_API_KEY"


def test_a_folder_that_cannot_be_written(server: Loopback) -> None:
    """Not by anybody, whatever the permissions say."""
    spool = found(of_host(server.url, spool="auto", spool_dir="/proc/nope"), "spool")
    assert (spool.level, spool.said) == ("wrong", "/proc/nope cannot be written")


def test_a_host_that_wants_one_event_a_request(server: Loopback) -> None:
    """It is as good as any other."""
    server.always(json_reply({}, 404))
    server.always(json_reply({}, 422), path="/publish_event")
    assert found(of_host(server.url), "host").level == "ok"


def test_what_waits_under_another_key(server: Loopback, tmp_path: Path) -> None:
    """It does not go by itself, once a wrong key is corrected."""
    server.always(json_reply({}, 422))
    other = connect(spool_path(str(tmp_path), server.url, "wrong"), server.url)
    other.execute("INSERT INTO event (id, key, body) VALUES (1, '', '{}')")
    other.close()
    findings = of_host(server.url, spool="auto", spool_dir=str(tmp_path))
    assert [(one.level, one.remedy) for one in findings if one.check == "spool"] == [
        ("ok", None),
        ("note", "if that key was wrong: trubrics-instrument spool send --any-key"),
    ]


def test_spools_that_cannot_be_read(server: Loopback, tmp_path: Path) -> None:
    """They are findings, and no traceback."""
    server.always(json_reply({}, 422))
    begun = spool_path(str(tmp_path), server.url, None)
    connect(begun, server.url).execute("DELETE FROM about").connection.close()
    aside = begun.with_name(f"{begun.name}.corrupt-1000-7")
    aside.touch()
    findings = of_host(server.url, spool="auto", spool_dir=str(tmp_path))
    assert [one[1:] for one in findings if one.check == "spool"] == [
        ("ok", f"empty, in {tmp_path}", None),
        ("note", f"{begun} cannot be read: it does not say for which host it is, yet", None),
        (
            "note",
            f"{aside} cannot be read: it was no database, and is set aside",
            "trubrics-instrument spool clear",
        ),
    ]


def test_a_folder_that_cannot_be_looked_into(server: Loopback, tmp_path: Path) -> None:
    """It is a finding, and no traceback."""
    server.always(json_reply({}, 422))
    folder = tmp_path / ("x" * 300)
    spool = found(of_host(server.url, spool="auto", spool_dir=str(folder)), "spool")
    assert (spool.level, spool.said) == ("wrong", f"{folder} cannot be read: File name too long")


def test_a_relative_folder(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked into like any other."""
    server.always(json_reply({}, 422))
    monkeypatch.chdir(tmp_path)
    own = connect(spool_path("here", server.url, None), server.url)
    own.execute("INSERT INTO event (id, key, body) VALUES (1, '', '{}')")
    own.close()
    spool = found(of_host(server.url, spool="auto", spool_dir="here"), "spool")
    assert (spool.level, spool.said) == ("note", "1 events wait in here")


def test_a_certificate_that_nobody_knows() -> None:
    """It is no collector that has to be started."""
    target = _config.Destination("https://127.0.0.1:8782", None)
    assert "REQUESTS_CA_BUNDLE" in str(_unreachable(target, requests.exceptions.SSLError()).remedy)


def test_a_page_that_answers_for_the_host(server: Loopback) -> None:
    """A login page says 200 too, and takes no event."""
    server.always(raw_reply(b"<html>Log in</html>", content_type="text/html"))
    host = found(of_host(server.url), "host")
    assert (host.level, host.said) == ("wrong", f"{server.url} answers 200 with a web page")
    assert str(host.remedy).startswith("log in to the network, or set TRUBRICS_HOST to https://")


def test_the_host_is_asked_over_the_session_that_is_configured(server: Loopback) -> None:
    """Certificates, proxies and headers of `configure(session=...)` hold for the doctor too."""
    server.always(json_reply({}, 422))
    with requests.Session() as session:
        session.headers["x-gateway"] = "open"
        assert found(of_host(server.url, session=session), "host").level == "ok"
    assert [request.headers.get("x-gateway") for request in server.requests] == ["open"]


def test_a_host_that_does_not_answer() -> None:
    """Nobody listens: on this machine, the collector is to be started."""
    host = found(of_host("http://127.0.0.1:9"), "host")
    assert host == Finding(
        "host",
        "wrong",
        "http://127.0.0.1:9 cannot be reached (ConnectionError)",
        "start trubrics-instrument collector",
    )


def test_events_that_wait(tmp_path: Path) -> None:
    """What an app could not deliver is counted on disk."""
    host = "http://127.0.0.1:9"
    options: dict[str, Any] = {"spool": "auto", "spool_dir": str(tmp_path), "flush_interval_s": 0.0}
    empty = found(of_host(host, **options), "spool")
    assert (empty.level, empty.said) == ("ok", f"empty, in {tmp_path}")
    trubrics_instrument.track("Sign in")
    trubrics_instrument.shutdown(timeout_s=0.5)
    waiting = found(of_host(host, **options), "spool")
    assert (waiting.level, waiting.said) == ("note", f"1 events wait in {tmp_path}")


def test_a_test_event_goes_all_the_way(sink: Sink) -> None:
    """`--send-test-event` delivers one event through the sender of the app."""
    assert send_test_event().level == "ok"
    (event,) = sink.wait_for(1)
    assert (event["event"], event["user_id"]) == ("Test event", "trubrics-doctor")


def keep_back(_: object) -> None:
    """Let no event through."""


def be_at_fault(_: object) -> None:
    """Raise something."""
    raise KeyError


@pytest.mark.parametrize(
    ("options", "level", "told", "sampling"),
    [
        ({"sample_rate": 0.05}, "ok", '"Test event" of user "trubrics-doctor" has arrived', "5%"),
        ({"sample_rate": 0}, "note", "not sent: the configured sample_rate keeps all back", "0%"),
        ({"before_send": keep_back}, "note", "not sent: your before_send keeps it back", None),
        ({"before_send": be_at_fault}, "wrong", "not sent: your before_send failed", None),
    ],
    ids=["few", "none", "not this one", "a fault"],
)
def test_what_the_app_keeps_back(
    options: dict[str, Any], level: str, told: str, sampling: str | None, sink: Sink
) -> None:
    """A test event goes past sampling, and the host is not blamed for what the app decides."""
    shares = [one.said for one in of_host(sink.host, **options) if one.check == "sampling"]
    assert shares == ([f"{sampling} of the conversations are sent"] if sampling else [])
    finding = send_test_event()
    assert (finding.level, finding.said) == (level, told)


def test_an_app_object_is_no_module(tmp_path: Path) -> None:
    """What a server is started with names an object in a module."""
    code, _, said = doctor("--import", "app:app", home=tmp_path)
    assert (code, said) == (2, "--import app:app: give the module alone, app\n")


def test_a_test_event_that_does_not_arrive(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of the failure is told."""
    monkeypatch.setattr(of_delivery, "_FLUSH_S", 0.5)
    sink.refuse("/publish_events", 401)
    told = send_test_event()
    assert told.level == "wrong"
    assert "401" in told.said


def test_who_else_is_there() -> None:
    """Our patch and somebody else's around the same method are both named."""

    def theirs(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    assert found(patched(app=True), "openai patch").level == "note"
    with trubrics_instrument.patch_openai():
        wrapt.wrap_function_wrapper("openai", "OpenAI.request", theirs)
        finding = found(patched(app=True), "openai patch")
    del openai.OpenAI.request  # it was inherited
    assert finding == Finding("openai patch", "ok", "on, beside tests")


@pytest.mark.skipif(find_spec("langsmith") is None, reason="LangChain is not installed")
def test_what_only_comes_with_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangSmith is in every environment that has LangChain; it sees calls where it is told to."""
    monkeypatch.delenv("LANGSMITH_TRACING", raising=False)
    assert "langsmith" not in others()
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    assert "langsmith" in others()


def test_an_app_that_ends_while_it_is_imported(tmp_path: Path) -> None:
    """A script that exits by itself leaves nothing to look at, and that is said."""
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    assert doctor("--import", "script", home=tmp_path, PYTHONPATH=str(tmp_path)) == (
        2,
        "",
        "--import script: SystemExit: 0\n",
    )


def test_an_app_is_looked_at_once_it_is_imported(tmp_path: Path) -> None:
    """`--import` says what the app's own set-up has patched."""
    (tmp_path / "chatbot.py").write_text(
        "import openai, trubrics_instrument\ntrubrics_instrument.patch_openai()\n"
    )
    _, out, _ = doctor("--import", "chatbot", home=tmp_path, PYTHONPATH=str(tmp_path))
    assert re.search(r"^ok    openai patch +on", out, re.MULTILINE)
    assert re.search(
        r"^note  langchain patch +off.* -> call patch_langchain\(\)", out, re.MULTILINE
    )
    assert doctor("--import", "no_such_app", home=tmp_path) == (
        2,
        "",
        "--import no_such_app: ModuleNotFoundError: No module named 'no_such_app'\n",
    )


def test_how_much_is_known(tmp_path: Path, server: Loopback) -> None:
    """The fill rates are those of what the collector has, each with its remedy."""
    db = tmp_path / "collector.sqlite3"
    assert [one.said for one in seen(db)] == ["nothing collected here yet"]
    with collector.running(db) as running:
        trubrics_instrument.configure(host=running.url)
        _ask_as(server, "ada")
        _ask_as(server, None)
        assert trubrics_instrument.flush()
    trubrics_instrument.shutdown()
    told = {one.check: (one.level, one.said) for one in seen(db)}
    assert told == {
        "collector": ("ok", f"4 prompts and answers looked at, the last in {db}"),
        "user known": ("ok", "50% of 4"),
        "thread known": ("note", "0% of 4"),
        "model known": ("ok", "100% of 4"),
        "tokens known": ("note", "0% of 2"),
    }


def _ask_as(server: Loopback, user: str | None) -> None:
    message = {"role": "assistant", "content": "At nine."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    answer = {"id": "a", "object": "chat.completion", "created": 0, "model": "m"}
    server.script(json_reply({**answer, "choices": [choice]}))
    with (
        trubrics_instrument.patch_openai(),
        trubrics_instrument.context(user_id=user),
        openai.OpenAI(api_key="k", base_url=server.base_url) as client,
    ):
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": f"I am {user}"}]
        )


def test_a_report_for_a_notebook(sink: Sink) -> None:
    """The same can be had as values, in the process of the app."""
    findings = report()
    assert found(findings, "host").level == "ok"
    assert not [one for one in findings if one.level == "wrong"]
