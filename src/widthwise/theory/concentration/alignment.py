"""Pairs of inputs on one line through the origin: what can make a limit kernel singular."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_NEAR = 1e-9  # of a cosine to plus or minus one: such pairs are looked at in the directions themselves
_SAME = 1e-14


@dataclass(frozen=True)
class Alignment:
    """Which inputs lie on one line: pairs (i, j) with i < j by their kind, and the inputs that are zero.

    ``duplicate``: equal; ``parallel``: of one direction and two norms; ``antipodal``: opposite of one norm;
    ``opposite``: opposite of two norms. All within rounding.
    """

    zero: tuple[int, ...]
    duplicate: tuple[tuple[int, int], ...]
    parallel: tuple[tuple[int, int], ...]
    antipodal: tuple[tuple[int, int], ...]
    opposite: tuple[tuple[int, int], ...]

    @property
    def equal_norms(self) -> bool:
        """Whether no pair on one line differs in norm."""
        return not (self.parallel or self.opposite)


def align(X: Float[np.ndarray, "n d"]) -> Alignment:
    """Find the pairs of rows on one line through the origin.

    >>> found = align(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]]))
    >>> found.antipodal, found.duplicate, found.parallel, found.opposite
    (((0, 1), (1, 4)), ((0, 4),), ((0, 3), (3, 4)), ((1, 3),))
    """
    norms = np.linalg.norm(X, axis=1)
    zero = np.flatnonzero(norms == 0)
    units = X / np.where(norms == 0, 1.0, norms)[:, None]
    cosine = units @ units.T
    i, j = np.nonzero(np.triu(np.abs(cosine) > 1.0 - _NEAR, 1))
    sides = np.where(cosine[i, j] > 0, 1.0, -1.0)
    close = np.max(np.abs(units[i] - sides[:, None] * units[j]), axis=1, initial=0.0) <= _SAME
    same = np.abs(norms[i] - norms[j]) <= _SAME * np.maximum(norms[i], norms[j])

    def pairs(side: float, equal: bool) -> tuple[tuple[int, int], ...]:
        return _listed(i, j, close & (sides == side) & (same == equal))

    zeros = tuple(int(one) for one in zero)
    return Alignment(zeros, pairs(1.0, True), pairs(1.0, False), pairs(-1.0, True), pairs(-1.0, False))


def _listed(i: Int[np.ndarray, " k"], j: Int[np.ndarray, " k"], chosen: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in zip(i[chosen], j[chosen], strict=True))
