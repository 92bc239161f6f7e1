"""Find every claim: each module below ``widthwise.theory`` may hold a tuple ``CLAIMS``."""

import functools
import importlib
import pkgutil
import re

from widthwise.numerics import nearest, reject

from .claim import Claim

# A name, not an import: the theories import this package.
_THEORY = "widthwise.theory"


@functools.cache
def claims(field: str | None = None) -> tuple[Claim, ...]:
    """All claims in the order of their ids, or those of one field.

    Raises ``ValueError`` for an unknown field.

    >>> "LAZY-4" in [claim.id for claim in claims("lazy-training")]
    True
    """
    found = sorted((claim for module in _modules() for claim in getattr(module, "CLAIMS", ())), key=_order)
    fields = sorted({claim.field for claim in found})
    if field is not None and field not in fields:
        reject(f"field {field!r}", f"The fields are {', '.join(fields)}", f"Choose one of them{nearest(field, fields)}")
    return tuple(claim for claim in found if field in (None, claim.field))


def find(wanted: str) -> Claim:
    """Find a claim by its id (``LAZY-C1``) or its name (``sharp-ball-certificate``), in any case.

    Raises ``ValueError`` for an unknown claim, with the nearest one.

    >>> find("sharp-ball-certificate")
    Claim(LAZY-C1, 'sharp-ball-certificate')
    """
    known = {word.lower(): claim for claim in claims() for word in (claim.name, claim.id)}
    if wanted.lower() not in known:
        names = [word for claim in claims() for word in (claim.id, claim.name)]
        reject(
            f"{wanted!r} is no claim{nearest(wanted, names)}",
            "A claim is named by its id (LAZY-C1) or its name (sharp-ball-certificate)",
            "See `widthwise list`",
        )
    return known[wanted.lower()]


def _modules():
    package = importlib.import_module(_THEORY)
    yield package
    for info in pkgutil.walk_packages(package.__path__, prefix=f"{_THEORY}."):
        yield importlib.import_module(info.name)


def _order(claim: Claim):
    parts = re.split(r"(\d+)", claim.id)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts if part]
