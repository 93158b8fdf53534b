"""The pages in a real browser: clicked through, read aloud, on a phone, under attack."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.collector.browsing import (
    HOSTILE,
    axe,
    chromium,
    expect,
    fill,
    picture,
    small_talk,
    watched,
)
from tests.collector.conftest import TIMEOUT_S, Collector, event
from trubrics_instrument import collector
from trubrics_instrument.collector.wording import NOTHING, path_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
PAGES = {
    "overview": "/",
    "conversations": "/threads?q=order",
    "conversation": "/threads/thread-0",
    "users": "/users",
    "user": "/users/ada@example.com",
    "live": "/live",
    "data": "/data",
    "delete": "/delete?user=ada@example.com",
}
LOOKS = {"light": ("light", 1280, 900), "dark": ("dark", 1280, 900), "phone": ("light", 390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one browser to every test."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def talked(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a collector that some people talked to; only for who has a browser."""
    path = tmp_path_factory.mktemp("talked") / "db"
    fill(path, small_talk())
    with collector.running(path) as server:
        yield server.url


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_whole(browser: Browser, talked: str, name: str, look: str) -> None:
    """Nothing is logged, nothing is loaded from elsewhere, nothing sticks out sideways."""
    scheme, width, height = LOOKS[look]
    with watched(browser, talked, scheme=scheme, width=width, height=height) as page:
        page.goto(PAGES[name])
        if name == "live":
            page.get_by_text("Connected").wait_for()
        picture(page, f"{name}-{look}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def axe_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install axe-core beside the project."""
    return axe(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_accessible(
    browser: Browser, talked: str, axe_source: str, name: str, look: str
) -> None:
    """axe-core finds nothing, with every detail folded out."""
    scheme, width, height = LOOKS[look]
    with watched(browser, talked, scheme=scheme, width=width, height=height) as page:
        page.goto(PAGES[name])
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.evaluate(axe_source)
        found = page.evaluate("axe.run().then(result => result.violations)")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_one_can_click_through(browser: Browser, talked: str) -> None:
    """From the overview down to one event and back, by what is on the pages."""
    with watched(browser, talked) as page:
        page.goto("/")
        for name in ("24 hours", "7 days", "90 days", "All"):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.locator(".choice [aria-current]")).to_have_text(name)
        page.get_by_text("By day, in figures").click()
        expect(page.get_by_role("rowheader").first).to_be_visible()
        page.get_by_role("link", name="gpt-4o-mini").first.click()
        expect(page.get_by_label("Model")).to_have_value("gpt-4o-mini")
        page.get_by_role("link", name="Older conversations").or_(
            page.get_by_role("link", name="Clear")
        ).first.click()
        page.locator(".threads a").first.click()
        expect(page.locator(".said.prompt").first).to_be_visible()
        page.locator(".facts a").click()
        expect(page.get_by_role("heading", name="@example.com")).to_be_visible()
        for name in ("Conversations", "Users", "Live", "Data", "Overview"):
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_one_can_search_by_keyboard(browser: Browser, talked: str) -> None:
    """The first stop skips to the content; the search is typed and sent with Enter."""
    with watched(browser, talked) as page:
        page.goto("/threads")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type("cancel password")
        page.keyboard.press("Enter")
        page.get_by_text("No conversation matches").wait_for()
        page.get_by_label("Search what was said").fill("horario")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("horario"))
        assert page.locator("mark").first.inner_text() == "horario"


def test_many_events_are_no_trouble(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """COLLECTOR_BROWSER_EVENTS=1000000 makes it a million."""
    path = tmp_path_factory.mktemp("many") / "db"
    fill(path)
    with collector.running(path) as server, watched(browser, server.url) as page:
        for address in ("/", "/?range=all", "/threads", "/threads?q=ban", "/users", "/live"):
            page.goto(address)
            assert page.get_by_role("heading", level=1).is_visible()
        page.goto("/threads?q=ban")
        page.get_by_role("link", name="Older conversations").click()
        page.locator(".threads a").first.click()
        expect(page.locator(".said").first).to_be_visible()


@pytest.fixture
def demo(browser: Browser) -> Iterator[str]:
    """Run the demo: patched chatbots, whose users' conversations are in its collector."""
    clean = {name: value for name, value in os.environ.items() if "TRUBRICS" not in name}
    with subprocess.Popen(
        [sys.executable, str(DEMO)], env=clean, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C ends" in line:
                break
        found = re.search(r"http://127\.0\.0\.1:\d+", "".join(said))
        assert found, said
        yield found[0]
        process.send_signal(signal.SIGINT)


def test_what_the_demo_sends_is_shown(browser: Browser, demo: str) -> None:
    """Real patched clients, the real sender, and each of their conversations opened."""
    with watched(browser, demo) as page:
        page.goto("/?range=24h")
        assert page.get_by_role("heading", name="By model").is_visible()
        page.goto("/threads")
        links = page.locator(".threads a").evaluate_all("all => all.map(one => one.href)")
        assert links
        for link in links:
            page.goto(link)
            assert page.locator(".said.prompt").first.is_visible()
        page.goto("/users")
        assert page.locator(".people a").count() > 1


def test_a_hostile_text_stays_a_text(browser: Browser, server: Collector) -> None:
    """No script runs, and no text leaves its place, wherever it is shown."""
    hostile = event(
        user_id=HOSTILE,
        event=HOSTILE,
        properties={"$text": HOSTILE, "$thread_id": HOSTILE, "$assistant_id": HOSTILE},
    )
    server.post("publish_event", hostile)
    with watched(browser, server.url) as page:
        page.goto(path_to(HOSTILE, "users"))
        assert page.title().startswith("</title><script>")
        for path in ("/?range=all", path_to(HOSTILE, "threads"), "/threads", "/users", "/data"):
            page.goto(path)
            assert page.title() != "owned"
        page.goto("/live")
        page.get_by_text("Connected").wait_for()
        server.post("publish_event", hostile | {"user_id": f"2 {HOSTILE}"})
        page.locator(".new .who").wait_for()
        assert page.locator(".new .who").inner_text().startswith("2 </title><script>")
        assert page.title() != "owned"


def test_the_live_page_goes_on_after_a_break(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What arrived while the connection was broken is shown when it stands again."""
    path = tmp_path_factory.mktemp("live") / "db"
    context = browser.new_context()
    page = context.new_page()
    with collector.running(path) as server:
        port = int(server.url.rpartition(":")[2])
        url = f"{server.url}/publish_event"
        page.goto(f"{server.url}/live")
        page.get_by_text("Connected").wait_for()
        requests.post(url, json=event(user_id="before"), timeout=TIMEOUT_S).raise_for_status()
        page.get_by_text("before").wait_for()
    page.get_by_text("Connection lost").wait_for()
    with collector.running(path, port=port):
        requests.post(url, json=event(user_id="between"), timeout=TIMEOUT_S).raise_for_status()
        page.get_by_text("between").wait_for()
        assert page.locator(".stream .who").all_inner_texts() == ["between", "before"]
    context.close()


def test_what_is_not_known_is_seen_as_nothing(browser: Browser, server: Collector) -> None:
    """No cost, no text; and feedback from another process stands beside its answer."""
    thread: dict[str, object] = {"$thread_id": "t", "$assistant_id": "gpt-4o"}
    asks = {**thread, "status": "incomplete", "finish_reason": "interrupt"}
    answer = {**thread, "$generation_id": "g", "$text": "From nine."}
    rated = {"$generation_id": "g", "$text": "Not on Sundays.", "score": 0}
    events = [("Generation", asks), ("Generation", answer), ("Feedback", rated)]
    server.post("publish_events", [event(event=name, properties=said) for name, said in events])
    with watched(browser, server.url) as page:
        page.goto("/?range=all")
        assert page.locator(".card-cost_usd").inner_text().split() == ["Cost", NOTHING]
        page.goto("/threads?only=feedback")
        page.locator(".threads a").click()
        expect(page.locator(".bubble")).to_have_count(3)
        assert [said.split("\n\n") for said in page.locator(".bubble").all_inner_texts()] == [
            ["Stopped to wait for a person"],
            ["From nine."],
            ["Feedback 0", "Not on Sundays."],
        ]
        page.goto("/users/ada")
        assert page.locator(".numbers dd").all_inner_texts() == ["1", "0", "0", NOTHING, "0"]
        assert page.get_by_text("Outside of conversations").count() == 0


def test_a_user_is_deleted_by_clicking(browser: Browser, server: Collector) -> None:
    """From the user's page, after a question that can be answered with no."""
    server.post("publish_events", [event(), event(user_id="bob")])
    with watched(browser, server.url) as page:
        page.goto("/users")
        page.get_by_role("link", name="bob").click()
        page.get_by_role("link", name="Delete everything about this user").click()
        page.get_by_role("link", name="Keep them").click()
        expect(page.get_by_role("heading", name="bob")).to_be_visible()
        page.get_by_role("link", name="Delete everything about this user").click()
        page.get_by_role("button", name="Delete 1 event").click()
        page.get_by_role("heading", name="Deleted").wait_for()
    assert server.select("SELECT user_id FROM events") == [("ada",)]
