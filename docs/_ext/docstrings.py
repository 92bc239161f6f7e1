"""Docstrings write formulas between dollars; reStructuredText wants roles and directives."""

import re

_BLOCK = re.compile(r"^(?P<indent>[ ]*)\$\$(?P<formula>.+?)\$\$[ ]*(?P<end>[.,;]?)[ ]*$", re.DOTALL | re.MULTILINE)
# No digit after the closing dollar, and no backquote around: prices and code are no formulas.
_INLINE = re.compile(r"(?<![\\`$\w])\$(?![\s$])(?P<formula>[^$]+?)(?<![\s\\])\$(?![\d`$])")


def _block(match: re.Match) -> str:
    formula = " ".join(match["formula"].split())
    return f"\n{match['indent']}.. math:: {formula}{match['end']}\n"


def _inline(match: re.Match) -> str:
    return f":math:`{' '.join(match['formula'].split())}`"


def _outside(pattern: str, text: str, change) -> str:
    """Change what lies outside the matches of a pattern with one group."""
    pieces = re.split(pattern, text, flags=re.DOTALL | re.MULTILINE)
    pieces[::2] = [change(piece) for piece in pieces[::2]]
    return "".join(pieces)


def _prose(text: str) -> str:
    text = _INLINE.sub(_inline, _BLOCK.sub(_block, text))
    # A bar is an absolute value here, never a substitution.
    return _outside(r"(``.*?``|`.*?`|^[ ]*\.\. math::[^\n]*)", text, lambda piece: piece.replace("|", r"\|"))


def formulas(text: str) -> str:
    """`$x$` becomes a math role and `$$x$$` a math directive, outside examples."""
    return _outside(r"(^[ ]*>>>.*?(?:\n[ ]*\n|\Z))", text, _prose)


def _process(app, what, name, obj, options, lines):
    lines[:] = formulas("\n".join(lines)).split("\n")


def setup(app):
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True}
