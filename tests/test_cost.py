"""What an answer cost: cached and reasoning tokens, own prices, and no guess."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import genai_prices
import pytest
from genai_prices import data, data_snapshot
from genai_prices.types import ModelPrice

from trubrics_instrument._base import shield
from trubrics_instrument._cost import check_prices, cost_of
from trubrics_instrument._cost.paid import Tokens

if TYPE_CHECKING:
    from tests.sink import Sink

ANSWER: dict[str, object] = {
    "model": "my-deployment",
    "response_model": "gpt-4o-2024-08-06",
    "provider": "openai",
    "input_tokens": 1000,
    "output_tokens": 100,
}
ROOT = Path(__file__).parents[1]
IN_2025_S = 1_750_000_000.0


def cost(**changes: object) -> float | None:
    """Return the listed cost of the answer with these changes, in 2025."""
    properties = {key: value for key, value in (ANSWER | changes).items() if value is not None}
    return cost_of(properties, time_s=IN_2025_S)


def test_input_and_output_have_their_prices() -> None:
    """gpt-4o cost 2.50 and 10 dollars for a million tokens."""
    assert cost() == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)


def test_cached_input_has_its_own_price() -> None:
    """Cached tokens are part of the input, at half of its price for gpt-4o."""
    assert cost(cached_input_tokens=400) == pytest.approx(600 * 2.5e-6 + 400 * 1.25e-6 + 1e-3)


def test_cached_input_without_a_price_costs_what_input_does() -> None:
    """A model without a price for cached tokens does not give them away."""
    old = {"response_model": None, "model": "claude-2", "provider": "anthropic"}

    assert cost(**old, cached_input_tokens=400) == cost(**old)


def test_reasoning_is_part_of_the_output() -> None:
    """Reasoning tokens are in the output tokens already: they are not paid twice."""
    assert cost(reasoning_tokens=60) == cost()


@pytest.mark.parametrize(
    ("provider", "known"),
    [
        ("openai", True),
        ("azure", True),
        ("api.openai.com", True),
        (None, True),
        ("ollama", False),
        ("127.0.0.1:8000", False),
        ("llm.example.com", False),
    ],
)
def test_a_model_costs_what_its_provider_takes(provider: str | None, *, known: bool) -> None:
    """The same name on somebody's own server has no known price."""
    assert (cost(provider=provider) is not None) is known


@pytest.mark.parametrize(
    "changes",
    [
        {"input_tokens": None},
        {"output_tokens": None},
        {"input_tokens": -1},
        {"output_tokens": "100"},
        {"input_tokens": True},
        {"response_model": "no-such-model"},
        {"response_model": None},
        {"response_model": ""},
    ],
)
def test_what_is_not_known_has_no_cost(changes: dict[str, object]) -> None:
    """Half of the tokens, or a model that nobody lists: None, not a number that looks right."""
    assert cost(**changes) is None


@pytest.mark.parametrize("cached", [0, 150_000])
@pytest.mark.parametrize("asked", [700, 300_000])
def test_whatever_is_listed_costs_what_the_list_says(asked: int, cached: int) -> None:
    """A price that is kept gives the list's own answer: with tiers, fees and none for the cache."""
    cached = min(asked, cached)
    tokens = Tokens(asked, 211, cached or None, 31)
    for provider in data.providers:
        for model in provider.models:
            ours = cost(
                provider=provider.id,
                model=model.id,
                response_model=None,
                input_tokens=asked,
                output_tokens=211,
                reasoning_tokens=31,
                cached_input_tokens=cached or None,
            )
            assert ours == listed(tokens, model.id, provider.id), (provider.id, model.id)


def listed(tokens: Tokens, model: str, provider: str) -> float | None:
    """Return what genai-prices says itself."""
    at: dict[str, Any] = {
        "provider_id": provider,
        "genai_request_timestamp": datetime.fromtimestamp(IN_2025_S, tz=timezone.utc),
    }
    try:
        found = genai_prices.calc_price(tokens, model, **at)
    except LookupError:
        return None
    if tokens.cache_read_tokens and found.model_price.cache_read_mtok is None:
        found = genai_prices.calc_price(tokens._replace(cache_read_tokens=None), model, **at)
    return float(found.total_price) or None


def test_a_list_that_the_app_brings() -> None:
    """Another list, as genai-prices' `UpdatePrices` fetches one, holds from then on."""
    listed_here = cost(input_tokens=1_000_000, output_tokens=0)
    theirs = copy.deepcopy(data_snapshot.get_snapshot())
    found = theirs.find_provider_model("gpt-4o-2024-08-06", None, "openai", None)[1]
    found.prices = ModelPrice(input_mtok=Decimal(99), output_mtok=Decimal(1))
    data_snapshot.set_custom_snapshot(theirs)
    try:
        assert cost(input_tokens=1_000_000, output_tokens=0) == 99.0
    finally:
        data_snapshot.set_custom_snapshot(None)
    assert cost(input_tokens=1_000_000, output_tokens=0) == listed_here


def test_a_price_is_of_its_time() -> None:
    """What a model cost before it became cheaper is what it costs an event of that time."""
    answer = ANSWER | {"response_model": "o3", "provider": "openai"}
    before, after = (datetime(2025, 6, day, 12, tzinfo=timezone.utc).timestamp() for day in (9, 11))
    costs = [cost_of(answer, time_s=time_s) for time_s in (before, after, before)]
    assert costs == pytest.approx([0.014, 0.0028, 0.014])


def test_a_price_of_nothing_is_no_price() -> None:
    """A list that says 0 knows the model, not what it costs you: a free tier, a flat fee."""
    assert cost(response_model="phi-4-reasoning:free", provider="azure") is None


def test_more_cached_than_input_is_taken_as_all_cached() -> None:
    """A provider's odd count costs no event and no fault."""
    assert cost(cached_input_tokens=5000) == cost(cached_input_tokens=1000)


def test_own_prices_win() -> None:
    """The app's own price for the model that answered, or was asked for, comes before the list."""
    tokens = ANSWER | {"cached_input_tokens": 400}

    assert cost_of(tokens, {"gpt-4o-2024-08-06": (2, 8)}) == pytest.approx(2e-3 + 8e-4)
    assert cost_of(tokens, {"my-deployment": [2, 8, 1]}) == pytest.approx(1.2e-3 + 4e-4 + 8e-4)
    assert cost_of(ANSWER, {"gpt-4o-2024-08-06": (0, 0)}) == 0.0
    assert cost_of(ANSWER, {"another": (2, 8)}, IN_2025_S) == cost()


def test_a_callable_has_the_last_word() -> None:
    """It gets the properties, a dict of its own, and its None means unknown."""

    def per_call(properties: Any) -> float | None:
        properties["seen"] = True
        return 0.5 if properties["provider"] == "openai" else None

    assert cost_of(ANSWER, per_call) == 0.5
    assert cost_of(ANSWER | {"provider": "azure"}, per_call) is None
    assert "seen" not in ANSWER


@pytest.mark.parametrize("answer", ["0.5", float("nan"), -1, True])
def test_an_answer_that_is_no_cost_is_dropped(answer: Any) -> None:
    """Only a finite number that is not negative becomes `cost_usd`."""
    assert cost_of(ANSWER, lambda _: answer) is None


def test_a_callable_that_raises_costs_the_cost_only() -> None:
    """It is counted, and the event goes without `cost_usd`."""

    def broken(_: object) -> float:
        raise RuntimeError

    shield.set_strict(strict=False)

    assert cost_of(ANSWER, broken) is None
    assert shield.faults() == {"computing a cost": 1}


@pytest.mark.parametrize(
    ("prices", "names"),
    [
        ("auto", "'auto'"),
        ({"m": 3}, "'m'"),
        ({"m": (1,)}, "'m'"),
        ({"m": (1, 2, 3, 4)}, "'m'"),
        ({"m": (1, -2)}, "'m'"),
        ({"m": ("1", 2)}, "'m'"),
        ({3: (1, 2)}, "3"),
    ],
)
def test_impossible_prices_are_refused(prices: Any, names: str) -> None:
    """The error names the option, the entry, and what is allowed."""
    with pytest.raises(ValueError, match=f"^prices.*{names}.*a million tokens"):
        check_prices("prices", prices)


@pytest.mark.parametrize("prices", [None, {}, {"m": (1, 2.5)}, {"m": [1, 2, 0]}, max])
def test_possible_prices_are_taken(prices: Any) -> None:
    """None, a table, or a callable."""
    check_prices("prices", prices)


def in_a_fresh_process(program: str, environment: dict[str, str] | None = None) -> str:
    """Return what a program prints, and logs, in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_no_network_is_used() -> None:
    """Loading the list and pricing an answer open no socket, and no thread stays."""
    program = f"""
import sys, threading
seen = []
sys.addaudithook(lambda event, args: event.startswith("socket.") and seen.append(event))
from trubrics_instrument._cost import cost_of
assert "genai_prices" not in sys.modules
assert cost_of({ANSWER!r}) > 0
for thread in threading.enumerate()[1:]: thread.join(10)
print(seen, threading.active_count())
"""
    assert in_a_fresh_process(program) == "[] 1"


def test_without_the_extra_only_own_prices_are_known() -> None:
    """Without genai-prices nothing fails, and a price of the app's own still counts."""
    program = f"""
import sys
sys.modules["genai_prices"] = None
from trubrics_instrument._cost import cost_of
from trubrics_instrument._base.shield import faults
print(cost_of({ANSWER!r}), cost_of({ANSWER!r}, {{"my-deployment": (1, 0)}}), faults())
"""
    assert in_a_fresh_process(program) == "None 0.001 {}"


AT_ONCE = """
import slow_data
class price: total_price, model_price = 2.0, None
def calc_price(*_, **__): return price
"""
LATER = """
class price: total_price, model_price = 2.0, None
def calc_price(*_, **__):
    import slow_data
    return price
"""


def slow_list(folder: Path, code: str, takes_s: float) -> dict[str, str]:
    """Put a list of prices that takes its time into a folder; return the environment for it."""
    (folder / "genai_prices.py").write_text(code)
    (folder / "slow_data.py").write_text(f"import time\ntime.sleep({takes_s})\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize("code", [AT_ONCE, LATER], ids=["at once", "with the first price"])
def test_a_fork_while_the_list_is_loading(code: str, tmp_path: Path) -> None:
    """A child gets a list that is loaded as a whole, not one that nobody ever finishes."""
    environment = slow_list(tmp_path, code, 0.5)
    program = (
        "import os, signal, sys, threading, time, warnings\n"
        "warnings.simplefilter('ignore')  # a fork beside threads\n"
        "from trubrics_instrument._cost import cost_of\n"
        "told = {'model': 'm', 'input_tokens': 1, 'output_tokens': 1}\n"
        "threading.Thread(target=cost_of, args=(told,)).start()\n"
        "while 'slow_data' not in sys.modules: time.sleep(0.001)\n"
        "if os.fork():\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "signal.alarm(20)\n"
        "os._exit(cost_of(told) != 2.0)\n"
    )
    assert in_a_fresh_process(program, environment) == ""


def test_a_fork_before_the_list_begins_to_load(tmp_path: Path) -> None:
    """A child that has not got the thread loads the list itself."""
    program = (
        "import os, sys, threading\n"
        "from trubrics_instrument._cost import cost_of, expect_answers\n"
        "start, threading.Thread.start = threading.Thread.start, lambda thread: None\n"
        "expect_answers()\n"
        "threading.Thread.start = start\n"
        "if os.fork():\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "told = {'model': 'm', 'input_tokens': 1, 'output_tokens': 1}\n"
        "os._exit(cost_of(told) != 2.0)\n"
    )
    environment = slow_list(tmp_path, AT_ONCE, 0.0)
    assert in_a_fresh_process(program, environment) == ""


def test_a_list_that_takes_long(tmp_path: Path) -> None:
    """Events wait for it only so long, and go without a cost; later ones have theirs."""
    program = """
import time
from trubrics_instrument._cost import cost_of, price_list
price_list._PATIENCE_S = 0.1
told = {"model": "m", "input_tokens": 1, "output_tokens": 1}
costs = [cost_of(told), cost_of(told)]
until = time.monotonic() + 20
while costs[-1] is None and time.monotonic() < until:
    time.sleep(0.05)
    costs.append(cost_of(told))
print(costs[0], costs[1], costs[-1])
"""
    said = in_a_fresh_process(program, slow_list(tmp_path, AT_ONCE, 2.0))
    assert said.split() == ["None", "None", "2.0"]


@pytest.mark.parametrize(
    ("event", "prices", "begins"),
    [("Prompt", "None", True), ("Prompt", "max", False), ("Tool call", "None", False)],
)
def test_a_question_begins_to_load_the_list(
    event: str, prices: str, begins: bool, sink: Sink, tmp_path: Path
) -> None:
    """It is there when the answer comes, also where that is the last thing that a process does."""
    program = f"""
import sys, time, trubrics_instrument
trubrics_instrument.configure(prices={prices})
trubrics_instrument.track({event!r}, {{"model": "m"}}, user_id="ada")
trubrics_instrument.flush()
until = time.monotonic() + 10 * {begins}
while "slow_data" not in sys.modules and time.monotonic() < until:
    time.sleep(0.01)
print("slow_data" in sys.modules)
"""
    environment = slow_list(tmp_path, AT_ONCE, 0.0) | {"TRUBRICS_HOST": sink.host}
    said = in_a_fresh_process(program, environment)
    assert said.split() == [str(begins)]


@pytest.mark.parametrize(("spool", "begins"), [("strict", True), ("auto", False)])
def test_a_set_up_begins_to_load_the_list(spool: str, begins: bool, tmp_path: Path) -> None:
    """Where events are made inside the app's calls: the first answer need not wait for it."""
    program = f"""
import sys, time, trubrics_instrument
trubrics_instrument.configure(host="http://127.0.0.1:1", spool={spool!r})
until = time.monotonic() + (10 if {begins} else 0.3)
while "slow_data" not in sys.modules and time.monotonic() < until:
    time.sleep(0.01)
print("slow_data" in sys.modules)
"""
    environment = slow_list(tmp_path, AT_ONCE, 0.0) | {"TRUBRICS_SPOOL_DIR": str(tmp_path)}
    assert in_a_fresh_process(program, environment).split() == [str(begins)]


def test_a_process_that_ends_while_the_list_is_loading(sink: Sink, tmp_path: Path) -> None:
    """It loses nothing but the cost."""
    program = """
import time, trubrics_instrument
told = {"model": "m", "input_tokens": 1, "output_tokens": 1}
trubrics_instrument.track("Prompt", {"model": "m"}, user_id="ada")
time.sleep(0.3)
trubrics_instrument.track("Generation", told, user_id="ada")
"""
    environment = slow_list(tmp_path, AT_ONCE, 60.0)
    environment |= {"TRUBRICS_HOST": sink.host, "TRUBRICS_SPOOL": "off"}
    said = in_a_fresh_process(program, environment)
    assert [one["event"] for one in sink.wait_for(2)] == ["Prompt", "Generation"]
    assert all("cost_usd" not in one["properties"] for one in sink.events)
    assert said == ""
