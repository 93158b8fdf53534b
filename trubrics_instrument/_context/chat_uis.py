"""Who sits in front of a chat UI, as its own session says; asked only where the UI is running."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from trubrics_instrument._base.ids import clean_id
from trubrics_instrument._base.shield import shield

if TYPE_CHECKING:
    from collections.abc import Callable


class Session(NamedTuple):
    """A session of a chat UI: its signed-in user, if there is one, and its conversation."""

    user_id: str | None = None
    thread_id: str | None = None


NO_SESSION = Session()
_STREAMLITS_NOBODY = "test@example.com"  # whoever uses an app that has no sign-in


def session() -> Session:
    """Return the session in which the present code runs; nothing is imported to find out."""
    if not _may_run(len(sys.modules)):
        return NO_SESSION
    for module_name, read in _UIS.items():
        module = sys.modules.get(module_name)
        if module is not None:
            with shield("asking a chat UI for its session"):
                found = read(module)
                if found.thread_id:
                    return found
    return NO_SESSION


@lru_cache(maxsize=1)
def _may_run(modules: int) -> bool:
    """Whether one of the UIs is imported, looked up again once there are more modules or fewer.

    Most apps have none, and each event asks.
    """
    del modules
    return not sys.modules.keys().isdisjoint(_NAMES)


def _streamlit(module: Any) -> Session:
    """Source: streamlit 1.67, `runtime/scriptrunner_utils/script_run_context.py`."""
    script_run = module.get_script_run_ctx(suppress_warning=True)
    if script_run is None:
        return NO_SESSION
    about: dict[str, Any] = script_run.user_info or {}
    email = about.get("email")
    user = about.get("sub") or (None if email == _STREAMLITS_NOBODY else email)
    return Session(clean_id(user), clean_id(script_run.session_id))


def _chainlit(module: Any) -> Session:
    """Source: chainlit 2.12, `context.py`, `session.py`."""
    around = module.context_var.get(None)
    if around is None:
        return NO_SESSION
    user = getattr(around.session, "user", None)
    return Session(clean_id(getattr(user, "identifier", None)), clean_id(around.session.thread_id))


def _gradio(module: Any) -> Session:
    """Source: gradio 6.31, `context.py`, `route_utils.py`."""
    request = module.LocalContext.request.get(None)
    if request is None:
        return NO_SESSION
    return Session(clean_id(request.username), clean_id(request.session_hash))


_UIS: dict[str, Callable[[Any], Session]] = {
    "streamlit.runtime.scriptrunner_utils.script_run_context": _streamlit,
    "chainlit.context": _chainlit,
    "gradio.context": _gradio,
}
_NAMES = frozenset(_UIS)
