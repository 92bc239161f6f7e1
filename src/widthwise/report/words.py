"""Small words for sentences with numbers in them."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Name a count of things.

    >>> counted(1, "row"), counted(2, "row"), counted(1200, "class", "classes")
    ('1 row', '2 rows', '1,200 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
