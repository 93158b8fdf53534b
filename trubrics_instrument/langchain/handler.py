"""`TrubricsCallbackHandler`: LangChain's callbacks, each guarded, each handed on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.base import BaseCallbackHandler

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.observer import observer_of
from trubrics_instrument.langchain import observed, runs, stack
from trubrics_instrument.langchain.forgotten import tell_forgotten
from trubrics_instrument.langchain.messages import each, first_text
from trubrics_instrument.langchain.model import ModelRun, awaiting
from trubrics_instrument.langchain.question import Question, last_question
from trubrics_instrument.langchain.settings import settings_of
from trubrics_instrument.langchain.start import (
    Retrieval,
    Started,
    start_model,
    start_retriever,
    start_step,
    start_tool,
)
from trubrics_instrument.langchain.tools import ToolRun, call_id_in
from trubrics_instrument.langchain.turn import RunTurn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument._context.identity import Source
    from trubrics_instrument.langchain.settings import Granularity, Key, Settings


class TrubricsCallbackHandler(BaseCallbackHandler):
    """Tells Trubrics what the user said and what the app answered: once for each root run.

    One handler may serve every request of the process, and one for each request costs nothing:
    it holds no state, no thread and no connection.

        chain.invoke(question, {"callbacks": [TrubricsCallbackHandler()]})

    Args:
        user_id: Who asks, or a callable that knows it when a run starts.
        thread_id: The conversation, or a callable that knows it.
        assistant_id: The assistant's name, instead of the model's.
        properties: Your own properties of every event: flat, JSON scalars.
        granularity: "turn" for a prompt and an answer for each root run; "call" for each call of
            a model.
        input_key: Where the user's words are in the root run's input: a key, or a callable that
            gets the input and returns them.
        output_key: Where the answer is in its output: the same.
        api_key: Another project's key, instead of `configure()`'s.
        host: Another ingestion API, instead of `configure()`'s.

    Raises:
        ValueError: An unknown granularity, an impossible key, `api_key` or `host`.
    """

    # LangChain asks for each event of each handler, every piece of a stream included: attributes,
    # where its own class has properties.
    ignore_llm: Any = False
    ignore_chat_model: Any = False
    ignore_chain: Any = False
    ignore_agent: Any = False
    ignore_retriever: Any = False
    ignore_retry: Any = True  # one more attempt shows as a run of its own
    ignore_custom_event: Any = True  # these are the app's own
    run_inline: Any = True  # asynchronous code pays no thread hop for each event

    def __init__(
        self,
        user_id: Source = None,
        *,
        thread_id: Source = None,
        assistant_id: str | None = None,
        properties: Mapping[str, object] | None = None,
        granularity: Granularity = "turn",
        input_key: Key = None,
        output_key: Key = None,
        api_key: str | None = None,
        host: str | None = None,
    ) -> None:
        observer = observer_of(
            user_id, thread_id, assistant_id, properties, api_key=api_key, host=host
        )
        self._begin(settings_of(observer, granularity, input_key, output_key))

    def _begin(self, settings: Settings) -> None:
        self._settings = settings
        if settings.granularity == "call":
            self.ignore_chain = self.ignore_agent = self.ignore_retriever = True
        self.enabled = True
        _be_known()

    def __setstate__(self, state: dict[str, object]) -> None:
        """Be known in the process that a pickle was brought to: a pool's, a cluster's."""
        self.__dict__.update(state)
        _be_known()

    def __copy__(self) -> TrubricsCallbackHandler:
        return self

    def __deepcopy__(self, memo: object) -> TrubricsCallbackHandler:
        return self

    def on_chain_start(self, serialized: Any, inputs: Any, **about: Any) -> None:
        """Take note of a chain, a graph, or a step of one."""
        with shield("reading the start of a chain"):
            start_step(self._started(serialized, about), inputs)

    def on_chain_end(self, outputs: Any, **about: Any) -> None:
        """Take note of what it returned."""
        with shield("reading the end of a chain"):
            _end_step(outputs, about)

    def on_chain_error(self, error: BaseException, **about: Any) -> None:
        """Take note of what it raised."""
        with shield("reading the failure of a chain"):
            _fail_step(error, about)

    def on_chat_model_start(self, serialized: Any, messages: Any, **about: Any) -> None:
        """Take note of what a chat model is asked."""
        with shield("reading the request"):
            started = self._started(serialized, about)
            start_model(started, lambda: last_question(each(messages[0])), "chat")

    def on_llm_start(self, serialized: Any, prompts: Any, **about: Any) -> None:
        """Take note of what a text-completion model is asked."""
        with shield("telling the other handlers"):
            tell_forgotten(self, serialized, prompts, about)
        with shield("reading the request"):
            started = self._started(serialized, about)
            start_model(started, lambda: Question(first_text(each(prompts))), "completion")

    def on_llm_new_token(  # its parameters are named one by one: it is called for each token
        self,
        token: Any,
        *,
        run_id: Any,
        chunk: Any = None,
        parent_run_id: Any = None,  # noqa: ARG002 - LangChain's, as is the one below
        tags: Any = None,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Take note of the first piece of an answer; the others mostly come again as one."""
        if not awaiting:
            return
        run = awaiting.get(observed.key_of(run_id))
        if run is not None:
            run.piece(token, chunk)

    def on_llm_end(self, response: Any, **about: Any) -> None:
        """Take note of what a model answered."""
        with shield("reading the answer"):
            run = runs.leave(observed.key_of(about["run_id"]))
            if isinstance(run, ModelRun):
                run.ended(response)

    def on_llm_error(self, error: BaseException, **about: Any) -> None:
        """Take note of what a model call raised, and of what had come by then."""
        with shield("reading a failure"):
            run = runs.leave(observed.key_of(about["run_id"]))
            if isinstance(run, ModelRun):
                run.failed(error, about.get("response"))

    def on_tool_start(self, serialized: Any, input_str: str, **about: Any) -> None:
        """Take note of a tool that runs."""
        with shield("reading the start of a tool"):
            start_tool(self._started(serialized, about), about.get("inputs") or input_str)

    def on_tool_end(self, output: Any, **about: Any) -> None:
        """Take note of its end."""
        with shield("reading the end of a tool"):
            run = _end_step(output, about)
            if isinstance(run, ToolRun):
                run._replace(call_id=run.call_id or call_id_in(output)).ended()

    def on_tool_error(self, error: BaseException, **about: Any) -> None:
        """Take note of its failure."""
        with shield("reading the failure of a tool"):
            run = _fail_step(error, about)
            if isinstance(run, ToolRun):
                run.ended(error)

    def on_retriever_start(self, serialized: Any, query: str, **about: Any) -> None:  # noqa: ARG002 - LangChain's
        """Take note of a retriever."""
        with shield("reading the start of a retriever"):
            start_retriever(self._started(serialized, about))

    def on_retriever_end(self, documents: Any, **about: Any) -> None:
        """Take note of how many documents it found."""
        with shield("reading the end of a retriever"):
            run = runs.leave(observed.key_of(about["run_id"]))
            if isinstance(run, Retrieval):
                run.turn.found_documents(len(each(documents)))

    def on_retriever_error(self, error: BaseException, **about: Any) -> None:  # noqa: ARG002 - LangChain's
        """Take note of its failure."""
        with shield("reading the failure of a retriever"):
            runs.leave(observed.key_of(about["run_id"]))

    def on_interrupt(self, event: object) -> None:
        """Do nothing: a graph's interrupt shows in its runs."""

    def on_resume(self, event: object) -> None:
        """Do nothing: a graph's resumption shows in its runs."""

    def _started(self, serialized: Any, about: Mapping[str, Any]) -> Started:
        key = observed.key_of(about["run_id"])
        return Started(self._settings, key, serialized, about, self.enabled)


def handler_of(settings: Settings) -> TrubricsCallbackHandler:
    """Return a handler of these settings, checked before langchain_core was there."""
    handler = TrubricsCallbackHandler.__new__(TrubricsCallbackHandler)
    handler._begin(settings)
    return handler


def _be_known() -> None:
    """Let other observers know that a handler of ours may be reading what they see."""
    _runtime.state().observers["langchain"] = observed.observes_this_call


def _end_step(output: Any, about: Mapping[str, Any]) -> runs.Run | None:
    """Take note of the end of a run that is no model's; return what it was."""
    key = observed.key_of(about["run_id"])
    run = runs.leave(key)
    if isinstance(run, RunTurn) and run.key == key:
        left = stack.left_stream(about["run_id"])
        run.ended(output, about.get("inputs"), left=left)
    elif run is not None and run.turn is not None:
        run.turn.step_ended(key, output)
    return run


def _fail_step(error: BaseException, about: Mapping[str, Any]) -> runs.Run | None:
    """Take note of its failure; return what it was."""
    key = observed.key_of(about["run_id"])
    run = runs.leave(key)
    if isinstance(run, RunTurn) and run.key == key:
        run.failed(error, about.get("inputs"))
    elif run is not None and run.turn is not None:
        if not isinstance(error, Exception):  # a thread of it may go on
            runs.linger(key, run.turn)
        parent = about.get("parent_run_id")
        run.turn.step_failed(error, key, None if parent is None else observed.key_of(parent))
    return run
