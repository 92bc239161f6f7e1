"""One page for each field of theory, written from the claims themselves: what is stated is what is checked.

What a claim cannot say of itself lies beside this file: `fields/FIELD.md` opens the page of a field, and may hold code
that is run with the page; `proofs/ID.md`, in small letters, is the sketch of a proof that stands below its claim.
"""

import inspect
from pathlib import Path

from sphinx.util import logging

from widthwise.claims import Claim, claims

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
NOTEBOOK = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
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


def _written(folder: str, name: str) -> str:
    """What lies beside this file for a field or a claim, or nothing."""
    file = HERE / folder / f"{name.lower()}.md"
    return file.read_text("utf-8").strip() if file.exists() else ""


def _proof(claim: Claim) -> str:
    sketch = _written("proofs", claim.id)
    return f"\n**Proof sketch.** {sketch}\n" if sketch else ""


def section(claim: Claim) -> str:
    """One claim in MyST, with the sketch of its proof where there is one."""
    facts = [
        ("Relation", RELATIONS.get(type(claim.relation).__name__, type(claim.relation).__name__)),
        ("Draws", str(claim.draws)),
        ("Assumptions", "; ".join(map(_assumption, claim.assumptions)) or "none that a setup could break"),
        ("Must be found violated", "; ".join(mutant.name for mutant in claim.mutants)),
        ("Sources", _sources(claim)),
    ]
    listed = "\n".join(f"- **{term}:** {what}" for term, what in facts if what)
    return f"({claim.id.lower()})=\n## {claim.id}: {claim.name}\n\n{claim.statement}\n\n{listed}\n{_proof(claim)}"


def page(field: str) -> str:
    """The page of one field in MyST."""
    title = field.replace("-", " ").capitalize()
    found = claims(field)
    lead = (
        f"The {len(found)} claims of this field, each with its prediction, its measurement and the wrong variants\n"
        f"that its check must refuse. Run one with `widthwise check {found[0].id}`, all with `widthwise check --all`.\n"
    )
    opening = _written("fields", field)
    front = NOTEBOOK if "{code-cell}" in opening else ""
    return f"{front}# {title}\n\n{lead}\n{opening}\n\n" + "\n".join(map(section, found))


def _tell_of_strays() -> None:
    """A proof or an opening that belongs to nothing is a slip of its name."""
    known = {"proofs": {claim.id.lower() for claim in claims()}, "fields": {claim.field for claim in claims()}}
    for folder, names in known.items():
        for file in sorted((HERE / folder).glob("*.md")):
            if file.stem not in names:
                logger.warning("docs/_ext/%s/%s belongs to no claim or field", folder, file.name)


def write(folder: Path) -> None:
    """Write a page for every field; untouched where nothing changed, so that nothing is built twice."""
    folder.mkdir(exist_ok=True)
    _tell_of_strays()
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
