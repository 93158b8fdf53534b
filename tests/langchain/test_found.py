"""Defects that were found once in what runs do to each other, each with the rule that it broke."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda

from tests.langchain.driving import config
from tests.langchain.models import Refused, Scripted, calls, refuses, says
from trubrics_instrument import TrubricsCallbackHandler, patch_langchain, unpatch_langchain
from trubrics_instrument.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable

    from trubrics_instrument.testing import Events

pytestmark = pytest.mark.usefixtures("events")

memory: Any = pytest.importorskip("langgraph.checkpoint.memory")
graphs: Any = pytest.importorskip("langgraph.graph")
kinds: Any = pytest.importorskip("langgraph.types")

PATIENCE_S = 10
TEMPLATE = ChatPromptTemplate.from_template("Question: {question}")
ASKED = {"question": "On time?"}
HANDLED = config()


def model(text: str = "Yes.", **more: Any) -> Scripted:
    """Return a model that says one thing, and takes 5 tokens for it."""
    return Scripted(rule=says(text), **more)


def graph_of(node: Callable[[Any], Any]) -> Any:
    """Return a graph of one node that keeps its messages."""
    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("node", node)
    builder.add_edge(graphs.START, "node")
    return builder.compile(checkpointer=memory.MemorySaver())


def in_thread(thread_id: str, handled_for: str | None = None, **more: str) -> Any:
    """Return a config with a handler and a conversation."""
    configurable = {"thread_id": thread_id, **more}
    return {"callbacks": [TrubricsCallbackHandler(handled_for)], "configurable": configurable}


def ends(events: Events) -> list[tuple[str, str | None, Any, Any]]:
    """Return event, text, calls and tokens of all that was told."""
    return [
        (one.event, one.text, one.get("model_calls"), one.get("total_tokens")) for one in events
    ]


def test_a_chain_that_outlives_its_root(events: Events) -> None:
    """What a chain goes on to ask after its root counts its tokens, and no question again."""

    async def main() -> None:
        told = asyncio.Event()

        async def wait(asked: Any) -> Any:
            await told.wait()
            return asked

        behind = RunnableLambda(wait) | TEMPLATE | model("Behind.")
        tasks: list[Any] = []

        async def root(asked: Any) -> Any:
            tasks.append(asyncio.create_task(behind.ainvoke(asked)))
            await asyncio.sleep(0.05)
            return (await (TEMPLATE | model("Front.")).ainvoke(asked)).content

        await RunnableLambda(root).ainvoke(ASKED, HANDLED)
        told.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert [one[1:] for one in ends(events) if one[0] == "Generation"] == [
        ("Front.", 1, 5),
        ("Behind.", 1, 5),
    ]
    assert len(events.named("Prompt")) == 1
    assert len({one.prompt_id for one in events}) == 1


class Router(BaseChatModel):
    """A model that answers with what another one says, with or without its tokens."""

    inner: Any
    counts: bool = True
    passes: bool = False

    @property
    def _llm_type(self) -> str:
        return "router"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any
    ) -> ChatResult:
        return self._with(self.inner.invoke(messages, self._config(run_manager)))

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any
    ) -> ChatResult:
        said = self.inner.ainvoke(messages, self._config(run_manager))
        # In a task of its own, nothing but its parent says whose it is.
        return self._with(await (asyncio.create_task(said) if self.passes else said))

    def _config(self, run_manager: Any) -> Any:
        if not self.passes:
            return None
        told: Any = run_manager.handlers
        parent: Any = run_manager.run_id
        return {"callbacks": CallbackManager(told, inheritable_handlers=told, parent_run_id=parent)}

    def _with(self, said: AIMessage) -> ChatResult:
        message = said if self.counts else AIMessage(str(said.content))
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("inner", ["a model", "a chain", "a chain told of its parent"])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("where", ["in a chain", "by itself"])
def test_a_model_that_asks_another(
    where: str, counts: bool, inner: str, mode: str, events: Events
) -> None:
    """One answer is counted once, whichever of the two models tells its tokens."""
    behind: Any = model("Hi.") if inner == "a model" else RunnableLambda(list) | model("Hi.")
    router = Router(inner=behind, counts=counts, passes=inner.endswith("parent"))
    asked: Any = ASKED if where == "in a chain" else "On time?"
    chain: Any = TEMPLATE | router if where == "in a chain" else router
    patch_langchain("ada", thread_id="t-1")
    try:
        if mode == "sync":
            chain.invoke(asked)
        else:
            asyncio.run(chain.ainvoke(asked))
    finally:
        unpatch_langchain()
    assert ends(events) == [("Prompt", "On time?", None, None), ("Generation", "Hi.", 1, 5)]
    assert events[-1].assistant_id == "router"


def test_what_the_provider_is_told(events: Events) -> None:
    """An answer that a request goes on from names its conversation; the provider's fields too."""
    config: Any = {"callbacks": [TrubricsCallbackHandler()]}
    Scripted(rule=says("One.", id="resp_1")).invoke("First?", config, user="ada")
    model().invoke("Second?", config, previous_response_id="resp_1", safety_identifier="ada")
    in_turn: Any = RunnableLambda(lambda _: model().invoke("?", previous_response_id="resp_1"))
    in_turn.invoke("Third?", config)
    assert len({one.thread_id for one in events}) == 1
    assert {one.user_id for one in events[:4]} == {"ada"}
    (TEMPLATE | model().bind(conversation={"id": "conv_1"}, user="eve")).invoke(ASKED, config)
    assert {(one.user_id, one.thread_id) for one in events[6:]} == {("eve", "conv_1")}


class Bot:
    """An app's class whose method has the name of one of LangChain's."""

    def _generate(self) -> object:
        return model("Inner.").invoke("Inner?", HANDLED)


def test_a_question_in_the_body_of_a_stream_loop(events: Events) -> None:
    """What the app asks between the pieces of a model's answer is no part of that answer."""
    for number, _ in enumerate(model("One two three").stream("Outer?", HANDLED)):
        if not number:
            Bot()._generate()
    assert sorted(one.text or "" for one in events) == [
        "Inner.",
        "Inner?",
        "One two three",
        "Outer?",
    ]


def test_the_result_of_a_tool_of_the_clients(events: Events) -> None:
    """A tool's result alone is no question: the graph has the rest, and goes on with its turn."""
    asker = Scripted(rule=calls("weather", then="Sunny."))
    graph = graph_of(lambda state: {"messages": [asker.invoke(state["messages"])]})
    graph.invoke({"messages": [("user", "How is it?")]}, in_thread("t-1", "ada"))
    result = ToolMessage("A SECRET", tool_call_id="call-weather")
    graph.invoke({"messages": [result]}, in_thread("t-1", "ada"))
    assert [(one.event, one.text) for one in events] == [
        ("Prompt", "How is it?"),
        ("Tool call", None),
        ("Generation", "Sunny."),
    ]
    assert len({one.prompt_id for one in events}) == 1


def test_a_result_for_a_bare_model(events: Events) -> None:
    """Nor is it one where the provider has the rest."""
    asker = Scripted(rule=calls("weather", then="Sunny."))
    asker.invoke("How is it?", HANDLED)
    asker.invoke([ToolMessage("A SECRET", tool_call_id="call-weather")], HANDLED)
    assert [one.text for one in events] == ["How is it?", None, "Sunny."]
    assert len({one.prompt_id for one in events}) == 1


def test_a_graph_inside_with_a_thread_of_its_own(events: Events) -> None:
    """Who asks, and where, is what the root run was given, whichever model is asked first."""
    inner = graph_of(lambda state: {"messages": [model().invoke(state["messages"])]})

    def node(state: Any) -> Any:
        config = {"configurable": {"thread_id": "inner"}}
        return {"messages": [inner.invoke({"messages": state["messages"]}, config)["messages"][-1]]}

    asked = {"messages": [("user", "On time?")]}
    graph_of(node).invoke(asked, in_thread("outer"))
    graph_of(node).invoke(asked, in_thread("outer", user_id="ada"))
    assert {one.thread_id for one in events} == {"outer"}
    assert [one.user_id for one in events][2:] == ["ada", "ada"]


@pytest.mark.parametrize("how", ["invoke", "batch", "bare", "bound"])
def test_configurable(how: str, events: Events) -> None:
    """What a run is configured with says who asks, however it is run."""
    config: Any = in_thread("t-7", user_id="ada")
    chain = TEMPLATE | model()
    if how == "invoke":
        chain.invoke(ASKED, config)
    elif how == "batch":
        chain.batch([ASKED, ASKED], config)
    elif how == "bare":
        model().invoke("On time?", config)
    else:
        model().bind(stop=["x"]).invoke("On time?", config)
    assert {(one.user_id, one.thread_id) for one in events} == {("ada", "t-7")}


@pytest.mark.skipif(not hasattr(kinds, "interrupt"), reason="this LangGraph has no interrupt()")
def test_a_graph_inside_that_went_on(events: Events) -> None:
    """A turn that went on past an interrupt has the root's answer, and is not interrupted."""

    def node(state: Any) -> Any:
        decided = kinds.interrupt("Proceed?")
        return {"messages": [model(f"Done: {decided}.").invoke(state["messages"])]}

    graph, config = graph_of(node), {"configurable": {"thread_id": "inner"}}

    def drive(asked: str) -> str:
        graph.invoke({"messages": [("user", asked)]}, config)
        result = graph.invoke(kinds.Command(resume=True), config)
        return str(result["messages"][-1].content)

    assert RunnableLambda(drive).invoke("Do it", HANDLED) == "Done: True."
    told = events.one("Generation")
    assert (told.text, told.get("status"), told.get("finish_reason")) == ("Done: True.", "ok", None)


class Both(TypedDict, total=False):
    """A state that keeps an answer of one of its nodes."""

    messages: Annotated[list[Any], graphs.add_messages]
    answer: str


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("around", ["a node", "a function"])
def test_a_graph_inside_that_stops(around: str, goes_on: bool, events: Events) -> None:
    """What a graph inside stops for is the answer, unless the code around it asks a model then."""
    interrupt: Any = getattr(kinds, "interrupt", None)
    if interrupt is None:
        pytest.skip("this LangGraph has no interrupt()")
    inside = graph_of(lambda _: {"messages": [("ai", interrupt("Which city?"))]})

    def stops() -> None:
        given = {"messages": [("user", "On time?")]}
        inside.invoke(given, {"configurable": {"thread_id": "inside"}})

    def run(_: Any) -> Any:
        if goes_on:
            stops()
        said = model("Yes.").invoke("?")
        if not goes_on:
            stops()
        return {"messages": [said]}

    root: Any = graph_of(run) if around == "a node" else RunnableLambda(run)
    root.invoke({"messages": [("user", "On time?")]}, in_thread("t-1", "ada"))
    told = events.one("Generation")
    expected = ("Yes.", "ok", None) if goes_on else ("Which city?", "incomplete", "interrupt")
    assert (told.text, told.get("status"), told.get("finish_reason")) == expected


def test_an_answer_that_the_state_still_has(events: Events) -> None:
    """The answer is what a model of this turn said, not what the state has of an earlier one."""
    builder = graphs.StateGraph(Both)
    builder.add_node("facts", lambda _: {"answer": str(model("A fact.").invoke("?").content)})
    builder.add_node("chat", lambda _: {"messages": [model("A chat.").invoke("?")]})
    builder.add_conditional_edges(
        graphs.START, lambda state: state["messages"][-1].content, ["facts", "chat"]
    )
    graph = builder.compile(checkpointer=memory.MemorySaver())
    for asked in ("facts", "chat", "facts"):
        graph.invoke({"messages": [("user", asked)]}, in_thread("t-1", "ada"))
    texts = [one.text for one in events.named("Generation")]
    assert texts == ["A fact.", "A chat.", "A fact."]


class Canned(TypedDict, total=False):
    """A state with several fields that an answer may be in."""

    question: str
    answer: str
    result: str


def test_each_capture_starts_anew() -> None:
    """What a graph answered in one test is no earlier answer in the next."""

    def node(_: Any) -> Any:
        model("Seven.").invoke("?")
        return {"answer": "We open at 7.", "result": "A draft."}

    builder = graphs.StateGraph(Canned)
    builder.add_node("node", node)
    builder.add_edge(graphs.START, "node")
    graph = builder.compile()
    for _ in range(2):
        with capture() as taken:
            graph.invoke({"question": "When?"}, in_thread("t-1", "ada"))
        assert taken.one("Generation").text == "We open at 7."


class Lame:
    """A model that breaks down each time that it is to answer something of this list."""

    def __init__(self, *breaks: str) -> None:
        self._breaks = list(breaks)

    def __call__(self, messages: list[Any]) -> AIMessage:
        """Answer, or raise."""
        asked: str = messages[-1].content
        if asked in self._breaks:
            self._breaks.remove(asked)
            raise Refused
        return says(f"To {asked}")(messages)


def as_chain(talker: Any) -> Callable[[str], Any]:
    """Return how a chain is asked, which gets the history."""
    place = MessagesPlaceholder("history")
    chain = ChatPromptTemplate.from_messages([place, ("human", "{question}")]) | talker
    history = [HumanMessage("Hi"), AIMessage("Hello.")]
    return lambda asked: chain.invoke({"history": history, "question": asked}, HANDLED)


def as_graph(talker: Any) -> Callable[[str], Any]:
    """Return how a graph is asked, which keeps all, but whose model gets the question alone."""
    graph = graph_of(lambda state: {"messages": [talker.invoke(state["messages"][-1:])]})
    config = in_thread("t-1", "ada")
    return lambda asked: graph.invoke({"messages": [("user", asked)]}, config)


def as_agent(talker: Any) -> Callable[[str], Any]:
    """Return how a graph is asked whose model says something before anything breaks."""

    def node(state: Any) -> Any:
        thought = model("Let me see.").invoke(state["messages"])
        return {"messages": [thought, talker.rule(state["messages"])]}

    graph, config = graph_of(node), in_thread("t-1", "ada")
    return lambda asked: graph.invoke({"messages": [("user", asked)]}, config)


@pytest.mark.parametrize("kind", [as_chain, as_graph, as_agent])
def test_asked_again_after_a_failure(
    kind: Callable[[Any], Callable[[str], Any]], events: Events
) -> None:
    """What an app, or its user, asks again because it failed is one question."""
    ask = kind(Scripted(rule=Lame("Go?", "Go?")))
    for _ in range(2):
        with pytest.raises(Refused):
            ask("Go?")
    ask("Go?")
    names = ["Prompt", "Generation failed", "Generation failed", "Generation"]
    assert [one.event for one in events] == names
    assert len({one.prompt_id for one in events}) == 1


def test_the_same_words_to_something_else(events: Events) -> None:
    """What failed once may be said again later, to another answer, where nothing shows that."""
    ask = as_graph(Scripted(rule=Lame("Yes")))
    with pytest.raises(Refused):
        ask("Yes")
    ask("No")
    ask("Yes")
    assert [one.text for one in events.named("Prompt")] == ["Yes", "No", "Yes"]


def test_the_same_picture_in_a_block_made_anew(events: Events) -> None:
    """LangChain gives each block that it makes another id, as it does for a retry's."""

    def asked() -> list[HumanMessage]:
        picture = {"type": "image", "id": f"lc_{uuid4()}", "url": "https://example.com/cat.png"}
        return [HumanMessage([{"type": "text", "text": "What is this?"}, picture])]

    rules = iter([refuses, says("A cat.")])
    graph = graph_of(
        lambda state: {"messages": [Scripted(rule=next(rules)).invoke(state["messages"])]}
    )
    with pytest.raises(Refused):
        graph.invoke({"messages": asked()}, in_thread("t-1", "ada"))
    graph.invoke({"messages": asked()}, in_thread("t-1", "ada"))
    assert [one.event for one in events] == ["Prompt", "Generation failed", "Generation"]


def _the_same(answer: AIMessage, _: object) -> AIMessage:
    return answer


@pytest.mark.parametrize("root", ["model", "chain"])
@pytest.mark.parametrize("stored", ["text", "message"])
@pytest.mark.parametrize("user", ["ada", None])
def test_commentary_names_no_other_conversation(
    stored: str, root: str, user: Any, events: Events
) -> None:
    """An app may keep a message's text, which is all that was said, or the message."""
    config: Any = {"callbacks": [TrubricsCallbackHandler(user)]}
    tabs: dict[str, list[Any]] = {"A": [], "B": []}
    for turn in range(3):
        for name, tab in tabs.items():
            look = {"type": "text", "text": f"I look {turn}{name}. ", "phase": "commentary"}
            done = {"type": "text", "text": f"Answer {turn}{name}.", "phase": "final_answer"}
            tab.append(HumanMessage(f"{turn} of {name}" if turn else "Hello"))
            answer = AIMessage([look, done])
            talker = Scripted(rule=partial(_the_same, answer))
            (talker if root == "model" else RunnableLambda(list) | talker).invoke(tab, config)
            whole = look["text"] + done["text"]
            tab.append(answer if stored == "message" else AIMessage(whole))
    threads = [one.thread_id for one in events.named("Prompt")]
    assert threads == threads[:2] * 3
    assert len(set(threads)) == 2


@pytest.mark.parametrize("granularity", ["turn", "call"])
@pytest.mark.parametrize("form", ["image_url", "image"])
def test_another_picture_after_a_failure(form: str, granularity: Any, events: Events) -> None:
    """Whoever shows another picture with the same words asks another question."""

    def asked(name: str) -> list[HumanMessage]:
        url = f"https://example.com/{name}.png"
        picture: dict[str, Any] = {"type": form, form: {"url": url}}
        if form == "image":
            picture = {"type": "image", "url": url}
        return [HumanMessage([{"type": "text", "text": "What is this?"}, picture])]

    handled = config(granularity)
    with pytest.raises(Refused):
        Scripted(rule=refuses).invoke(asked("horse"), handled)
    for name in ("bear", "horse"):
        Scripted(rule=says("It is.")).invoke(asked(name), handled)
    names = ["Prompt", "Generation failed", "Prompt", "Generation", "Generation"]
    assert [one.event for one in events] == names
    assert events[-1].prompt_id == events[0].prompt_id


def test_earlier_questions_run_again(events: Events) -> None:
    """An answer to an earlier question, from its checkpoint, is told as one to that question."""
    graph = graph_of(
        lambda state: {
            "messages": [model(f"To {state['messages'][-1].content}").invoke(state["messages"])]
        }
    )
    config = in_thread("t-1", "ada")
    for asked in ("One?", "Two?"):
        graph.invoke({"messages": [("user", asked)]}, config)
    second, first = [one for one in graph.get_state_history(config) if one.next == ("node",)]
    graph.invoke(None, {**config, **first.config})
    graph.invoke(None, {**config, **second.config})
    prompts = [one.prompt_id for one in events.named("Prompt")]
    assert [(one.text, one.prompt_id) for one in events.named("Generation")] == [
        ("To One?", prompts[0]),
        ("To Two?", prompts[1]),
        ("To One?", prompts[0]),
        ("To Two?", prompts[1]),
    ]


HOSTED: dict[str, dict[str, Any]] = {
    "OpenAI's": {"content": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]},
    "OpenAI's apart": {
        "content": [],
        "additional_kwargs": {"tool_outputs": [{"type": "web_search_call", "id": "ws_1"}]},
    },
    "Anthropic's": {
        "content": [{"type": "server_tool_use", "id": "st_1", "name": "web_search", "input": {}}]
    },
    "LangChain's": {
        "content": [{"type": "server_tool_call", "id": "st_1", "name": "web_search", "args": {}}]
    },
    "Anthropic's, of an MCP server": {
        "content": [{"type": "mcp_tool_use", "id": "mt_1", "name": "web_search", "input": {}}]
    },
    "OpenAI's, of an MCP server": {
        "content": [
            {"type": "mcp_list_tools", "id": "ml_1", "server_label": "web", "tools": []},
            {"type": "mcp_call", "id": "mc_1", "name": "web_search", "arguments": "{}"},
        ]
    },
    "LangChain's, of an MCP server": {
        "content": [
            {"type": "server_tool_call", "id": "ml_1", "name": "mcp_list_tools", "args": {}},
            {
                "type": "server_tool_call",
                "id": "mc_1",
                "name": "remote_mcp",
                "args": {},
                "extras": {"tool_name": "web_search", "server_label": "web"},
            },
        ]
    },
    "the app's": {
        "content": [
            {"type": "shell_call", "call_id": "call_1"},
            {"type": "function_call", "id": "fc_1", "name": "web_search", "call_id": "call_2"},
            {"type": "tool_call", "id": "call_2", "name": "web_search", "args": {}},
            {"type": "invalid_tool_call", "id": "call_3", "name": "web_search", "args": "{"},
            {"type": "tool_use", "id": "call_2", "name": "web_search", "input": {}},
        ]
    },
}


@pytest.mark.parametrize("granularity", ["turn", "call"])
@pytest.mark.parametrize("whose", HOSTED)
def test_a_tool_that_the_provider_runs(whose: str, granularity: Any, events: Events) -> None:
    """It is told as `patch_openai()` does, whatever form it has; it is no tool of the app's."""
    shown = HOSTED[whose]
    content = [*shown["content"], {"type": "text", "text": "It rains."}]
    said = AIMessage(content, additional_kwargs=shown.get("additional_kwargs", {}))
    (TEMPLATE | Scripted(rule=lambda _: said)).invoke(ASKED, config(granularity))
    names = [one.get("tool_name") for one in events.named("Tool call")]
    assert names == ([] if whose == "the app's" else ["web_search"])
    told = events.one("Generation")
    assert (told.text, told.get("tool_calls")) == ("It rains.", len(names) or None)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_generation_call", "result": "aGk="}, "image:1"),
        ({"type": "image_generation_call", "result": None, "status": "failed"}, None),
        ({"type": "text-plain", "text": "aGk=", "mime_type": "text/plain"}, "file:1"),
    ],
)
def test_what_an_answer_shows(part: dict[str, Any], kind: str | None, events: Events) -> None:
    """Pictures that OpenAI has drawn, and files of text, are counted."""
    said = AIMessage([part, {"type": "text", "text": "Here."}])
    Scripted(rule=lambda _: said).invoke("Draw it!", HANDLED)
    told = events.one("Generation")
    assert (told.text, told.get("attachments")) == ("Here.", kind)


@pytest.mark.parametrize("mode", ["turn", "call"])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "chain"])
def test_a_cache_that_is_warmed_up(bare: bool, mode: Any, events: Events) -> None:
    """A model that only has its provider get ready for a question is not asked that question."""
    answering: Any = model("Paris.")
    warming = answering.bind(prompt_cache_options={"prewarm": True})
    config: Any = {"callbacks": [TrubricsCallbackHandler("ada", granularity=mode)]}
    for one in (warming, answering):
        (one if bare else TEMPLATE | one).invoke("The capital?" if bare else ASKED, config)
    assert [one.event for one in events] == ["Prompt", "Generation"]
    assert events.one("Generation").get("model_calls") == 1


@pytest.mark.parametrize("mode", ["turn", "call"])
@pytest.mark.parametrize("form", ["phase", "extras"])
def test_what_is_said_on_the_way(form: str, mode: Any, events: Events) -> None:
    """Commentary is no answer, unless nothing else is said, and no tool is called."""

    def part(text: str, phase: str) -> Any:
        about = {"phase": phase} if form == "phase" else {"extras": {"phase": phase}}
        return {"type": "text", "text": text, **about}

    look, done = part("I look.", "commentary"), part("Done.", "final_answer")
    uses = [{"name": "look_up", "args": {}, "id": "call_1"}]
    search: Any = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    config: Any = {"callbacks": [TrubricsCallbackHandler("ada", granularity=mode)]}
    answers = [AIMessage([look, done]), AIMessage([look, search])]
    answers.append(AIMessage([look], tool_calls=uses))
    left = iter(answers)
    for _ in answers:
        Scripted(rule=lambda _: next(left)).invoke("Tidy up!", config)
    assert [one.text for one in events.named("Generation")] == ["Done.", "I look."]
    tools = [one.get("tool_name") for one in events.named("Tool call")]
    assert tools == ["web_search", "look_up"]


def test_a_key_of_the_apps_own_output(events: Events) -> None:
    """What an app calls "parsed" is no structured answer, but where LangChain says so."""

    def answer(asked: str) -> dict[str, object]:
        return {"answer": model("Paris.").invoke(asked).content, "parsed": True}

    RunnableLambda(answer).invoke("The capital?", HANDLED)
    assert events.one("Generation").text == "Paris."


def test_names_in_the_metadata(events: Events) -> None:
    """The app's own data takes no other meaning: texts, ids, tokens and how it turned out."""
    metadata = {"$text": "x", "$prompt_id": "x", "total_tokens": 99, "status": "beta", "plan": "b"}
    config: Any = {**HANDLED, "metadata": metadata}
    (TEMPLATE | model()).invoke(ASKED, config)
    asked, told = events
    assert (asked.text, asked.get("total_tokens"), asked.get("status")) == ("On time?", None, None)
    assert (told.text, told.get("total_tokens"), told.get("status")) == ("Yes.", 5, "ok")
    assert {one.get("plan") for one in events} == {"b"}


class Session:
    """An object of the app's."""


def test_the_apps_objects_are_let_go() -> None:
    """What the app puts into the metadata goes when the app lets go of it, with no collector."""
    chain = TEMPLATE | model()
    chain.invoke(ASKED, HANDLED)
    gc.collect()
    gc.disable()
    try:
        own = Session()
        gone = weakref.ref(own)
        config: Any = {**HANDLED, "metadata": {"session": own}}
        chain.invoke(ASKED, config)
        del config, own
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("wrapped", [False, True], ids=["model", "chain"])
def test_a_result_that_nobody_here_waits_for(wrapped: bool, events: Events) -> None:
    """The result of a tool alone is no question either where another process has asked."""
    asked: Any = RunnableLambda(list) | model("Sunny.") if wrapped else model("Sunny.")
    asked.invoke([ToolMessage("A SECRET", tool_call_id="call-1")], HANDLED)
    assert [(one.event, one.text) for one in events] == [("Generation", "Sunny.")]
