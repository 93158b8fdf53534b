"""Where a run comes from: its model and provider, who asks, and the app's own metadata."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from trubrics_instrument._base.hosts import is_address
from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._context.identity import (
    NO_CLAIM,
    OWN_THREAD_KEY,
    OWN_USER_KEY,
    THREAD_KEYS,
    USER_KEYS,
    Claim,
    claimed_by_keys,
    first_of,
)
from trubrics_instrument.langchain.messages import field, first_text, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import ContextVar

SKIP_TAG = "trubrics:skip"

# `model` first: after `.bind(model=…)`, `model_name` still names the model from before.
_MODEL_KEYS = ("model", "model_name", "model_id", "deployment_name", "azure_deployment")
_NOT_THE_APPS = ("ls_", "lc_", "langgraph_", "checkpoint_", "__")
_LANGGRAPHS = frozenset({"run_id", "task_id", "graph_id", "assistant_id"})
_TOLD_TO_OPENAI = frozenset({"safety_identifier", "user", "conversation"})
_CLAIMING = frozenset({*USER_KEYS, *THREAD_KEYS})


class Origin(NamedTuple):
    """Which model a model run asks, as far as its start tells.

    Attributes:
        model: The model as asked for.
        kind: What to call a model that has no name: its type, else its class.
        provider: Who serves it.
        framework: "langgraph" inside a graph, else "langchain".
        operation: The kind of request: "chat", "completion".
        claim: Who asks, and where, in the provider's own fields.
        previous_id: The id of the answer that it goes on from, which the provider keeps.
    """

    model: str | None
    kind: str
    provider: str | None
    framework: str
    operation: str
    claim: Claim = NO_CLAIM
    previous_id: str | None = None


UNKNOWN = Origin(None, "unknown", None, "langchain", "chat")


def origin_of(serialized: Any, metadata: Mapping[str, Any], params: Any, operation: str) -> Origin:
    """Return which model is asked."""
    params, made_with = mapping(params), mapping(field(serialized, "kwargs"))
    model = first_text([metadata.get("ls_model_name")]) or _model_in(params)
    provider = first_text([metadata.get("ls_provider")])
    kind = params.get("_type") or _kind_in(serialized)
    return Origin(
        model=model or _model_in(made_with),
        kind=str(kind or "unknown"),
        provider=_provider(provider, _address(made_with)) if provider == "openai" else provider,
        framework="langgraph" if "langgraph_node" in metadata else "langchain",
        operation=operation,
        claim=_claim_in(params),
        previous_id=first_text([params.get("previous_response_id")]),
    )


def _address(made_with: Mapping[str, Any]) -> str | None:
    """Return where a model of OpenAI's kind is asked, if anybody said: else its client looks it up.

    Source: openai 1.40 to 3.57, `_client.py`.
    """
    return first_text([made_with.get("openai_api_base")]) or os.environ.get("OPENAI_BASE_URL")


@lru_cache(maxsize=1_000)
def _provider(said: str, address: str | None) -> str | None:
    """Return who serves the model: LangChain calls every host that speaks OpenAI's API "openai"."""
    if address is None or not is_address(address):
        return said
    host = urlsplit(address).hostname or ""
    return said if f".{host}".endswith(".openai.com") else host


def _claim_in(params: Mapping[str, Any]) -> Claim:
    """Return what OpenAI is told. Source: langchain-core 0.3.10 to 1.8.3, `invocation_params`."""
    if _TOLD_TO_OPENAI.isdisjoint(params):
        return NO_CLAIM
    conversation = params.get("conversation")
    user_id = first_text([params.get("safety_identifier"), params.get("user")])
    thread_id = first_text([field(conversation, "id"), conversation])
    return Claim(clean_id(user_id), clean_id(thread_id))


def _model_in(arguments: Mapping[str, Any]) -> str | None:
    return first_text(arguments.get(key) for key in _MODEL_KEYS) if arguments else None


def _kind_in(serialized: Any) -> Any:
    path = field(serialized, "id")
    return path[-1] if path else field(serialized, "name")


def own_properties(metadata: Mapping[str, Any]) -> dict[str, object]:
    """Return what the app itself put into the metadata: JSON scalars, copied."""
    return {
        str(key): value  # the app may use anything for a key
        for key, value in metadata.items()
        if isinstance(value, (str, int, float, bool))
        and not str(key).startswith(_NOT_THE_APPS)
        and key not in _LANGGRAPHS
    }


def own_keys(*metadata: Mapping[str, Any]) -> dict[str, object]:
    """Return `trubrics_user_id` and `trubrics_thread_id`, by whichever metadata has them first."""
    found: dict[str, object] = {}
    for one in reversed(metadata):
        for key in (OWN_USER_KEY, OWN_THREAD_KEY):
            if one.get(key):
                found[key] = one[key]
    return found


def claim_of(configurable: Mapping[str, Any], *metadata: Mapping[str, Any]) -> Claim:
    """Return who asks, and where: `configurable` first, for metadata can hold a stale thread.

    That of the root run before that of the code here, which may be a graph inside it with a thread
    of its own. Source: langgraph 0.6.11 to 1.2.2 repeat the first call's `thread_id`
    (langgraph#7441).
    """
    return claim_in(configurable, mapping(_config().get("configurable")), *metadata)


def claim_in(*told: Mapping[str, Any]) -> Claim:
    """Return who asks, and where, by the usual keys of whichever has them first."""
    claiming = [one for one in told if not _CLAIMING.isdisjoint(one)]
    return first_of([claimed_by_keys(one) for one in claiming]) if claiming else NO_CLAIM


def enclosing_run_id() -> Any:
    """Return the id of the run that the present code runs in, whatever its callbacks are told.

    `RunnableWithFallbacks`, and a call with callbacks of its own, forget their parent.
    Source: langchain-core 0.3.10 to 1.8.2, `runnables/fallbacks.py` (langchain#36072).
    """
    return field(_config().get("callbacks"), "parent_run_id")


def _config() -> Mapping[str, Any]:
    """Return the config of the run that the present code runs in."""
    return mapping(_config_variable().get())


@cache
def _config_variable() -> ContextVar[Any]:
    from langchain_core.runnables.config import var_child_runnable_config  # noqa: PLC0415 - heavy

    return var_child_runnable_config
