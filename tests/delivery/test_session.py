"""What a host is shown: the key, and what the app's own session has; nothing of this machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.loopback import Loopback
from tests.replies import json_reply
from trubrics_instrument._delivery import SenderOptions
from trubrics_instrument._delivery.transport import Transport

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Request


@pytest.fixture(autouse=True)
def _logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this machine know a login for every host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))


@pytest.fixture
def server() -> Loopback:
    """Give a host that takes events and wants a cookie back."""
    server = Loopback()
    server.always(json_reply({}, 200, **{"Set-Cookie": "theirs=1; Path=/"}))
    return server


def _asked(server: Loopback, session: requests.Session | None, host: str = "") -> Request:
    transport = Transport(SenderOptions(host or server.url, "secret-key", session=session))
    for _ in range(2):
        assert transport.post([b"{}"], "publish_events", (1.0, 1.0)).status == 200
    transport.close()
    return server.requests[-1]


@pytest.mark.parametrize("own", [True, False])
def test_the_logins_of_this_machine_stay_here(server: Loopback, own: bool) -> None:
    """Those of ~/.netrc are other programs'; the key goes."""
    with server:
        headers = _asked(server, requests.Session() if own else None).headers
    assert "authorization" not in headers
    assert headers["x-api-key"] == "secret-key"


@pytest.mark.parametrize(
    ("session", "sent"),
    [
        ({"headers": {"Authorization": "Bearer app"}}, "Bearer app"),
        ({"auth": ("app", "word")}, "Basic YXBwOndvcmQ="),
    ],
)
def test_the_session_s_own_login_is_sent(
    server: Loopback, session: dict[str, object], sent: str
) -> None:
    """In whichever way the app has given it."""
    app = requests.Session()
    for name, value in session.items():
        setattr(app, name, value)
    with server:
        assert _asked(server, app).headers["authorization"] == sent


def test_the_host_s_cookies_are_none_of_the_app_s(server: Loopback) -> None:
    """The app's are sent, and stay as they are."""
    app: Any = requests.Session()
    app.cookies.set("app", "1")
    with server:
        headers = _asked(server, app).headers
    assert set(headers["cookie"].split("; ")) == {"app=1", "theirs=1"}
    assert app.cookies.get_dict() == {"app": "1"}


def test_a_proxy_of_the_environment_s_is_used(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its login, which is for the proxy."""
    with server:
        proxy = server.url.replace("//", "//user:word@")
        monkeypatch.setenv("http_proxy", proxy)
        headers = _asked(server, None, "http://ingestion.invalid").headers
    assert headers["host"] == "ingestion.invalid"
    assert headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
    assert "authorization" not in headers
