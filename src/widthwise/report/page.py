"""The page: sections in, one self-contained HTML file out.

No request leaves the machine that shows it: scripts and styles are inlined, and a content security
policy forbids everything else. It names the scripts by their digest, so that a script smuggled in
through the data would not run even if an escape were missing somewhere.
"""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from importlib import resources

import jinja2
from markupsafe import Markup

from widthwise.claims import Claim, claims

from . import views
from .figures import javascript, specification
from .palette import DARK, LIGHT, variables
from .section import Figure, Metadata, Section

GENERATOR = '<meta name="generator" content="widthwise">'
SUMMARY, HOW = "summary", "how"  # keys of the sections with a place of their own


def render(sections: Sequence[Section], metadata: Metadata, known: Iterable[Claim] | None = None) -> str:
    """Return the page of a report as HTML.

    sections: in the order of the page; the one with key "summary" is the opening paragraph, the
    one with key "how" tells how the report was made, and the page adds the command, the versions
    and a register of the claims to it (or makes such a section when there is none).
    known: the claims whose statements and sources the register shows; all of them by default.
    """
    register = views.register(sections, claims() if known is None else known)
    figures = [figure for section in sections for figure in section.figures]
    scripts = {"theme_js": _asset("theme.js"), "page_js": _asset("page.js")}
    if figures:
        scripts["plotly_js"] = javascript()
    template = _environment(register).get_template("page.html.jinja")
    return template.render(
        metadata=metadata,
        entries=views.entries(sections, SUMMARY, HOW),
        tally=views.tally(sections),
        register=list(register.values()),
        duration=views.duration(metadata.seconds),
        versions=list(metadata.versions.items()),
        figures=_embedded(figures),
        generator=Markup(GENERATOR),
        policy=_policy(scripts.values()),
        css=Markup(_style()),
        **{name: Markup(source) for name, source in scripts.items()},
    )


def _environment(register: Collection[str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("widthwise.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= views.filters(register)
    return environment


def _asset(name: str) -> str:
    return resources.files("widthwise.report").joinpath("assets", name).read_text("utf-8")


def _style() -> str:
    """Return the style sheet: the colours of both themes, light on paper, then the rules."""
    light, dark = variables(LIGHT), variables(DARK)
    return "\n".join(
        (
            f":root {{ color-scheme: light; {light} }}",
            f"@media (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; {dark} }} }}",
            f":root[data-theme=light] {{ color-scheme: light; {light} }}",
            f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}",
            f"@media print {{ :root, :root[data-theme] {{ color-scheme: light; {light} --paper: #fff; }} }}",
            _asset("page.css"),
        )
    )


def _policy(scripts: Iterable[str]) -> str:
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _embedded(figures: Sequence[Figure]) -> Markup:
    """Return the figures as JSON that cannot end the script element it stands in."""
    if not figures:
        return Markup("")
    data = {figure.key: specification(figure) for figure in figures}
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
