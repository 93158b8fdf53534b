"""The pages, as they come over the wire."""

from __future__ import annotations

import html
import re
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from tests.collector.conftest import Collector, event, until
from trubrics_instrument.collector.fields import to_timestamp
from trubrics_instrument.collector.wording import NOTHING, path_to

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\u202e\x07"
PAGES = ("/", "/threads", "/users", "/live", "/data")


def _conversation(
    thread_id: str, text: str = "Hello?", user_id: str = "ada", **properties: object
) -> list[dict[str, object]]:
    shared = {"$thread_id": thread_id, "$prompt_id": f"p-{thread_id}"}
    answered = {"$text": "An answer.", "$assistant_id": "gpt-4o", "$generation_id": "g"}
    return [
        event(user_id=user_id, properties={**shared, "$text": text, **properties}),
        event(user_id=user_id, event="Generation", properties={**shared, **answered}),
    ]


def _titles(page: str) -> list[str]:
    found = re.findall(r'<span class="thread-title"><bdi>(.*?)</bdi>', page, re.DOTALL)
    return [html.unescape(title) for title in found]


@pytest.fixture
def talked(server: Collector) -> Collector:
    """Give a collector that has some conversations, all of them indexed."""
    batches = [
        _conversation("t-1", "Where is my order?", environment="production", trial=True),
        _conversation("t-2", "Reset my password", user_id="bob", environment="test"),
        _conversation("t-3", "Rechnung für März", environment="production"),
        _conversation("t-4", "我想退款!"),
        [event(event="Generation failed", properties={"$thread_id": "t-2"}, user_id="bob")],
        [event(event="Feedback", properties={"$thread_id": "t-3", "score": 1})],
        [event(event="Sign in", properties={}, user_id="bob")],
    ]
    for batch in batches:
        assert server.post("publish_events", batch).status_code == 200
    query = "SELECT (SELECT through FROM indexed) = (SELECT max(id) FROM events)"
    until(lambda: server.select(query) == [(1,)])
    return server


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_collector_has_every_page(server: Collector, path: str) -> None:
    """Before the first event there is something to read, not an error."""
    assert server.get(path).status_code == 200


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("", ["我想退款!", "Rechnung für März", "Reset my password", "Where is my order?"]),
        ("q=order", ["Where is my order?"]),
        ("q=ORD", ["Where is my order?"]),
        ("q=marz", ["Rechnung für März"]),
        ("q=my+order", ["Where is my order?"]),
        ('q="my+password"', ["Reset my password"]),
        ('q="password+my"', []),
        ("q=退款", ["我想退款!"]),
        ("q=%22", []),
        ("q=*+OR+NEAR(", []),
        ("q=%00order", ["Where is my order?"]),
        ("user=bob", ["Reset my password"]),
        ("user=bo", []),
        ("model=gpt-4o&user=bob", ["Reset my password"]),
        ("event=Feedback", ["Rechnung für März"]),
        ("only=failures", ["Reset my password"]),
        ("only=feedback", ["Rechnung für März"]),
        ("q=rechnung&only=failures", []),
        ("prop=environment&value=production", ["Rechnung für März", "Where is my order?"]),
        ("prop=trial&value=true", ["Where is my order?"]),
        ("prop=trial", ["Where is my order?"]),
        ("prop=%22%27)--", []),
        ("prop=score&value=1", ["Rechnung für März"]),
        ("prop=$prompt_id&value=p-t-1", ["Where is my order?"]),
        ("prop=$assistant_id&user=bob", ["Reset my password"]),
        ("since=2024-10-09&until=2024-10-09&user=bob", ["Reset my password"]),
        ("since=2024-10-10", []),
        ("until=2024-10-08", []),
        ("q=order&until=2024-10-08", []),
        ("after=x&user=bob", ["Reset my password"]),
    ],
)
def test_conversations_are_found(talked: Collector, query: str, titles: list[str]) -> None:
    """By words (any case, without accents, their beginnings), by who, how, when, and properties."""
    page = talked.get(f"/threads?{query}")
    assert page.status_code == 200
    assert sorted(_titles(page.text)) == sorted(titles)


def test_a_long_list_has_pages(server: Collector) -> None:
    """Each conversation stands on exactly one page, in the list and in a search."""
    for batch in range(3):
        conversations = [_conversation(f"t-{batch}-{i}", f"Hello {i}") for i in range(20)]
        server.post("publish_events", [one for both in conversations for one in both])
    query = "SELECT (SELECT through FROM indexed) = (SELECT max(id) FROM events)"
    until(lambda: server.select(query) == [(1,)])
    for path in ("/threads", "/threads?q=hello", "/threads?model=gpt-4o"):
        seen: list[str] = []
        following: str | None = path
        while following:
            page = server.get(following).text
            seen += re.findall(r'href="(/threads/t-[^"]+)"', page)
            more = re.search(r'rel="next" href="([^"]+)"', page)
            following = html.unescape(more[1]) if more else None
        assert len(seen) == len(set(seen)) == 60


def test_hostile_texts_stay_texts(server: Collector) -> None:
    """Wherever a text, a name or an id is shown, it is escaped and confined."""
    hostile = event(
        user_id=HOSTILE,
        event=HOSTILE,
        properties={
            "$text": HOSTILE,
            "$thread_id": HOSTILE,
            "$assistant_id": HOSTILE,
            "tool_name": HOSTILE,
            HOSTILE: HOSTILE,
        },
    )
    assert server.post("publish_event", hostile).status_code == 200
    paths = [*PAGES, path_to(HOSTILE, "threads"), path_to(HOSTILE, "users"), "/threads?q=alert"]
    for path in paths:
        answer = server.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "\x07" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
    assert "\N{SYMBOL FOR BELL}" in server.get(path_to(HOSTILE, "threads")).text


@pytest.mark.parametrize("key", [".", "..", "a/../b", "a?b#c", "%2e", "a b+c", "é", "\x00", "a\nb"])
def test_any_id_has_a_page(server: Collector, key: str) -> None:
    """An id is whatever an app calls its conversations and users."""
    server.post("publish_event", event(user_id=key, properties={"$thread_id": key, "$text": "Hi"}))
    for kind in ("threads", "users"):
        assert server.get(path_to(key, kind)).status_code == 200
        (listed,) = re.findall(
            rf'href="(/{kind[:-1]}[^"]*)">\s*<span class="thread', server.get(f"/{kind}").text
        )
        assert html.unescape(listed) == path_to(key, kind)


def test_a_conversation_shows_what_happened(server: Collector) -> None:
    """Prompts, tools, answers, failures and feedback, each with its facts and its JSON."""
    shared = {"$thread_id": "t", "$assistant_id": "gpt-4o"}
    answered = {"$generation_id": "g", "$text": "42", "latency": 2.5, "cost_usd": 0.25}
    said: list[tuple[str, dict[str, object]]] = [
        ("Prompt", {"$text": "How many?"}),
        ("Tool call", {"tool_name": "count"}),
        ("Generation failed", {"error_type": "RateLimitError", "status": "error"}),
        ("Generation", {**answered, "total_tokens": 1234, "status": "incomplete"}),
        ("Feedback", {"$generation_id": "g", "score": 0.5, "$text": "Sure?"}),
    ]
    events = [event(event=name, properties={**shared, **more}) for name, more in said]
    server.post("publish_events", events)
    page = server.get("/threads/t").text
    talk = page[page.index('<ol class="talk">') :]
    words = re.sub(r"<[^>]*>", " ", html.unescape(talk[: talk.index("</ol>")])).split()
    under = "13:21:46 gpt-4o"
    assert " ".join(words) == (
        f"2024-10-09 How many? User {under} JSON "
        f"Used count Tool call {under} JSON "
        f"Failed: RateLimitError Generation failed {under} JSON "
        f"42 Assistant {under} 2.5 s 1,234 tokens $0.25 incomplete JSON "
        f"Feedback 0.5 Sure? Feedback {under} JSON"
    )
    links = re.findall(r'class="raw" href="([^"]+)"', talk)
    assert [server.get(link).json() for link in links] == events


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"status": "ok"}, "No text was kept"),
        ({}, "No text was kept"),
        ({"status": "incomplete", "finish_reason": "interrupt"}, "Stopped to wait for a person"),
        ({"status": "incomplete"}, "It was not finished"),
        ({"status": "unread"}, "It could not be read"),
    ],
)
def test_an_answer_without_text_says_why(
    server: Collector, facts: dict[str, object], said: str
) -> None:
    """It was not kept, or there is none: a graph asks a person, or nothing came."""
    properties = {"$thread_id": "t", "$generation_id": "g", **facts}
    server.post("publish_event", event(event="Generation", properties=properties))
    assert re.findall('<p class="act quiet">(.*)</p>', server.get("/threads/t").text) == [said]


def test_a_very_long_conversation_has_parts(server: Collector) -> None:
    """Each event is in exactly one of them, in the order of time."""
    for hundred in (200, 0, 100):
        some = [
            event(
                timestamp=f"2024-10-09T13:{n // 60:02d}:{n % 60:02d}Z",
                properties={"$text": f"number {n}.", "$thread_id": "a/long one"},
            )
            for n in range(hundred, hundred + 100)
        ]
        server.post("publish_events", some)
    seen: list[str] = []
    following: str | None = path_to("a/long one", "threads")
    parts = 0
    while following:
        page = server.get(following).text
        seen += re.findall(r'auto">number (\d+)\.<', page)
        more = re.search(r'href="([^"]+)" rel="next"', page)
        following = html.unescape(more[1]) if more else None
        parts += 1
    assert (parts, seen) == (2, [str(n) for n in range(300)])


def test_the_users_are_listed(server: Collector) -> None:
    """Who was there last, or who asked most, or whose id starts so; each once, over pages."""
    people = [f"user-{n:02d}" for n in range(60)]
    asked = [(n, again) for n in range(60) for again in range(1 + n % 3)]
    for at in range(0, len(asked), 100):
        some = [
            event(user_id=people[n], timestamp=f"2024-10-09T13:{n:02d}:0{again}Z")
            for n, again in asked[at : at + 100]
        ]
        server.post("publish_events", some)

    def listed(path: str | None) -> list[str]:
        found: list[str] = []
        while path:
            page = server.get(path).text
            found += re.findall(r'thread-title"><bdi>(.*?)</bdi>', page)
            more = re.search(r'rel="next" href="([^"]+)"', page)
            path = html.unescape(more[1]) if more else None
        return found

    assert listed("/users") == people[::-1]
    assert listed("/users?order=prompts") == sorted(people, key=lambda name: -(int(name[5:]) % 3))
    assert listed("/users?q=user-1") == people[19:9:-1]
    page = server.get("/users/user-59").text
    shown = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    assert dict(shown)["Prompts"] == "3"
    assert "first seen 2024-10-09 13:59:00" in page
    assert "last seen" in page


def test_a_very_long_text_is_cut_and_can_be_read_in_full(server: Collector) -> None:
    """5 million characters do not make a page of that size."""
    text = "a long story " * 400_000
    server.post("publish_event", event(properties={"$text": text, "$thread_id": "t"}))
    page = server.get("/threads/t").text
    assert len(page) < 20_000
    assert server.get("/events/1.txt").text == text


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_who_signs_in_has_the_conversation(together: bool, server: Collector) -> None:
    """A conversation that somebody began as nobody is theirs once they have said who they are."""
    others = _conversation("t-2", "Hello", user_id="Anon-Bob")
    others += _conversation("t-2", "Hi", user_id="zoe")
    assert [server.post("publish_event", one).status_code for one in others] == [200] * 4
    first = _conversation("t-1", "What do you sell?", user_id="anon-1")
    then = _conversation("t-1", "I am signed in.", user_id="zoe")
    last = _conversation("t-1", "Thanks", user_id="anon-1")
    for batch in [[*first, *then, *last]] if together else [first, then, last]:
        assert server.post("publish_events", batch).status_code == 200
    assert _titles(server.get("/threads?user=zoe").text) == ["What do you sell?"]
    assert _titles(server.get("/threads?user=anon-1").text) == []


def test_what_is_outside_of_conversations_is_on_the_users_page(talked: Collector) -> None:
    """An event such as a sign-in has no thread."""
    page = talked.get("/users/bob").text
    assert _titles(page) == ["Reset my password", "Sign in"]


def test_feedback_from_another_process_is_in_the_conversation_of_its_answer(
    server: Collector,
) -> None:
    """That process knows who and for which answer; one that is for none stands alone."""
    server.post("publish_events", _conversation("t-1"))
    alone = {"$generation_id": "another", "score": 0.5, "$text": "For what?"}
    server.post("publish_event", event(event="Feedback", properties=alone))
    rated = event(event="Feedback", properties={"$generation_id": "g", "score": 1, "$text": "Yes!"})
    assert server.post("publish_event", rated).json() == {"stored": 1, "duplicates": 0}
    page = server.get("/threads/t-1").text
    assert re.findall('<p class="act">Feedback <strong>(.*)</strong>', page) == ["1"]
    (shown,) = re.findall(r"/events/\d+.json", page[page.index("said feedback") :])
    assert server.get(shown).json() == rated
    query = "SELECT (SELECT through FROM indexed) = (SELECT max(id) FROM events)"
    until(lambda: server.select(query) == [(1,)])
    for asked in ("q=yes", "only=feedback", "q=yes&only=feedback", "event=Feedback", "prop=score"):
        assert _titles(server.get(f"/threads?{asked}").text) == ["Hello?"]
    assert _titles(server.get("/threads?q=what").text) == []
    user = server.get("/users/ada").text
    assert _titles(user) == ["Hello?", "Feedback"]
    assert re.findall(r"<span>score (.*?)</span>", user) == ["0.5"]
    assert re.findall(r'class="feedback" href="(.*)">', server.get("/live").text) == [
        "/threads/t-1",
        "/events/3.json",
    ]


@pytest.mark.parametrize("name", ["24h", "7d", "30d", "90d", "all", "nonsense"])
def test_the_overview_has_ranges(talked: Collector, name: str) -> None:
    """Each range is a page, and 'all' reaches back to the first event."""
    page = talked.get(f"/?range={name}").text
    prompts = re.search(r"Prompts <strong>(.*?)</strong>", page)
    assert prompts
    assert prompts[1] == ("4" if name == "all" else "0")


@pytest.mark.parametrize(
    ("costs", "written"),
    [((None, None), NOTHING), ((0, None), "$0"), ((0.25, None), "$0.25"), ((0.25, 0.5), "$0.75")],
)
def test_a_cost_that_nobody_knows_is_not_0(
    server: Collector, costs: tuple[float | None, ...], written: str
) -> None:
    """It is nothing, wherever costs stand; a cost of 0 is one."""
    for cost in costs:
        known = {} if cost is None else {"cost_usd": cost}
        properties = {"$thread_id": "t", "$assistant_id": "m", "$text": "Hi", **known}
        server.post("publish_event", event(event="Generation", properties=properties))
    overview = server.get("/?range=all").text
    dollars = rf"<td>({NOTHING}|\$.*?)</td>"
    cards = re.findall(r"<figcaption>(\w+) <strong>(.*?)</strong>", overview)
    assert dict(cards)["Cost"] == written
    assert re.findall(r'aria-label="Cost, .*?: at most (.*?), at last', overview) == (
        [] if written == NOTHING else [written]
    )
    assert re.findall(dollars, _shown(overview, "By model"))[0] == written
    months = re.findall(r"<tr><th scope=\"row\">(?:<.*?>)?Oct 2024<.*?</tr>", overview)
    assert [re.findall(dollars, month)[0] for month in months] == [written]
    shown = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", server.get("/users/ada").text)
    assert dict(shown)["Cost"] == written
    for path in ("/users", "/threads/t"):
        facts = server.get(path).text.partition("<ol")[0]
        assert re.findall(r"<span>(\$.*?)</span>", facts) == (
            [] if written == NOTHING else [written]
        )


@pytest.mark.parametrize(
    "path", ["/nowhere", "/threads/none", "/users/none", "/events/9.json", "/events/9.txt"]
)
def test_what_is_not_there_is_said_so(server: Collector, path: str) -> None:
    """A 404 with a way back."""
    assert server.get(path).status_code == 404


def test_a_user_is_deleted_from_the_page(talked: Collector) -> None:
    """After a question, by a form of this collector only."""
    assert "Delete everything about" in talked.get("/delete?user=bob").text
    foreign = {"Origin": "https://evil.example"}
    url = f"{talked.url}/delete?user=bob"
    assert Collector(talked.url, talked.db, foreign).post("delete?user=bob", b"").status_code == 403
    assert talked.get("/users/bob").status_code == 200
    own = Collector(talked.url, talked.db, {"Origin": talked.url})
    assert "4 events deleted" in own.post("delete?user=bob", b"").text, url
    assert talked.get("/users/bob").status_code == 404
    assert talked.get("/threads/t-2").status_code == 404


def _shown(page: str, what: str) -> str:
    (found,) = re.findall(rf"<section>\s*<h2>{what}</h2>(.*?)</section>", page, re.DOTALL)
    return str(found)


@pytest.mark.parametrize("name", ["24h", "7d", "30d", "90d", "all"])
def test_the_overview_counts_whoever_was_there_once(server: Collector, name: str) -> None:
    """Users, who asked most, and the busiest conversations: only of the range, each once."""
    now = datetime.now(timezone.utc)
    asked = [("ada", 0), ("ada", 0), ("bob", 0), ("ada", 2), ("eve", 20), ("eve", 80), ("old", 200)]
    server.post(
        "publish_events",
        [
            event(
                user_id=user,
                timestamp=to_timestamp(now - timedelta(days=days)),
                properties={"$text": f"{user} {days}", "$thread_id": f"{user}-{days}"},
            )
            for user, days in asked
        ],
    )
    within = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "all": 999}[name]
    counts = Counter(user for user, days in asked if days < within)
    threads = Counter(f"{user} {days}" for user, days in asked if days < within)
    page = server.get(f"/?range={name}").text
    assert re.findall(r"Users <strong>(.*?)</strong>", page) == [str(len(counts))]
    ranked = re.findall(r"<bdi>(\w+)</bdi>.*?<span>(\d+)<", _shown(page, "By user"), re.DOTALL)
    assert {user: int(count) for user, count in ranked} == counts
    assert [int(count) for _, count in ranked] == sorted(counts.values(), reverse=True)
    busiest = _titles(_shown(page, "Busiest conversations"))
    assert (busiest[0], sorted(busiest)) == ("ada 0", sorted(threads))
