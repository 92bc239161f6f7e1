"""The one way in which the library refuses an input."""

import difflib
from collections.abc import Iterable
from typing import NoReturn


def reject(came: str, allowed: str, todo: str) -> NoReturn:
    """Raise a ``ValueError`` that says what came, what is allowed and what to do.

    >>> reject("width is 0", "A width is a whole number of at least 1", "Give width=256")
    Traceback (most recent call last):
        ...
    ValueError: width is 0. A width is a whole number of at least 1. Give width=256.
    """
    raise ValueError(". ".join(part.strip().rstrip(".") for part in (came, allowed, todo)) + ".")


def nearest(word: object, known: Iterable[str]) -> str:
    """Name the known word nearest to ``word`` as a question, or nothing when none is near.

    >>> nearest("thanh", ["relu", "tanh"])
    " (did you mean 'tanh'?)"
    >>> nearest("qqqq", ["relu", "tanh"])
    ''
    """
    lowered = {name.lower(): name for name in known}
    match = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.5)
    return f" (did you mean {lowered[match[0]]!r}?)" if match else ""
