"""A real browser, and conversations to look at with it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from benchmarks.collector import events
from trubrics_instrument.collector.fields import to_timestamp
from trubrics_instrument.collector.rows import Row, to_row
from trubrics_instrument.collector.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from playwright.sync_api import Browser, Locator, Page

EVENTS = int(os.environ.get("COLLECTOR_BROWSER_EVENTS", "20000"))
PICTURES = os.environ.get("COLLECTOR_SCREENSHOTS")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AXE = "axe-core@4.10.3"
_HIDE_FILE = """document.querySelectorAll(".file").forEach(
    place => { place.textContent = "~/.local/share/trubrics-instrument/collector.sqlite3" })"""
INSTALL_TIMEOUT_S = 100
HOSTILE = "</title><script>document.title='owned'</script><img src=x onerror=alert(1)>\u202e"

_TALKS = (
    (
        (
            "Where is my order #4821?",
            (
                "It left the warehouse yesterday and should be with you on "
                "Thursday. The link in your confirmation e-mail shows where it is."
            ),
        ),
        (
            "Can it go to my office instead?",
            "Yes. I have changed the address to your office; the driver will ring the front desk.",
        ),
    ),
    (
        (
            "How do I reset my password?",
            (
                "1. Open Settings → Security\n2. Choose “Reset password”\n"
                "3. Follow the link in the e-mail; it works for 30 minutes"
            ),
        ),
    ),
    (
        (
            "Write a query for monthly active users",
            (
                "SELECT date_trunc('month', seen_at) AS month,\n"
                "       count(DISTINCT user_id) AS users\nFROM events\nGROUP BY 1\nORDER BY 1;"
            ),
        ),
        (
            "Only those who paid, please",
            (
                "Join the invoices, and count each user once:\n\n"
                "SELECT … FROM events JOIN invoices USING (user_id) WHERE invoices.paid …"
            ),
        ),
    ),
    ((("¿Cuál es el horario de atención?", "De lunes a viernes, de 9:00 a 18:00."),)),
    ((("איך אני מבטל את המנוי שלי?", "אפשר לבטל בכל רגע בדף החשבון."),)),
    (
        (
            (
                "Summarise the attached contract in three points",
                (
                    "It runs for two years, can be ended "
                    "with three months' notice, and the price follows the index."
                ),
            ),
        )
    ),
)
_PEOPLE = ("ada", "grace", "alan", "katherine", "edsger", "barbara", "radia", "tim", "margaret")
_MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5")


def small_talk(count: int = 400) -> list[Row]:
    """Return conversations such as an app with some users has in three months."""
    draw = random.Random(7)
    now = datetime.now(timezone.utc)
    rows: list[Row] = []
    for number in range(count):
        at = now - timedelta(days=min(draw.expovariate(1 / 25), 85), hours=draw.random() * 12)
        talk = draw.choice(_TALKS) if number else _TALKS[0]
        rows += _talk(draw, talk, at, f"thread-{number}")
    return sorted(rows, key=lambda row: row.timestamp)


def _talk(
    draw: random.Random, talk: Sequence[tuple[str, str]], at: datetime, thread_id: str
) -> list[Row]:
    person = _PEOPLE[min(int(draw.expovariate(0.45)), len(_PEOPLE) - 1)]
    user_id, model = f"{person}@example.com", draw.choice(_MODELS)
    rows: list[Row] = []

    def put(event: str, properties: dict[str, object]) -> None:
        with_thread = {"$thread_id": thread_id, "environment": "production", **properties}
        rows.append(to_row(user_id, event, to_timestamp(at), with_thread))

    for turn, (question, answer) in enumerate(talk):
        ids: dict[str, object] = {"$prompt_id": f"{thread_id}-{turn}"}
        put("Prompt", {**ids, "$text": question})
        ids["$assistant_id"] = model
        latency_s = draw.lognormvariate(0.4, 0.5)
        if "order" in question:
            at += timedelta(seconds=latency_s / 3)
            put("Tool call", {**ids, "tool_name": "look_up_order"})
        at += timedelta(seconds=latency_s)
        if draw.random() < 0.05:
            put("Generation failed", {**ids, "error_type": "RateLimitError", "status": "error"})
            continue
        ids["$generation_id"] = f"{thread_id}-{turn}-answer"
        facts = {"latency": round(latency_s, 2), "total_tokens": draw.randint(120, 1400)}
        put("Generation", {**ids, **facts, "$text": answer, "cost_usd": draw.random() / 90})
        at += timedelta(seconds=draw.randint(15, 90))
        if draw.random() < 0.12:
            put("Feedback", {**ids, "score": 1, "$text": "Just what I needed, thank you!"})
    return rows


def fill(path: Path, rows: list[Row] | None = None) -> None:
    """Make a database of these rows, or of `EVENTS` generated ones."""
    if rows is None:
        days = timedelta(days=90)
        rows = list(events(EVENTS, 1, datetime.now(timezone.utc) - days, days))
    with closing(Store(path)) as store:
        for start in range(0, len(rows), 10_000):
            store.add(rows[start : start + 10_000]).result()


def expect(locator: Locator) -> Any:
    """Return what waits for a page to show it: a click does not wait for the page it leads to."""
    return pytest.importorskip("playwright.sync_api").expect(locator)


@contextmanager
def chromium() -> Generator[Browser, None, None]:
    """Start the machine's Chromium; a test that needs it is skipped where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no browser: these tests need Chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install playwright"
    )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched(
    browser: Browser, url: str, *, scheme: str = "light", width: int = 1280, height: int = 900
) -> Generator[Page, None, None]:
    """Open a page, and fail at its end if anything was wrong that a visitor would not see."""
    wrong: list[str] = []
    context = browser.new_context(
        base_url=url,
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": height},
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    context.on("request", lambda request: wrong.extend(_abroad(request.url, url)))
    context.on("response", lambda answer: wrong.extend(_failed(answer.status, answer.url)))
    yield page
    context.close()
    assert wrong == []


def _abroad(asked: str, home: str) -> list[str]:
    return [] if urlsplit(asked).netloc == urlsplit(home).netloc else [f"left the machine: {asked}"]


def _failed(status: int, url: str) -> list[str]:
    return [f"{status}: {url}"] if status >= 400 else []


def picture(page: Page, name: str) -> None:
    """Keep what is seen, if a folder for it was named."""
    if PICTURES:
        page.evaluate(_HIDE_FILE)
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def axe(folder: Path) -> str:
    """Return the source of axe-core, which is not part of this project (MPL-2.0)."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm, by which axe-core is installed")
    try:
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", AXE],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.SubprocessError as error:
        pytest.skip(f"axe-core could not be installed ({error})")
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")
