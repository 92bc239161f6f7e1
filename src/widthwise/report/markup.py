"""Text, numbers and formulas as HTML; everything that comes in is escaped here."""

import html
import re
from collections.abc import Container
from xml.etree.ElementTree import Element

import numpy as np
from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

from .digits import TEXT_DIGITS, format_number
from .section import Cell, Formula, Number, Text

_UNNOTICED = 1e-4  # relative error that a sentence leaves out
_CLAIM_ID = re.compile(r"\b[A-Z][A-Z0-9]*-[A-Z]?\d+[a-z]?\b")
# The attributes of presentation MathML that carry no address, no script and no style sheet.
_MATHML_ATTRIBUTES = {
    *("display", "displaystyle", "scriptlevel", "stretchy", "fence", "form", "separator", "symmetric"),
    *("accent", "accentunder", "lspace", "rspace", "minsize", "maxsize", "movablelimits", "largeop"),
    *("linethickness", "mathvariant", "columnalign", "columnspacing", "columnlines", "rowspacing", "rowlines"),
    *("width", "height", "depth"),
}


def number(value: Number, shown: str | None = None) -> Markup:
    """Return a number with its error, or as it is ``shown``; what the error means is its title."""
    if shown is None:
        shown = format_number(value.value, value.error, value.interval, value.unit, value.reason)
    title = Markup(' title="{}"').format(value.error_is) if value.error_is else ""
    kind = "none" if value.value is None else "number"
    return Markup('<span class="{}"{}>{}</span>').format(kind, title, shown)


def math(latex: str, display: str = "inline") -> Markup:
    r"""Return LaTeX as MathML, or as code when it cannot be read.

    >>> math("x^2")
    Markup('<math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>')
    """
    try:
        tree = convert_to_element(latex, display=display)
    except Exception:  # the converter raises some twenty kinds without a common base
        return Markup("<code>{}</code>").format(latex)
    return _element(tree)


def _element(node: Element) -> Markup:
    """Write an element; the converter leaves character references in its text and escapes nothing."""
    allowed = [(name, value) for name, value in node.attrib.items() if name in _MATHML_ATTRIBUTES]
    attributes = Markup("").join(Markup(' {}="{}"').format(name, value) for name, value in allowed)
    inside = escape(html.unescape(node.text or "")) + Markup("").join(map(_element, node))
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(node.tag), attributes, inside)


def linked(text: str, claims: Container[str] = ()) -> Markup:
    """Return plain text in which the IDs of known claims lead to their entry."""
    pieces, end = [], 0
    for match in _CLAIM_ID.finditer(text):
        if match[0] in claims:
            pieces += [escape(text[end : match.start()]), claim_link(match[0])]
            end = match.end()
    return Markup("").join([*pieces, escape(text[end:])])


def claim_link(claim: str) -> Markup:
    """Return a link to the entry of a claim in the section on how the report was made."""
    return Markup('<a class="claim" href="#claim-{0}">{0}</a>').format(claim)


def text(content: Text, claims: Container[str] = ()) -> Markup:
    """Return a text: strings, numbers with their errors, formulas in the line."""
    pieces = (content,) if isinstance(content, str) else content
    return Markup("").join(_piece(piece, claims) for piece in pieces)


def _piece(piece: str | Number | Formula, claims: Container[str]) -> Markup:
    if isinstance(piece, Number):
        return number(piece, told(piece))
    if isinstance(piece, Formula):
        return math(piece.latex)
    return linked(piece, claims)


def statement(content: str) -> Markup:
    """Return the statement of a claim: plain text with LaTeX between dollar signs."""
    pieces = content.split("$")
    if len(pieces) % 2 == 0:
        return escape(content)
    return Markup("").join(math(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces))


def cell(content: Cell, claims: Container[str] = ()) -> Markup:
    """Return the content of a table cell."""
    if isinstance(content, Number):
        return number(content)
    if content is None:
        return Markup('<span class="none">none</span>')
    if isinstance(content, bool | np.bool_):
        return Markup("yes" if content else "no")
    if isinstance(content, str):
        return linked(content, claims)
    return escape(format_number(content))


def plain_text(content: Text) -> str:
    """Return a text without any markup, as it stands in results.json."""
    if isinstance(content, str):
        return content
    return "".join(map(_plain_piece, content))


def _plain_piece(piece: str | Number | Formula) -> str:
    if isinstance(piece, Number):
        return told(piece)
    return piece.latex if isinstance(piece, Formula) else piece


def told(value: Number) -> str:
    """Return the number as it stands in a sentence: an error that no reader would notice is left to results.json."""
    noticed = value.error is not None and not (value.value and value.error < _UNNOTICED * abs(value.value))
    error = value.error if noticed else None
    return format_number(value.value, error, value.interval, value.unit, value.reason, digits=TEXT_DIGITS)
