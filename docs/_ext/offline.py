"""Warn of everything in a finished page that a browser would fetch from another machine."""

import re
from pathlib import Path

from sphinx.util import logging

logger = logging.getLogger(__name__)

_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"' >]+"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|author|license))[^>]*\bhref=[\"']?(?:https?:)?//[^\"' >]+"
)


def _check(app, exception):
    if exception is None and app.builder.format == "html":
        for page in sorted(Path(app.outdir).rglob("*.html")):
            for found in _FETCHED.findall(page.read_text("utf-8")):
                logger.warning("%s fetches %s", page.relative_to(app.outdir), found)


def setup(app):
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
