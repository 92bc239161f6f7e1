"""Rows that come twice: a kernel cannot tell them apart."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped


def row_groups(X: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
    """Number the distinct rows; equal rows get the same number.

    >>> row_groups(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]))
    array([1, 0, 1])
    """
    plain = np.ascontiguousarray(X + 0.0)  # -0.0 becomes 0.0
    as_bytes = plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1])))[:, 0]
    return np.unique(as_bytes, return_inverse=True)[1]


def duplicate_warnings(
    X: Float[np.ndarray, "n d"],
    y: Shaped[np.ndarray, " n"],
    where: Callable[[int], str] = "row {} (counted from 0)".format,
) -> tuple[str, ...]:
    """Say how many rows repeat another one, how many contradict it, and what follows.

    >>> duplicate_warnings(np.array([[1.0], [1.0], [2.0]]), np.array([0, 0, 1]))[0].partition(";")[0]
    '2 rows have the same features and label as another row'
    """
    group = row_groups(X)
    size = np.bincount(group)[group]
    if size.max() == 1:
        return ()
    low, high = np.full(len(X), np.inf), np.full(len(X), -np.inf)
    np.minimum.at(low, group, y)
    np.maximum.at(high, group, y)
    contradicts = (low < high)[group]
    repeats = (size > 1) & ~contradicts
    return (*_contradictions(group, contradicts, where), *_repetitions(int(repeats.sum())))


def repetition_notes(X: Float[np.ndarray, "n d"]) -> tuple[str, ...]:
    """Say how many rows of features repeat another one, and what follows for their kernel matrix.

    >>> repetition_notes(np.array([[1.0], [1.0], [2.0]]))
    ('2 rows have the same features as another row; the kernel matrix is singular',)
    """
    group = row_groups(X)
    count = int(np.sum(np.bincount(group)[group] > 1))
    return (f"{count} rows have the same features as another row; the kernel matrix is singular",) if count else ()


def _contradictions(group, contradicts, where) -> tuple[str, ...]:
    count = int(contradicts.sum())
    if not count:
        return ()
    first = int(np.argmax(contradicts))
    second = int(np.flatnonzero(group == group[first])[1])
    return (
        f"{count} rows have the same features as another row but a different label (the first: {where(first)} and "
        f"{where(second)}); on them the kernel matrix is singular and no function fits every label, so the training "
        "loss has a floor above zero and the certificates, which need an interpolating solution, do not apply",
    )


def _repetitions(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (
        f"{count} rows have the same features and label as another row; when both are in the training part, the "
        "kernel matrix is singular and a certificate that needs its smallest eigenvalue above zero does not apply",
    )
