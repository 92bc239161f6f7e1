"""The page as a browser would read it: one file, no request, nothing run that was only said."""

import base64
import dataclasses
import enum
import hashlib
import html.parser
import re
from collections import Counter

import pytest

from widthwise.report import Figure, Formula, Metadata, Number, Section, Series
from widthwise.report.figures import javascript
from widthwise.report.page import render
from widthwise.report.palette import DARK, LIGHT

HOSTILE = (
    """<script>alert(1)</script><img src=x onerror='alert(1)'></script><!-- <b>&lt; $x$ %{y} {{7*7}} "\u202e\u2028"""
)
VOCABULARY = {"key", "role", "kind", "x_scale", "y_scale", "axis", "latex", "time"}


class Reader(html.parser.HTMLParser):
    """Collect elements, attributes, the text inside and outside of scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.text = Counter(), [], [], ""
        self.inside = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside = tag if tag in {"script", "style"} else None
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            attrs, source = self.scripts[-1]
            self.scripts[-1] = (attrs, source + data)
        elif self.inside is None:
            self.text += data


def poison(value):
    """Put the hostile text in every field that holds words."""
    if isinstance(value, tuple):
        return tuple(map(poison, value))
    if isinstance(value, str):
        return HOSTILE
    if not dataclasses.is_dataclass(value) or isinstance(value, enum.Enum):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    words = {name: poison(item) for name, item in fields.items() if name not in VOCABULARY}
    return dataclasses.replace(value, **words)


@pytest.fixture(scope="module")
def page(sections, metadata):
    return render(sections, metadata, known=())


@pytest.fixture(scope="module")
def hostile(sections, metadata):
    poisoned = dataclasses.replace(poison(metadata), versions={HOSTILE: HOSTILE}, pending=(HOSTILE,))
    return render([poison(section) for section in sections], poisoned, known=())


def without_plotly(page: str) -> str:
    assert page.count(javascript()) == 1
    return page.replace(javascript(), "")


def test_hostile_text_makes_no_element_and_no_attribute(page, hostile):
    tame, wild = Reader(page), Reader(hostile)
    assert wild.tags.keys() <= tame.tags.keys() | {"code"}
    assert wild.tags["script"] == tame.tags["script"]
    assert wild.tags["img"] == 0
    assert not [name for _, name, _ in wild.attributes if name.startswith("on")]
    assert wild.text.count("<script>alert(1)</script>") > 100


def test_hostile_text_does_not_end_the_data_of_the_figures(hostile):
    (data,) = [source for attrs, source in Reader(hostile).scripts if attrs.get("id") == "_figures"]
    assert not set("<>&\u2028") & set(data)
    assert data.endswith("}")


def test_the_page_asks_the_network_for_nothing(page):
    reader = Reader(page)
    loading = {"src", "srcset", "href", "action", "data", "poster", "background", "xlink:href"}
    assert all(value.startswith("#") for _, name, value in reader.attributes if name in loading)
    rest = without_plotly(page)
    for word in ("http://", "https://", "@import", "url(", "MathJax", "//cdn", "fetch(", "XMLHttpRequest", "<link"):
        assert word not in rest, word


def test_a_policy_forbids_every_request_and_every_other_script(page):
    reader = Reader(page)
    (policy,) = [value for tag, name, value in reader.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none';")
    assert "'unsafe-eval'" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    run = [source for attrs, source in reader.scripts if attrs.get("type") != "application/json"]
    assert len(run) == 3
    for source in run:
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_plotly_comes_only_with_figures(metadata):
    page = render([Section("a", "A", "lead")], metadata, known=())
    assert javascript() not in page
    assert len(page) < 60_000


def test_both_themes_and_paper_are_there(page):
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert f"--paper: {LIGHT['paper']}" in style
    assert f"--paper: {DARK['paper']}" in style
    for rule in ("prefers-color-scheme: dark", "[data-theme=light]", "[data-theme=dark]", "@media print"):
        assert rule in style
    named = set(re.findall(r"var\(--([\w-]+)", style)) - {"rows"}
    defined = set(re.findall(r"--([\w-]+):", style))
    assert named <= defined


def test_links_lead_somewhere_and_names_are_unique(page):
    reader = Reader(page)
    names = [value for _, name, value in reader.attributes if name == "id"]
    assert len(names) == len(set(names))
    links = [value[1:] for tag, name, value in reader.attributes if (tag, name) == ("a", "href")]
    assert set(links) <= set(names)
    assert "claim-LAZY-C1" in links


def test_every_plot_is_described_and_has_its_data_in_a_table(page, sections):
    figures = [figure for section in sections for figure in section.figures]
    labels = [value for tag, name, value in Reader(page).attributes if (tag, name) == ("div", "aria-label")]
    for figure in figures:
        assert f"{figure.title}. {figure.caption}" in labels
    assert page.count("The data of this figure") == len(figures)


def test_verdicts_are_said_in_words(page):
    words = Reader(page).text
    for word in ("1 violated", "1 inconclusive", "1 not applicable", "does not apply, because"):
        assert word in words


def test_numbers_carry_their_errors(page):
    words = Reader(page).text
    for shown in (
        "0.02170 ± 0.00080",
        "0.972 [0.950, 0.985]",
        "none (no line search was run)",
        "∞ (diverged at step 41)",
    ):
        assert shown in words


def test_statements_and_sources_of_claims_are_shown(sections, metadata):
    words = Reader(render(sections, metadata)).text
    assert "Gradient descent" in words


def test_a_partial_report_says_what_is_missing(sections, metadata):
    partial = dataclasses.replace(metadata, pending=("Test accuracy",))
    words = Reader(render(sections[:3], partial, known=())).text
    assert "This report is partial." in words
    assert "Test accuracy (not yet)" in words
    assert "Partial report: digits" in words


def test_a_report_without_any_section_is_a_page(metadata):
    assert "How this was made" in Reader(render([], metadata, known=())).text


def test_a_long_series_is_cut_in_the_table_but_not_in_the_plot(metadata):
    long = Figure("long", "Long", "c", (Series("s", range(500), range(500)),), "x", "y")
    page = render([Section("a", "A", "lead", figures=(long,))], metadata, known=())
    assert "the first 200 of 500 rows; all are in results.json" in page
    assert page.partition('id="_figures">')[2].partition("</script>")[0].count("499.0") == 2


def test_text_is_never_read_as_a_template_or_as_markup(metadata):
    number = Number("n", 1.0, unit="<u>")
    section = Section("a", "{{ 7 * 7 }}", ("{% raw %}", number, Formula("x")), notes=("&amp;",))
    words = Reader(render([section], metadata, known=())).text
    assert all(shown in words for shown in ("{{ 7 * 7 }}", "{% raw %}", "1 <u>", "&amp;"))


def test_metadata_may_be_bare():
    bare = Metadata(dataset="d", network="n", command="c", seed=0, versions={})
    assert "Written by widthwise." in Reader(render([], bare, known=())).text
