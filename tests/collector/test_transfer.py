"""Out and in again, and on to Trubrics."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.collector.conftest import TIMEOUT_S, Collector, event, until
from tests.collector.test_command import COMMAND
from tests.loopback import Loopback
from tests.replies import json_reply, raw_reply
from trubrics_instrument import collector
from trubrics_instrument.collector.forward import (
    NotDeliveredError,
    Progress,
    Target,
    UnsureError,
    forward,
)
from trubrics_instrument.collector.rows import to_row
from trubrics_instrument.collector.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from trubrics_instrument._events import WireEvent


HANGS = -1


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def command(db: Path, *arguments: str, typed: str = "") -> Done:
    """Run `collector` with arguments, on a database."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "collector", "--db", str(db), *arguments],
        input=typed.encode(),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_jsonl_goes_out_and_comes_in_again(server: Collector, tmp_path: Path) -> None:
    """Every event is as it was sent, and taking it in twice adds nothing."""
    events = [
        event(user_id="=cmd()", properties={"$text": "a\nb\u2028c", "n": 1, "event_id": "x"}),
        event(properties={"$text": "", "$thread_id": "t", "deep": {"a": [None, True]}}),
        event(properties={"$text": "twice"}),
        event(properties={"$text": "twice"}),
    ]
    server.post("publish_events", events)
    exported = server.get("/export.jsonl")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="conversations.jsonl"'
    assert [json.loads(line) for line in exported.text.split("\n")[:-1]] == events
    file, copy = tmp_path / "events.jsonl", tmp_path / "copy"
    file.write_bytes(exported.content)
    assert command(copy, "import", str(file)) == (
        0,
        "4 events taken in, 0 were there already.\n",
        "",
    )
    assert command(copy, "import", str(file)).out == "0 events taken in, 4 were there already.\n"
    assert command(copy, "export").out == exported.text


def test_a_line_that_cannot_be_taken_is_named(tmp_path: Path) -> None:
    """The others are taken."""
    file = tmp_path / "events.jsonl"
    lines = [json.dumps(event()), "", "{", json.dumps({"user_id": "ada"}), json.dumps(event())]
    file.write_text("\n".join(lines))
    refusals = (
        "line 3: line: JSON decode error\n"
        "line 4: event: Field required; timestamp: Field required\n"
        "2 lines not taken.\n"
    )
    assert command(tmp_path / "db", "import", str(file)) == (
        1,
        "2 events taken in, 0 were there already.\n",
        refusals,
    )
    missing = tmp_path / "none"
    assert command(tmp_path / "db", "import", str(missing)) == (
        2,
        "",
        f"Cannot open {missing}: No such file or directory\n",
    )


def test_csv_is_no_trap_for_a_spreadsheet(server: Collector) -> None:
    """What a spreadsheet would take for a formula becomes text."""
    told = {"$text": '@SUM(A1)\n,"', "$prompt_id": "=1+2", "$generation_id": "-1", "n": -1}
    server.post("publish_event", event(user_id="=1+1", properties=told))
    header, row = csv.reader(io.StringIO(server.get("/export.csv").text, newline=""))
    values = dict(zip(header, row, strict=True))
    assert (values["user_id"], values["text"]) == ("'=1+1", "'@SUM(A1)\n,\"")
    assert (values["prompt_id"], values["generation_id"]) == ("'=1+2", "'-1")


def test_an_export_can_be_one_users(server: Collector) -> None:
    """The right to take one's data along; or from one day on."""
    later = event(user_id="bob", timestamp="2024-10-10T00:00:00.000Z")
    server.post("publish_events", [event(), event(user_id="bob"), later])

    def exported(*arguments: str) -> list[object]:
        out = command(server.db, "export", *arguments).out
        return [json.loads(line) for line in out.splitlines()]

    page = server.get("/export.jsonl?user=bob").text
    assert [json.loads(line) for line in page.splitlines()] == [event(user_id="bob"), later]
    assert exported("--user", "bob") == [event(user_id="bob"), later]
    assert exported("--since", "2024-10-10") == [later]
    assert exported("--user", "ada", "--since", "2024-10-10") == []
    refused = command(server.db, "export", "--since", "banana")
    assert (refused.out, refused.err) == ("", "--since banana: write a day, such as 2026-11-22\n")


def test_nothing_goes_to_what_is_no_address(server: Collector) -> None:
    """A host that cannot be one is said at once, and nothing is sent."""
    to = ("forward", "--to-trubrics", "--to-host", "nonsense", "--api-key", "key")
    done = command(server.db, *to)
    known = "https://app.trubrics.com/api/ingestion"
    assert (done.code, done.err) == (2, f"--to-host nonsense: write a URL, such as {known}\n")


def test_a_user_is_deleted_by_command(server: Collector) -> None:
    """After a question, unless it is told not to ask."""
    server.post("publish_events", [event(), event(user_id="bob")])
    asked = "Delete 1 event of bob? This cannot be undone. Type yes:\n"
    assert command(server.db, "delete-user", "bob", typed="no\n") == (
        1,
        asked,
        "Nothing was deleted.\n",
    )
    assert command(server.db, "delete-user", "bob", typed="yes\n").out == (
        f"{asked}1 event deleted.\n"
    )
    assert command(server.db, "delete-user", "bob", "--yes").err == "There is no event of bob.\n"
    assert server.select("SELECT user_id FROM events") == [("ada",)]


class Answers:
    """An ingestion endpoint that answers as told, and keeps what it was sent."""

    def __init__(self, statuses: Sequence[int]) -> None:
        self.statuses = list(statuses)
        self.taken: list[WireEvent] = []
        self.keys: set[str | None] = set()


@contextmanager
def answering(statuses: Sequence[int]) -> Generator[tuple[str, Answers], None, None]:
    """Answer with these statuses in turn (0 breaks the connection), then with 200."""
    answers = Answers(statuses)
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answers.keys.add(self.headers["x-api-key"])
            status = answers.statuses.pop(0) if answers.statuses else 200
            if status == HANGS:
                ending.wait(TIMEOUT_S)
                return
            if status in {0, 200}:
                answers.taken += json.loads(body)
            if status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.send_header("Retry-After", "7")
                self.end_headers()
            self.close_connection = status == 0

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", answers
        finally:
            ending.set()
            server.shutdown()
            thread.join()


def _filled(path: Path, count: int) -> Store:
    store = Store(path)
    at = "2026-01-01T00:00:00.000Z"
    store.add([to_row("ada", "Prompt", at, {"number": n}) for n in range(count)]).result()
    return store


def _numbers(answers: Answers) -> list[object]:
    return [sent["properties"]["number"] for sent in answers.taken]


def test_forwarding_goes_on_where_it_was(tmp_path: Path) -> None:
    """Everything once, in order, with progress; a second run sends only what is new."""
    with answering([]) as (host, answers), closing(_filled(tmp_path / "db", 250)) as store:
        told: list[Progress] = []
        target = Target(host, "key")
        done = forward(store, target, report=told.append)
        assert told == [Progress(100, 0, 250), Progress(200, 0, 250), Progress(250, 0, 250)]
        assert done == told[-1]
        assert forward(store, target) == Progress(0, 0, 0)
        store.add([to_row("ada", "Prompt", "2026-01-01T00:00:00.000Z", {"number": 250})]).result()
        assert forward(store, target) == Progress(1, 0, 1)
        assert _numbers(answers) == list(range(251))
        assert answers.keys == {"key"}
        assert forward(store, Target(host, "another project's")).sent == 251


def test_forwarding_waits_when_told_to(tmp_path: Path) -> None:
    """429 and 503 mean not yet, for as long as they say."""
    with answering([429, 503]) as (host, answers), closing(_filled(tmp_path / "db", 3)) as store:
        slept: list[float] = []
        assert forward(store, Target(host, "key"), sleep=slept.append) == Progress(3, 0, 3)
        assert (slept, _numbers(answers)) == ([7.0, 7.0], [0, 1, 2])


def test_a_refused_event_is_left_out(tmp_path: Path) -> None:
    """The others of its array are taken."""
    with (
        answering([422, 200, 422]) as (host, answers),
        closing(_filled(tmp_path / "db", 3)) as store,
    ):
        assert forward(store, Target(host, "key")) == Progress(2, 1, 3)
        assert _numbers(answers) == [0, 2]
        assert forward(store, Target(host, "key")) == Progress(0, 0, 0)


@pytest.mark.parametrize(("status", "words"), [(401, "does not accept the key"), (404, "is this")])
def test_forwarding_stops_where_the_set_up_is_wrong(
    tmp_path: Path, status: int, words: str
) -> None:
    """Nothing is lost: the next run, with a set-up that is right, sends everything."""
    with answering([status]) as (host, answers), closing(_filled(tmp_path / "db", 3)) as store:
        with pytest.raises(NotDeliveredError, match=words):
            forward(store, Target(host, "key"))
        assert forward(store, Target(host, "key")).sent == 3
        assert _numbers(answers) == [0, 1, 2]


@pytest.mark.parametrize("broken", [0, 500])
@pytest.mark.parametrize(("unsure", "sent"), [("send", 3), ("skip", 0)])
def test_events_whose_fate_is_unknown_are_not_sent_again_unasked(
    tmp_path: Path, broken: int, unsure: str, sent: int
) -> None:
    """They may have been taken: a person decides."""
    with answering([broken]) as (host, _), closing(_filled(tmp_path / "db", 3)) as store:
        target = Target(host, "key")
        with pytest.raises(NotDeliveredError):
            forward(store, target)
        with pytest.raises(UnsureError, match="events 1 to 3 were on their way"):
            forward(store, target)
        assert forward(store, target, unsure=unsure).sent == sent
        assert forward(store, target) == Progress(0, 0, 0)


def test_a_web_page_takes_no_event(tmp_path: Path) -> None:
    """A login page that answers 200 for Trubrics is no delivery: the next run sends everything."""
    with closing(_filled(tmp_path / "db", 3)) as store, Loopback() as server:
        server.script(raw_reply(b"<html>Log in</html>", content_type="text/html"))
        server.always(json_reply({"stored": 3}))
        target = Target(server.url, "key")
        with pytest.raises(NotDeliveredError, match="answered 200 with a web page"):
            forward(store, target)
        assert forward(store, target) == Progress(3, 0, 3)


def test_forwarding_to_this_machine_takes_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment's could not reach it, and would see the prompts."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with answering([]) as (host, answers), Loopback() as proxy:
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        with closing(_filled(tmp_path / "db", 3)) as store:
            assert forward(store, Target(host, "key")).sent == 3
        assert (_numbers(answers), proxy.requests) == ([0, 1, 2], [])


def test_forwarding_shows_no_login_of_this_machine_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of ~/.netrc are other programs'."""
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Loopback() as host, closing(_filled(tmp_path / "db", 3)) as store:
        host.always(json_reply({}))
        assert forward(store, Target(host.url, "key")).sent == 3
        (request,) = host.requests
    assert (request.headers["x-api-key"], request.headers.get("authorization")) == ("key", None)


def test_forwarding_that_is_killed_sends_nothing_twice(tmp_path: Path) -> None:
    """What was on its way is named, and goes again only when told to; the rest follows."""
    _filled(tmp_path / "db", 250).close()
    with answering([200, HANGS]) as (host, answers):
        to = ("forward", "--to-trubrics", "--to-host", host, "--api-key", "key")
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND, "collector", "--db", str(tmp_path / "db"), *to],
            stdout=subprocess.DEVNULL,
        ) as process:
            until(lambda: answers.statuses == [])
            process.kill()
        refusal = (
            "An earlier run was cut off while events 101 to 200 were on their way. Trubrics may "
            "have them or not: --unsure send delivers them again, --unsure skip leaves them out.\n"
        )
        assert command(tmp_path / "db", *to) == (1, "", refusal)
        assert _numbers(answers) == list(range(100))
        assert command(tmp_path / "db", *to, "--unsure", "send").code == 0
        assert _numbers(answers) == list(range(250))


def test_a_host_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    """A refused connection is certain: the next run sends everything, unasked."""
    with answering([]) as (host, _):
        pass
    with closing(_filled(tmp_path / "db", 3)) as store:
        for _ in range(2):
            with pytest.raises(NotDeliveredError, match="cannot be reached"):
                forward(store, Target(host, "key"))


WHAT_READS = [
    ("export",),
    ("forward", "--to-trubrics", "--api-key", "key"),
    ("delete-user", "ada"),
]


@pytest.mark.parametrize("what", WHAT_READS)
def test_a_mistyped_database(what: tuple[str, ...], tmp_path: Path) -> None:
    """It is said to be none, and is not made."""
    done = command(tmp_path / "typo", *what)
    assert (done.out, done.err) == ("", f"Cannot open {tmp_path}/typo: there is no database\n")
    assert done.code
    assert not (tmp_path / "typo").exists()


def test_forwarding_by_command(tmp_path: Path) -> None:
    """From one collector to another, which has everything then."""
    _filled(tmp_path / "db", 150).close()
    assert command(tmp_path / "db", "forward", "--to-trubrics").err == (
        "A key is needed: set TRUBRICS_API_KEY to the one from the project's settings.\n"
    )
    with collector.running(tmp_path / "other", api_key="key") as other:
        to = ("forward", "--to-trubrics", "--to-host", other.url, "--api-key")
        assert command(tmp_path / "db", *to, "wrong").code == 1
        assert command(tmp_path / "db", *to, "key") == (
            0,
            f"150 events delivered to {other.url}, 0 refused.\n",
            "",
        )
