"""Equations as MathML, made when the site is built: a browser shows them without a script and without a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(tex: str, block: bool) -> str:
    """MathML of an equation.

    :param tex: what stands between the dollars
    :param block: on a line of its own
    :raises MathError: if docutils does not know a command in it
    """
    # docutils sets an index below an accent, log against its argument, and a prime on the line, unless told otherwise.
    tex = re.sub(r"\\(?:hat|tilde|bar) ?(?:\w|\{\w\})", r"{\g<0>{}}", tex)
    tex = re.sub(r"\\log (?=[A-Za-z\\])", r"\\log\\, ", tex)
    tex = re.sub(r"'+", lambda primes: "^{" + r"\prime" * len(primes[0]) + "}", tex)
    return tex2mathml(tex.strip(), as_block=block)


def _append(translator: Any, node: nodes.math | nodes.math_block, tag: str) -> None:
    try:
        equation = mathml(node.astext(), block=tag == "div")
    except MathError as error:
        logger.warning("equation %r: %s", node.astext(), error, location=node)
        equation = translator.encode(node.astext())
    translator.body.append(f"{translator.starttag(node, tag, '', CLASS='math notranslate nohighlight')}{equation}</{tag}>")
    raise nodes.SkipNode


def _visit_inline(translator: Any, node: nodes.math) -> None:
    _append(translator, node, "span")


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    _append(translator, node, "div")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
