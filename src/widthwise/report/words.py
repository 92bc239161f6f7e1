"""Small words for sentences with numbers in them."""

from .section import Number


def counted(count: int, noun: str, plural: str = "") -> str:
    """Name a count of things.

    >>> counted(1, "row"), counted(2, "row"), counted(1200, "class", "classes")
    ('1 row', '2 rows', '1,200 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def maybe(name: str, value: float | int | None, reason: str, **details) -> Number:
    """Make a number that may be missing, and then say why.

    >>> maybe("step of divergence", None, "it did not diverge").reason, maybe("step of divergence", 3, "not").reason
    ('it did not diverge', '')
    """
    return Number(name, value, reason=reason if value is None else "", **details)
