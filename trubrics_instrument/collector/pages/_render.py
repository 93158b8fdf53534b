"""Filling a template in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from trubrics_instrument._version import __version__
from trubrics_instrument.collector import wording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(wording.FILTERS)


def render(
    request: Request, template: str, shown: Mapping[str, object], *, status: int = 200
) -> HTMLResponse:
    """Return the page that `template` makes of what is shown.

    Every link in a template starts with `base`, so that the app can be mounted anywhere.
    """
    base = base_path(request)
    path = request.scope["path"].removeprefix(base)
    section = "/" + path.strip("/").partition("/")[0]
    text = _TEMPLATES.get_template(template).render(
        **shown, base=base, section=section, version=__version__
    )
    return HTMLResponse(text, status)


def base_path(request: Request) -> str:
    """Return where the app is mounted; "" at the root."""
    return str(request.scope.get("root_path", "")).rstrip("/")
