"""How the manual becomes a site: `make docs` builds it into build/site."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from harness._version import __version__  # noqa: E402

project = "harness"
author = "the authors of harness"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "_extension",
]

# Headings of docstrings beside Google's own, as docs/_extension/api.py writes them.
napoleon_custom_sections = [
    ("Attributes", "params_style"),
    ("Raises in the rank", "params_style"),
    ("Raises from the test", "params_style"),
    ("Raises from the method", "params_style"),
    ("Raises from the test in the parent", "params_style"),
]
napoleon_use_rtype = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
# In docstrings a single backquote means code, as it does in the pages.
default_role = "literal"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"harness {__version__}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_show_copyright = False
html_copy_source = False
# Blocks without a language are what commands print.
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
