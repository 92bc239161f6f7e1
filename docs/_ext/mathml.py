"""Formulas as MathML, written into the page: browsers draw it themselves, so no script has to be fetched."""

import latex2mathml.converter
from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _mathml(node: nodes.Element, display: str) -> str:
    latex = node.astext()
    try:
        return latex2mathml.converter.convert(latex, display=display)
    except Exception as error:  # whatever the parser raises, the page and the formula must be named
        logger.warning("formula %r cannot be drawn: %r", latex, error, location=node)
        raise nodes.SkipNode from error


def _inline(self, node):
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(_mathml(node, "block"))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.add_css_file("mathml.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
