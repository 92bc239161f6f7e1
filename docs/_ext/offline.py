"""Take out of the finished pages, or warn of, what a browser would fetch from another machine."""

import re
from pathlib import Path

from sphinx.util import logging

logger = logging.getLogger(__name__)

_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"' >]+"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|author|license))[^>]*\bhref=[\"']?(?:https?:)?//[^\"' >]+"
)


# plotly asks for MathJax in a notebook, though no text of a plot needs it.
_MATHJAX = re.compile(r"<script src=\"https://cdnjs[^\"]*mathjax[^\"]*\"[^>]*></script>")


def _strip(app, exception):
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text("utf-8")
            kept = _MATHJAX.sub("", text)
            if kept != text:
                page.write_text(kept, "utf-8")


def _check(app, exception):
    if exception is None and app.builder.format == "html":
        for page in sorted(Path(app.outdir).rglob("*.html")):
            for found in _FETCHED.findall(page.read_text("utf-8")):
                logger.warning("%s fetches %s", page.relative_to(app.outdir), found)


def setup(app):
    app.connect("build-finished", _strip, priority=400)
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
