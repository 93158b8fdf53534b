"""How right inferred threads are: thousands of conversations whose app names none of them.

python -m benchmarks.threads

Conversations are interleaved, and each request resends its history as apps do: whole, the last four
messages, or a summary and the last two. A tenth of them open with the same few words, a sixth of
the replies are "yes" or "thanks", canned answers come again and again, apps strip what they store,
questions are edited and answers asked for again. Everything goes through the real reader and the
real resolution; the several processes are as many separate states, each request going to any.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument import _config, _runtime
from trubrics_instrument._context.identity import Claim
from trubrics_instrument._context.scope import Said
from trubrics_instrument._conversations.board import BOARD_BYTES, Board
from trubrics_instrument._observing.conversation import Conversation
from trubrics_instrument._observing.reader import Answer, Choice
from trubrics_instrument.providers.openai._chat import ChatReader

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETINGS = ("Hi", "Hello", "Hey there", "Good morning", "Help", "Can you help me?")
REPLIES = ("yes", "no", "ok", "thanks", "go on", "why?")
CANNED = {"thanks": "You're welcome! Anything else?", "ok": "Great. Anything else?"}
HELLO = "Hello! How can I help you today?"
AT_ONCE = 300
WINDOW = 4
ALIKE = 0.1
SHORT = 1 / 6
EDITED = 0.05
ASKED_AGAIN = 0.05
PER_USER = 5
READER = ChatReader()


class Case(NamedTuple):
    """One line of the table."""

    named: bool
    processes: int
    history: str
    shared: bool = True


class Score(NamedTuple):
    """How right the threads were, as shares."""

    right_turns: float
    split: float
    merged: float


class Talk:
    """One conversation as it really is: its user, and the messages that the app has kept."""

    def __init__(self, number: int, user: str, dice: random.Random) -> None:
        self.number = number
        self.user = user
        self.left = min(12, 1 + int(dice.expovariate(1 / 4)))
        self.messages: list[dict[str, Any]] = []

    def question(self, dice: random.Random) -> str:
        """Return what the user says next."""
        if not self.messages and dice.random() < ALIKE:
            return dice.choice(GREETINGS)
        if self.messages and dice.random() < SHORT:
            return dice.choice(REPLIES)
        return f"What about {_words(dice, 6)}?"


class Apps:
    """The app's processes, and the threads under which they told each turn."""

    def __init__(self, case: Case, dice: random.Random) -> None:
        board = Board(bytearray(BOARD_BYTES)) if case.shared else None
        config = _config.build({}, {"spool": "off"})
        self._states: list[Any] = []
        for _ in range(case.processes):
            _runtime.forget()
            state = _runtime.start(config)
            state.threads.board = board if case.processes > 1 else None
            self._states.append(state)
        self._case = case
        self._dice = dice
        self.turns: list[tuple[int, str]] = []
        self.seconds: list[float] = []

    def ask(self, talk: Talk, question: str, *, again: bool = False) -> None:
        """Send one request, in any of the processes, and keep its answer."""
        if not again:
            talk.messages.append({"role": "user", "content": question})
        body = {"model": "m", "messages": self._resent(talk.messages)}
        reply = _answer(question, self._dice)
        _runtime._state = self._dice.choice(self._states)
        started_s = time.perf_counter()
        asked = READER.asked(body, stream=False)
        claim = Claim(talk.user if self._case.named else None)
        call = Conversation(asked, Said(), claim, None)
        call.answered(_reply(reply))
        self.seconds.append(time.perf_counter() - started_s)
        self.turns.append((talk.number, call.who.thread_id))
        talk.messages.append({"role": "assistant", "content": reply.strip()})

    def _resent(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        system = {"role": "system", "content": "Be brief."}
        if self._case.history == "last 4":
            return [system, *messages[-WINDOW:]]
        if self._case.history == "summary" and len(messages) > WINDOW:
            summary = {"role": "system", "content": f"So far: {len(messages)} messages."}
            return [system, summary, *messages[-2:]]
        return [system, *messages]


def run(case: Case, conversations: int, seed: int) -> tuple[Score, float]:
    """Have all the conversations; return how right their threads are, and a call's median time."""
    dice = random.Random(seed)
    apps = Apps(case, dice)
    waiting = _talks(conversations, dice)
    open_talks = [talk for talk, _ in zip(waiting, range(AT_ONCE), strict=False)]
    while open_talks:
        position = dice.randrange(len(open_talks))
        talk = open_talks[position]
        _take_turn(talk, apps, dice)
        if talk.left <= 0:
            following = next(waiting, None)
            open_talks[position] = open_talks[-1] if following is None else following
            if following is None:
                open_talks.pop()
    return _score(apps.turns), sorted(apps.seconds)[len(apps.seconds) // 2]


def _take_turn(talk: Talk, apps: Apps, dice: random.Random) -> None:
    """Ask once; now and then edit the last question, or ask for another answer.

    Not of the first question: that cannot be told from a new conversation with the same words.
    """
    talk.left -= 1
    answered = len(talk.messages) > len(("question", "answer"))
    chance = dice.random()
    if answered and chance < EDITED:
        del talk.messages[-2:]
        apps.ask(talk, f"I meant {_words(dice, 5)}.")
    elif answered and chance < EDITED + ASKED_AGAIN:
        del talk.messages[-1:]
        apps.ask(talk, talk.messages[-1]["content"], again=True)
    else:
        apps.ask(talk, talk.question(dice))


def _talks(count: int, dice: random.Random) -> Iterator[Talk]:
    """Yield conversations; each user has some of them, and a few at the same time."""
    for number in range(count):
        yield Talk(number, f"user-{dice.randrange(max(1, count // PER_USER))}", dice)


def _answer(question: str, dice: random.Random) -> str:
    if question in GREETINGS:
        return HELLO
    if question in CANNED:
        return CANNED[question]
    return f"About that: {_words(dice, 40)}." + dice.choice(("", "", "\n"))


def _words(dice: random.Random, count: int) -> str:
    return " ".join(f"{dice.randrange(36**4):x}" for _ in range(count))


def _score(turns: list[tuple[int, str]]) -> Score:
    """A turn is right under its conversation's own thread: each has most of the other."""
    threads_of: dict[int, Counter[str]] = defaultdict(Counter)
    talks_of: dict[str, Counter[int]] = defaultdict(Counter)
    for talk, thread in turns:
        threads_of[talk][thread] += 1
        talks_of[thread][talk] += 1
    right = sum(
        threads_of[talk].most_common(1)[0][0] == thread
        and talks_of[thread].most_common(1)[0][0] == talk
        for talk, thread in turns
    )
    return Score(
        right / len(turns),
        sum(len(threads) > 1 for threads in threads_of.values()) / len(threads_of),
        sum(len(talks) > 1 for talks in talks_of.values()) / len(talks_of),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure how right inferred threads are.")
    parser.add_argument("--conversations", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{arguments.conversations} conversations, {AT_ONCE} at once, seed {arguments.seed}\n")
    print("| user ids | processes | history | turns under the right thread | split | merged | µs |")
    print("|---|---|---|---|---|---|---|")
    for named in (True, False):
        for processes in ("1", "4", "4 machines"):
            for history in ("whole", "last 4", "summary"):
                count = int(processes.split()[0])
                case = Case(named, count, history, shared=processes == "4")
                score, seconds = run(case, arguments.conversations, arguments.seed)
                shares = " | ".join(f"{share:.2%}" for share in score)
                known = "yes" if named else "no"
                line = f"| {known} | {processes} | {history} | {shares} | {seconds * 1e6:.0f} |"
                print(line, flush=True)
    _print_cost()


def _print_cost() -> None:
    """Print what it takes on the app's thread, for a short and for a long history."""
    print("\n| messages in the history | processes | µs at the question | µs at the answer |")
    print("|---|---|---|---|")
    for length in (2, 10, 100, 400):
        requests = [_long_request(length, number) for number in range(200)]
        for processes in ("1", "several"):
            best = _cost(requests, shared=processes != "1")
            print(f"| {length} | {processes} | " + " | ".join(f"{us:.1f}" for us in best) + " |")


def _long_request(length: int, number: int) -> dict[str, Any]:
    """Return a request with a long history, whose last question and answer are its own."""
    messages: list[Any] = [
        {"role": role, "content": f"{role} {position} {'some more words ' * 40}"}
        for position in range(length // 2)
        for role in ("user", "assistant")
    ]
    messages[-1] = {"role": "assistant", "content": f"{number} {'an own answer ' * 40}"}
    return {"messages": [*messages, {"role": "user", "content": f"And now, {number}?"}]}


def _cost(requests: list[dict[str, Any]], *, shared: bool) -> tuple[float, float]:
    """Return the CPU time of a question and of its answer, in µs, the best of some."""
    runs = [_cost_once(requests, shared=shared) for _ in range(7)]
    return min(at_question for at_question, _ in runs), min(at_answer for _, at_answer in runs)


def _cost_once(requests: list[dict[str, Any]], *, shared: bool) -> tuple[float, float]:
    """Have each conversation go on once: its last answer was given here."""
    _runtime.forget()
    state = _runtime.start(_config.build({}, {"spool": "off"}))
    state.threads.board = Board(bytearray(BOARD_BYTES)) if shared else None
    claim, said = Claim("ada"), Said()
    for request in requests:
        *before, last, _ = request["messages"]
        told = READER.asked({"messages": before}, stream=False)
        Conversation(told, said, claim, None).answered(_reply(last["content"]))
    asked = [READER.asked(request, stream=False) for request in requests]
    answers = [_reply(f"{number} {'words again ' * 40}") for number in range(len(requests))]
    started_s = time.process_time()
    calls = [Conversation(one, said, claim, None) for one in asked]
    asked_s = time.process_time()
    for call, answer in zip(calls, answers, strict=True):
        call.answered(answer)
        call.told("an-id", 0)
    answered_s = time.process_time()
    in_us = 1e6 / len(requests)
    return (asked_s - started_s) * in_us, (answered_s - asked_s) * in_us


def _reply(text: str) -> Answer:
    return Answer(id="an-id", choices=(Choice(text),))


if __name__ == "__main__":
    main()
