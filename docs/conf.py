"""How Sphinx builds the documentation: `make docs`."""

from trubrics_instrument._version import __version__

project = "trubrics-instrument"
author = "The trubrics-instrument contributors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"trubrics-instrument {__version__}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
exclude_patterns = ["decisions/*"]
suppress_warnings = ["myst.xref_missing"]
