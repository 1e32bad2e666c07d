"""How Sphinx builds the site: `make docs`."""

import rlspo

project = "rlspo"
author = "rlspo contributors"
copyright = "2026, rlspo contributors"
release = version = rlspo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_results"]
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# Types stand in the signature; what a parameter means stands in the text.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"rlspo {release}"
