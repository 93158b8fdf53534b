"""`patch_langchain()`: every run of the process, with no `callbacks=` anywhere."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from trubrics_instrument import _runtime
from trubrics_instrument._base.shield import shield
from trubrics_instrument._observing.observer import observer_of
from trubrics_instrument._observing.patch import Patch
from trubrics_instrument.langchain.settings import Granularity, Key, Settings, settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trubrics_instrument._context.identity import Source

# Where LangChain looks for the handlers that every run gets.
HOOKS = "langchain_core.tracers.context"


def patch_langchain(
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
) -> Patch:
    """Observe every LangChain run of the process, as if each had a handler of ours.

    The arguments are those of `TrubricsCallbackHandler`. A run that has such a handler keeps it,
    and is counted by it alone. It works before and after `import langchain_core`; called again, it
    changes what it was told.

    Returns:
        The patch: `undo()` takes it off. As a context manager it is on in the block, and after it
        as it was before.

    Raises:
        ValueError: An unknown granularity, an impossible key, `api_key` or `host`, or a
            `TRUBRICS_…` variable that is impossible where `configure()` was not called.
    """
    _runtime.check_environment()
    observer = observer_of(user_id, thread_id, assistant_id, properties, api_key=api_key, host=host)
    settings = settings_of(observer, granularity, input_key, output_key)
    patch: HandlerPatch = _runtime.state().patches.setdefault("langchain", HandlerPatch())
    patch.put_on(settings)
    return patch


def unpatch_langchain() -> None:
    """Take the patch off; nothing happens if it is not on."""
    patch = _runtime.state().patches.get("langchain")
    if patch is not None:
        patch.undo()


class HandlerPatch(Patch):
    """A handler that every run gets, put on and taken off like any other patch.

    Source: langchain-core 0.3.10 to 1.8.2, `tracers/context.py`: the default of a context variable
    holds in every thread and task, and a run that has a handler of the same class gets no second.
    """

    def __init__(self) -> None:
        super().__init__([HOOKS])
        self._settings = self._given = Settings()
        self._handler: Any = None
        self._hook: Any = None

    def _become(self, what: Any) -> None:
        self._settings = what

    def _uncover(self) -> None:
        # Runs that are under way are still told to their end.
        if self._hook is None:
            return
        self._handler.enabled = False
        with shield("taking a patch off"):
            # There is no public way to unregister.
            hooks: list[Any] = sys.modules[HOOKS]._configure_hooks
            hooks[:] = [hook for hook in hooks if hook is not self._hook]
        self._hook = None

    def _patch(self, name: str, module: Any) -> None:  # noqa: ARG002 - there is one
        if not self.active:
            return
        from trubrics_instrument.langchain.handler import (  # noqa: PLC0415 - it imports langchain_core
            TrubricsCallbackHandler,
            handler_of,
        )

        with self._lock:  # nothing is imported any more
            if not self._on or (self._hook is not None and self._given is self._settings):
                return
            self._uncover()
            self._handler, self._given = handler_of(self._settings), self._settings
            variable: ContextVar[Any] = ContextVar("trubrics_handler", default=self._handler)
            module.register_configure_hook(
                variable, inheritable=True, handle_class=TrubricsCallbackHandler
            )
            self._hook = module._configure_hooks[-1]
