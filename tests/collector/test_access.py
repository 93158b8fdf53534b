"""Who is let in: other machines, other sites, and an app that mounts the collector."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.collector.conftest import TIMEOUT_S, Collector, event, until
from tests.collector.test_command import fails, start
from trubrics_instrument import collector
from trubrics_instrument.collector.login import COOKIE
from trubrics_instrument.collector.serving import running
from trubrics_instrument.collector.wording import path_to

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

PASSWORD = "pass+wörd &"
PATHS = ("/", "/threads", "/users", "/live", "/live/events", "/data", "/export.jsonl", "/delete")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """Run a collector that other machines can reach."""
    with running(tmp_path / "db", host="0.0.0.0", api_key="key", password=PASSWORD) as server:
        yield server.url.replace("0.0.0.0", "127.0.0.1")


@pytest.mark.parametrize("path", PATHS)
def test_no_page_is_shown_without_a_login(guarded: str, path: str) -> None:
    """Whatever is asked for, the answer is the way to the login."""
    for cookies in ({}, {"trubrics_collector": "99999999999.0"}, {"trubrics_collector": "x"}):
        answer = requests.get(
            guarded + path, cookies=cookies, allow_redirects=False, timeout=TIMEOUT_S
        )
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")


@pytest.mark.parametrize("kind", ["threads", "users"])
def test_a_page_is_no_endpoint_by_its_name(guarded: str, kind: str) -> None:
    """A conversation or a user may be called as an endpoint is; that opens nothing."""
    named = event(user_id="a/publish_event", properties={"$thread_id": "a/publish_event"})
    headers = {"x-api-key": "key"}
    url = f"{guarded}/api/ingestion/publish_event"
    assert requests.post(url, json=named, headers=headers, timeout=TIMEOUT_S).status_code == 200
    answer = requests.get(
        f"{guarded}/{kind}/a/publish_event", allow_redirects=False, timeout=TIMEOUT_S
    )
    assert (answer.status_code, answer.headers.get("Location")) == (303, "/login")


def test_senders_have_their_key_instead(guarded: str) -> None:
    """The key lets events in, and nobody see them."""
    url = f"{guarded}/publish_event"
    assert requests.post(url, json=event(), timeout=TIMEOUT_S).status_code == 401
    headers = {"x-api-key": "key"}
    assert requests.post(url, json=event(), headers=headers, timeout=TIMEOUT_S).status_code == 200
    assert "Log in" in requests.get(guarded, headers=headers, timeout=TIMEOUT_S).text


def test_the_password_opens_the_pages(guarded: str) -> None:
    """By a cookie that no script and no other site can use."""
    with requests.Session() as session:
        form = {"password": PASSWORD}
        answer = session.post(f"{guarded}/login", form, allow_redirects=False, timeout=TIMEOUT_S)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        for path in PATHS[:4]:
            answer = session.get(guarded + path, allow_redirects=False, timeout=TIMEOUT_S)
            assert answer.status_code == 200


def test_guessing_is_slowed_down(guarded: str) -> None:
    """After ten wrong passwords in a minute not even the right one is looked at."""
    answers = [
        requests.post(f"{guarded}/login", {"password": "x"}, timeout=TIMEOUT_S).status_code
        for _ in range(11)
    ]
    assert answers == [401] * 10 + [429]
    right = requests.post(f"{guarded}/login", {"password": PASSWORD}, timeout=TIMEOUT_S)
    assert right.status_code == 429


def test_a_login_comes_from_the_login_page(guarded: str) -> None:
    """Another site cannot log anybody in."""
    headers = {"Origin": "https://evil.example"}
    answer = requests.post(
        f"{guarded}/login", {"password": PASSWORD}, headers=headers, timeout=TIMEOUT_S
    )
    assert answer.status_code == 403


def test_other_machines_need_a_key_and_a_password(tmp_path: Path) -> None:
    """The command demands the first and makes the second up, and shows it once."""
    everywhere = ("--host", "0.0.0.0", "--port", "0", "--db", str(tmp_path / "db"))
    assert fails(*everywhere) == (
        "--host 0.0.0.0 can be reached from other machines: "
        "choose a key for senders with --api-key\n"
    )
    with start(*everywhere, "--api-key", "key") as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
    assert lines[2].startswith("Password:           ")
    assert lines[2].endswith(" (new at each start)\n")
    with (
        pytest.raises(ValueError, match="can be reached from other machines"),
        running(tmp_path / "db", host="0.0.0.0", api_key="key"),
    ):
        pass


@pytest.mark.parametrize(
    ("origin", "key", "status"),
    [
        ("http://localhost:3000", None, 200),
        ("http://127.0.0.1:5173", None, 200),
        ("https://evil.example", None, 403),
        ("http://localhost.evil.example", None, 403),
        ("null", None, 403),
        ("https://app.example", "key", 200),
    ],
)
def test_pages_of_this_machine_may_send(
    tmp_path: Path, origin: str, key: str | None, status: int
) -> None:
    """The JavaScript SDK works from an app under development; another site cannot fill the file."""
    with collector.running(tmp_path / "db", api_key=key) as server:
        url = f"{server.url}/publish_events"
        headers = {"Origin": origin, "x-api-key": key or "any"}
        for answer in (
            requests.options(url, headers=headers, timeout=TIMEOUT_S),
            requests.post(url, json=[event()], headers=headers, timeout=TIMEOUT_S),
        ):
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert (answer.status_code, allowed) == (status, origin if status == 200 else None)
        page = requests.get(server.url, headers=headers, timeout=TIMEOUT_S)
        assert "Access-Control-Allow-Origin" not in page.headers


@pytest.mark.parametrize(
    ("site", "key", "statuses"),
    [
        ("cross-site", None, (403, 403)),
        ("same-site", None, (200, 403)),
        ("same-origin", None, (200, 200)),
        ("none", None, (200, 200)),
        ("cross-site", "key", (200, 403)),
    ],
)
def test_a_browser_that_names_no_origin(
    tmp_path: Path, site: str, key: str | None, statuses: tuple[int, int]
) -> None:
    """It says from what kind of site it comes."""
    headers = {"Sec-Fetch-Site": site, "x-api-key": "key"}
    with collector.running(tmp_path / "db", api_key=key) as server:
        sent, deleted = (
            requests.post(server.url + path, json=event(), headers=headers, timeout=TIMEOUT_S)
            for path in ("/publish_event", "/delete?user=bob")
        )
    assert (sent.status_code, deleted.status_code) == statuses


@pytest.mark.parametrize("origin", ["http://[", "", "null", "://"])
def test_an_origin_that_is_none(server: Collector, origin: str) -> None:
    """It is refused like any other."""
    for path in ("/publish_event", "/delete?user=bob"):
        answer = requests.post(
            server.url + path, json=event(), headers={"Origin": origin}, timeout=TIMEOUT_S
        )
        assert answer.status_code == 403


def test_a_client_that_hangs_up_is_nobody_s_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said of it."""
    request = (
        b"POST /publish_event HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    with collector.running(tmp_path / "db") as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
            client.sendall(request)
            assert client.recv(100).startswith(b"HTTP/1.1 100")  # the body is waited for
        assert requests.get(server.url, timeout=TIMEOUT_S).ok  # it was seen to be gone
    assert capsys.readouterr().err == ""


@contextmanager
def mounted(inner: Starlette) -> Generator[str, None, None]:
    """Serve an app of somebody's, which has the collector under a path."""
    app = Starlette(routes=[Mount("/insights", inner)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/insights"
    finally:
        server.should_exit = True
        thread.join()


def test_it_can_be_mounted_in_an_app(tmp_path: Path) -> None:
    """Every link, the style and the endpoints are where the app put them."""
    with mounted(collector.create_app(db=tmp_path / "db")) as url:
        inside = Collector(url, tmp_path / "db", {})
        assert inside.post("publish_event", event()).status_code == 200
        assert inside.post("api/ingestion/publish_events", [event()]).status_code == 200
        for path in ("/", "/threads", "/users", "/live", "/data", "/threads/t-1", "/users/ada"):
            page = inside.get(path).text
            links = [part.split('"')[0] for part in page.split('="/')[1:]]
            assert links
            assert [link for link in links if not link.startswith("insights/")] == []
        assert inside.get("/static/collector.css").status_code == 200


def test_a_mounted_one_can_have_a_login_and_a_host_of_its_own(tmp_path: Path) -> None:
    """The login, its cookie and the way back stay below the path; other hosts get nothing."""
    inner = collector.create_app(tmp_path / "db", password=PASSWORD, hosts={"example.com"})
    host = {"Host": "example.com"}
    with mounted(inner) as url, requests.Session() as session:

        def ask(method: str, path: str, **more: Any) -> tuple[int, str | None]:
            answer = session.request(
                method, url + path, timeout=TIMEOUT_S, allow_redirects=False, **more
            )
            return answer.status_code, answer.headers.get("Location")

        assert ask("GET", "/threads") == (421, None)
        assert ask("GET", "/threads", headers=host) == (303, "/insights/login")
        assert ask("POST", "/publish_event", headers=host, json=event()) == (200, None)
        form = {"password": PASSWORD}
        assert ask("POST", "/login", headers=host, data=form) == (303, "/insights/")
        assert [cookie.path for cookie in session.cookies] == ["/insights/"]
        cookie = {"Cookie": f"{COOKIE}={session.cookies[COOKIE]}"}
        assert ask("GET", "/threads", headers={**host, **cookie}) == (200, None)


@pytest.mark.parametrize("path", ["../store.py", "..%2fstore.py", "%2e%2e/store.py", "/etc/hosts"])
def test_only_what_is_static_is_served(server: Collector, path: str) -> None:
    """No path leads out of the folder."""
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=TIMEOUT_S)
    connection.request("GET", f"/static/{path}")
    assert connection.getresponse().status == 404
    connection.close()


def test_events_are_shown_live(server: Collector) -> None:
    """A stream goes on where the browser was when its connection broke."""
    server.post("publish_events", [event(user_id="<b>"), event(user_id="bob")])
    headers = {"Last-Event-ID": "1"}
    url = f"{server.url}/live/events?after=0"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as stream:
        lines = (line.decode() for line in stream.iter_lines(chunk_size=1) if line)
        assert next(lines) == "retry: 1000"
        assert next(lines) == "id: 2"
        shown = json.loads(next(lines).removeprefix("data: "))
        assert shown == {
            "kind": "prompt",
            "event": "Prompt",
            "user": "bob",
            "text": "Hello?",
            "time": "13:21:46",
            "href": path_to("t-1", "threads"),
        }
        server.post("publish_event", event(user_id="eve"))
        assert next(lines) == "id: 3"
