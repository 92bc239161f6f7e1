"""`widthwise list`: what can be checked."""

from typing import Any

from rich.text import Text

from widthwise.claims import Claim, claims

from .console import write_json, write_table
from .options import Field, JsonFlag

_TOLD = ("id", "name", "field", "statement", "sources", "derived_here", "draws")


def list_claims(field: Field = None, as_json: JsonFlag = False) -> int:
    """List the claims: theorems that can be checked on real networks.

    Args:
        field: Only the claims of one field, such as lazy-training.
        as_json: Write JSON for programs.
    """
    found = claims(field)
    if as_json:
        write_json([_as_data(claim) for claim in found])
    else:
        rows = [(Text(claim.id, style="bold"), Text(claim.name), Text(claim.statement)) for claim in found]
        write_table(("claim", "name", "statement"), rows)
    return 0


def _as_data(claim: Claim) -> dict[str, Any]:
    return {key: getattr(claim, key) for key in _TOLD} | {"mutants": [mutant.name for mutant in claim.mutants]}
