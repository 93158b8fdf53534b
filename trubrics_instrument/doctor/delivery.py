"""Where events go: the key, the host, the spool; and a test event all the way."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from trubrics_instrument import _config, _privacy, _public, _runtime
from trubrics_instrument._base.folders import is_there
from trubrics_instrument._base.hosts import TRUBRICS_HOST, is_loopback, is_page, proxies_to
from trubrics_instrument._delivery.leftovers import leftovers, own_path
from trubrics_instrument._delivery.spool_file import directory
from trubrics_instrument._delivery.transport import own_session
from trubrics_instrument.doctor.finding import Finding, note, ok, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trubrics_instrument._config import Config, Destination
    from trubrics_instrument._delivery.leftovers import Leftover

_TIMEOUT_S = 5.0
_FLUSH_S = 15.0
_MOST_NAMES = 10_000
_OK, _BUSY, _SERVER_ERROR = 200, 429, 500
_UNAUTHORIZED = (401, 403)
_WANTS_EVENTS = (400, 422)  # what an empty body deserves
_NO_SUCH_ENDPOINT = (404, 405)
_RIGHT_HOST = f"set TRUBRICS_HOST to {TRUBRICS_HOST}, or remove it"
TEST_EVENT = "Test event"
TEST_USER = "trubrics-doctor"


def delivery(config: Config) -> Iterator[Finding]:
    """Yield what is configured, and whether the host answers."""
    if not config.enabled:
        yield _why_off()
        return
    target = config.destination(api_key=None, host=None)
    yield _key(config)
    if config.sample_rate < 1:
        yield note("sampling", f"{config.sample_rate:.0%} of the conversations are sent")
    if target is not None:
        yield _host(target, config.session)
        yield from _spools(config, target)


def send_test_event() -> Finding:
    """Send one event as the app's would go, and wait until it has arrived."""
    thread_id = _sampled_thread(_runtime.config().sample_rate)
    if thread_id is None:
        return note("test event", "not sent: the configured sample_rate keeps all back")
    before = _public.stats()
    about = {"$text": "A test of the delivery", "$thread_id": thread_id}
    if not _public.track(TEST_EVENT, about, user_id=TEST_USER):
        return wrong("test event", "not accepted", "see the lines on key, host and enabled")
    _public.flush(_FLUSH_S)
    stats = _public.stats()
    if stats.delivered > before.delivered:
        return ok("test event", f'"{TEST_EVENT}" of user "{TEST_USER}" has arrived')
    dropped = Counter(stats.dropped) - Counter(before.dropped)
    if "before_send" in dropped:
        return note("test event", "not sent: your before_send keeps it back")
    if "prepare_failed" in dropped:
        return wrong("test event", "not sent: your before_send failed", "mend it: see the log")
    why = stats.last_error or ", ".join(dropped) or f"no answer within {_FLUSH_S:.0f} s"
    return wrong("test event", f"not delivered: {why}", "see the line on the host")


def _sampled_thread(rate: float) -> str | None:
    """Return a conversation that sampling lets through, if there is one."""
    names = (f"{TEST_USER}-{number}" for number in range(_MOST_NAMES))
    return next((name for name in names if _privacy.sampled(name, rate)), None)


def _why_off() -> Finding:
    """Say who has switched observation off, or what."""
    try:
        off = not _config.build(os.environ, {}).enabled
    except ValueError as error:
        return wrong("enabled", f"no, because {error}", "correct it, or remove it")
    remedy = "remove TRUBRICS_ENABLED" if off else "look for configure(enabled=False) in the app"
    return note("enabled", "no: nothing is observed", remedy)


def _key(config: Config) -> Finding:
    local = config.host is not None and is_loopback(config.host)
    if config.api_key:
        return ok("key", "set (it is not shown)")
    if local:
        return ok("key", "none, and a host on this machine mostly needs none")
    if config.host:
        return wrong("key", "none, and a host on another machine needs one", "set TRUBRICS_API_KEY")
    return wrong(
        "key",
        "none, so nothing is sent",
        "set TRUBRICS_API_KEY, or start trubrics-instrument collector and set TRUBRICS_HOST",
    )


def _host(target: Destination, session: requests.Session | None) -> Finding:
    """Ask as the sender does, with nothing, which changes nothing, whatever the answer."""
    try:
        with closing(own_session(session)) as own:
            answer = _answer(own, target, "publish_events", [])
            if answer.status_code in _NO_SUCH_ENDPOINT:  # it may want one event a request
                answer = _answer(own, target, "publish_event", {})
    except requests.RequestException as error:
        return _unreachable(target, error)
    if answer.ok and is_page(answer.headers.get("Content-Type", ""), answer.content):
        said = f"{target.host} answers {answer.status_code} with a web page"
        return wrong("host", said, f"log in to the network, or {_RIGHT_HOST}")
    return _answered(target, answer.status_code)


def _answer(
    session: requests.Session, target: Destination, endpoint: str, nothing: object
) -> requests.Response:
    return session.post(
        f"{target.host}/{endpoint}",
        json=nothing,
        headers={"x-api-key": target.api_key} if target.api_key else {},
        timeout=_TIMEOUT_S,
        allow_redirects=False,
        proxies=proxies_to(target.host),
    )


def _unreachable(target: Destination, error: requests.RequestException) -> Finding:
    remedy = "check the network and the proxy; events wait on disk until it answers"
    if is_loopback(target.host) and not isinstance(error, requests.exceptions.SSLError):
        remedy = "start trubrics-instrument collector"
    elif isinstance(error, requests.exceptions.SSLError):
        remedy = "is it https, and with a known certificate? See REQUESTS_CA_BUNDLE"
    return wrong("host", f"{target.host} cannot be reached ({type(error).__name__})", remedy)


def _answered(target: Destination, status: int) -> Finding:
    said = f"{target.host} answers {status}"
    if status in _UNAUTHORIZED:
        why = "the key is not one of this host's" if target.api_key else "it wants a key"
        return wrong("host", said, f"{why}: set TRUBRICS_API_KEY")
    if status == _BUSY or status >= _SERVER_ERROR:
        return wrong("host", said, "it has trouble of its own; events wait until it is better")
    if status in _NO_SUCH_ENDPOINT:
        return wrong("host", said, "give the address before /publish_events as TRUBRICS_HOST")
    if not (status in _WANTS_EVENTS or _OK <= status < _OK + 100):
        return wrong("host", said, _RIGHT_HOST)
    plain = urlsplit(target.host).scheme == "http" and not is_loopback(target.host)
    if plain and target.api_key:
        return note("host", f"{target.host} is reached without encryption", "use https")
    return ok("host", f"{target.host} takes events")


def _spools(config: Config, target: Destination) -> Iterator[Finding]:
    """Yield what waits on disk for this host; under another key it does not go by itself."""
    folder = directory(config.spool_dir)
    if config.spool == "off":
        yield note("spool", "off: what cannot be delivered by the end of the process is lost")
        return
    if not _is_writable(folder):
        yield wrong("spool", f"{folder} cannot be written", "set TRUBRICS_SPOOL_DIR")
        return
    try:
        found = leftovers(config.spool_dir)
    except OSError as error:
        yield wrong("spool", f"{folder} cannot be read: {error.strerror}", "set TRUBRICS_SPOOL_DIR")
        return
    own, others = _waiting(found.spools, own_path(config.spool_dir, *target), target.host)
    if own:
        remedy = "they go when an app runs and the host answers"
        yield note("spool", f"{own} events wait in {folder}", remedy)
    else:
        yield ok("spool", f"empty, in {folder}")
    if others:
        said = f"{others} events wait that were tracked with another key"
        remedy = "if that key was wrong: trubrics-instrument spool send --any-key"
        yield note("spool", said, remedy)
    for file in found.unread:
        said = f"{file.path} cannot be read: {file.why}"
        yield note("spool", said, "trubrics-instrument spool clear" if file.is_damaged else None)


def _waiting(spools: list[Leftover], path: Path, host: str) -> tuple[int, int]:
    """Return how many events wait for a host in its own file, and how many in any other."""
    found = [one for one in spools if one.host == host]
    own = sum(one.events for one in found if one.path == path)
    return own, sum(one.events for one in found) - own


def _is_writable(folder: Path) -> bool:
    """Whether it can be written, or made."""
    existing = next(path for path in (folder, *folder.parents) if is_there(path))
    # To ask for the permission alone says yes to root, of whatever file system.
    with suppress(OSError), tempfile.TemporaryFile(dir=existing):
        return True
    return False
