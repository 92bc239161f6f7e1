"""`widthwise list`: what can be checked."""

from typing import Any

from rich.text import Text

from widthwise.claims import Claim, citation, claims

from .console import write_json, write_table
from .options import Field, Flag, JsonFlag

_TOLD = ("id", "name", "field", "statement", "sources", "derived_here", "draws")


def list_claims(field: Field = None, long: Flag = False, as_json: JsonFlag = False) -> int:
    """List the claims: theorems that can be checked on real networks.

    Args:
        field: Only the claims of one field, such as lazy-training.
        long: Show what each claim states, in LaTeX, and whose theorem it is.
        as_json: Write JSON for programs.
    """
    found = claims(field)
    if as_json:
        write_json([_as_data(claim) for claim in found])
    else:
        header = ("claim", "name", "field", *(("statement", "source") if long else ()))
        write_table(header, [_row(claim, long) for claim in found], headed=False)
    return 0


def _row(claim: Claim, long: bool) -> tuple[Text, ...]:
    row = (Text(claim.id, style="bold"), Text(claim.name, no_wrap=True), Text(claim.field))
    if not long:
        return row
    origin = ("derived in this project",) if claim.derived_here else ()
    return (*row, Text(claim.statement), Text("; ".join((*map(citation, claim.sources), *origin))))


def _as_data(claim: Claim) -> dict[str, Any]:
    return {key: getattr(claim, key) for key in _TOLD} | {"mutants": [mutant.name for mutant in claim.mutants]}
