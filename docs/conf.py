"""How Sphinx builds the site: `make docs`."""

import sys
from pathlib import Path

import rlspo

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "rlspo"
author = "rlspo contributors"
copyright = "2026, rlspo contributors"
release = version = rlspo.__version__

extensions = ["mathml", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_extensions", "_results"]
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# Types stand in the signature; what a parameter means stands in the text.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"rlspo {release}"
html_math_renderer = "mathml"
html_static_path = ["_static/site.css"]
html_css_files = ["site.css"]
