"""One page for each field of theory, written from the claims themselves: what is stated is what is checked."""

import inspect
from pathlib import Path

from widthwise.claims import Claim, claims

RELATIONS = {
    "Equal": "measured = predicted",
    "AtMost": "measured ≤ predicted",
    "AtLeast": "measured ≥ predicted",
    "Scaling": "the measured values scale as predicted",
}


def _sentence(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def _sources(claim: Claim) -> str:
    cited = ", ".join(f"{{cite:t}}`{key}`" for key in claim.sources)
    own = "derived in this project" if claim.derived_here else ""
    return "; ".join(filter(None, (cited, own)))


def _assumption(assumption) -> str:
    named, why = assumption.__name__.strip("_").replace("_", " "), _sentence(assumption.__doc__)
    return f"{named} ({why.rstrip('.')})" if why else named


def section(claim: Claim) -> str:
    """One claim in MyST."""
    facts = [
        ("Relation", RELATIONS.get(type(claim.relation).__name__, type(claim.relation).__name__)),
        ("Draws", str(claim.draws)),
        ("Assumptions", "; ".join(map(_assumption, claim.assumptions)) or "none that a setup could break"),
        ("Must be found violated", "; ".join(mutant.name for mutant in claim.mutants)),
        ("Sources", _sources(claim)),
    ]
    listed = "\n".join(f"- **{term}:** {what}" for term, what in facts if what)
    return f"({claim.id.lower()})=\n## {claim.id}: {claim.name}\n\n{claim.statement}\n\n{listed}\n"


def page(field: str) -> str:
    """The page of one field in MyST."""
    title = field.replace("-", " ").capitalize()
    found = claims(field)
    lead = (
        f"The {len(found)} claims of this field, each with its prediction, its measurement and the wrong variants\n"
        f"that its check must refuse. Run one with `widthwise check {found[0].id}`, all with `widthwise check --all`.\n"
    )
    return f"# {title}\n\n{lead}\n" + "\n".join(map(section, found))


def write(folder: Path) -> None:
    """Write a page for every field; untouched where nothing changed, so that nothing is built twice."""
    folder.mkdir(exist_ok=True)
    pages = {f"{field}.md": page(field) for field in sorted({claim.field for claim in claims()})}
    for stale in {file.name for file in folder.iterdir()} - pages.keys():
        (folder / stale).unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def setup(app):
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "theory"))
    return {"parallel_read_safe": True}
