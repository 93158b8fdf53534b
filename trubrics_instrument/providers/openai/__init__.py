"""`patch_openai()`: every question that goes through the OpenAI client."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from trubrics_instrument import _runtime
from trubrics_instrument._base.wrapper import around, around_async
from trubrics_instrument._observing.methods import MethodPatch, PatchPoint
from trubrics_instrument._observing.observer import observer_of
from trubrics_instrument.providers.openai import _request, _websocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument._context.identity import Source
    from trubrics_instrument._observing.patch import Patch

# The helpers of `.stream()` close the response behind the back of the stream that they read.
_POINTS = [
    PatchPoint("openai", "OpenAI.request", around(_request.watch)),
    PatchPoint("openai", "AsyncOpenAI.request", around_async(_request.watch)),
    *(
        PatchPoint(module, f"{name}.close", _request.close)
        for module, name in (
            ("openai", "Stream"),
            ("openai", "AsyncStream"),
            ("openai._response", "APIResponse"),
            ("openai._response", "AsyncAPIResponse"),
            ("openai.lib.streaming.chat", "ChatCompletionStream"),
            ("openai.lib.streaming.chat", "AsyncChatCompletionStream"),
            ("openai.lib.streaming.responses", "ResponseStream"),
            ("openai.lib.streaming.responses", "AsyncResponseStream"),
        )
    ),
    *_websocket.POINTS,
]


def patch_openai(
    *,
    user_id: Source = None,
    thread_id: Source = None,
    properties: Mapping[str, object] | None = None,
    api_key: str | None = None,
    host: str | None = None,
) -> Patch:
    """Observe every question that goes through the OpenAI client, in the whole process.

    It works before and after `import openai`, for clients that exist and for those to come. Called
    again it replaces all that it was told, and still observes each question once.

    Args:
        user_id: Who asks, or a callable that knows it at the time of a call.
        thread_id: The conversation, or a callable that knows it.
        properties: Your own properties of every event: flat, JSON scalars.
        api_key: Another project's key, instead of `configure()`'s.
        host: Another ingestion API, instead of `configure()`'s.

    Returns:
        The patch: `undo()` takes it off. As a context manager it is on in the block, and after it
        as it was before.

    Raises:
        ValueError: Impossible properties, an impossible `api_key` or `host`, or a `TRUBRICS_…`
            variable that is impossible where `configure()` was not called.
    """
    _runtime.check_environment()
    observer = observer_of(user_id, thread_id, None, properties, api_key=api_key, host=host)
    patch = cast("MethodPatch", _runtime.state().patches.setdefault("openai", MethodPatch(_POINTS)))
    patch.put_on(observer)
    return patch


def unpatch_openai() -> None:
    """Take the patch off; nothing happens if it is not on."""
    patch = _runtime.state().patches.get("openai")
    if patch is not None:
        patch.undo()
