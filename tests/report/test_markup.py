"""Text and formulas as HTML that cannot carry a script."""

from xml.etree import ElementTree

import numpy as np
import pytest

from widthwise.claims import claims
from widthwise.report import Formula, Number, markup


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{</mtext></math><img src=x onerror=alert(1)>}",
        r"\href{javascript:alert(1)}{x}",
        r"\class{a}{x} \id{b}{y} \style{color:red}{z}",
        r"\text{&lt;b&gt;} < > & \&",
        r"\frac{<b>",
    ],
)
def test_a_formula_holds_only_mathematics(latex):
    shown = str(markup.math(latex))
    tree = ElementTree.fromstring(shown)
    assert all(node.tag in {"code", "math"} or node.tag.startswith("m") for node in tree.iter())
    assert {name for node in tree.iter() for name in node.attrib} <= markup._MATHML_ATTRIBUTES
    assert "<script" not in shown
    assert "<img" not in shown


@pytest.mark.parametrize("latex", ["", "{", r"\frac{", r"\left(", r"\begin{matrix}"])
def test_what_cannot_be_read_as_a_formula_is_shown_as_it_is(latex):
    assert markup.math(latex) == f"<code>{latex}</code>"


def test_the_statement_of_every_claim_can_be_read():
    for claim in claims():
        shown = markup.statement(claim.statement)
        assert "<code>" not in shown, claim.id
        assert "$" not in shown, claim.id


def test_an_odd_dollar_is_a_dollar():
    assert markup.statement("it costs $5 & more") == "it costs $5 &amp; more"


def test_only_known_claims_become_links():
    shown = markup.linked("see LAZY-C1, LAZY-C12 and <OPT-1>", {"LAZY-C1", "OPT-1"})
    assert shown.count("<a ") == 2
    assert 'href="#claim-LAZY-C1">LAZY-C1</a>, LAZY-C12 and &lt;<a' in shown


def test_numbers_and_formulas_stand_in_the_text():
    content = ("a < ", Number("n", 0.5, 0.01, error_is="1 & 2"), Formula("x"), " b")
    shown = markup.text(content)
    assert '<span class="number" title="1 &amp; 2">0.500 ± 0.010</span>' in shown
    assert shown.startswith("a &lt; ")
    assert markup.plain_text(content) == "a < 0.500 ± 0.010x b"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (True, "yes"),
        (np.bool_(False), "no"),
        (np.float64(0.5), "0.5"),
        (None, '<span class="none">none</span>'),
        (1797, "1,797"),
        ("<b>", "&lt;b&gt;"),
        (float("nan"), "not a number"),
    ],
)
def test_every_kind_of_cell_has_its_words(content, shown):
    assert markup.cell(content) == shown
