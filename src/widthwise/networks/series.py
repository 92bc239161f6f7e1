r"""Chebyshev series of many pairs, few multiplications for each.

Legend: $\kappa_{ij} = \ell_i\sum_s b_{sj}P_{si}(x_{ij})$ with polynomials $P_{si}$ that belong to a row. A polynomial
is folded, $P = \sum_{r<m}T_r(x)\,Q_r(T_m(x))$, its parts $Q_r$ in powers: Horner's rule needs one multiplication for
a coefficient where Clenshaw's needs two in a row, and few powers of a number in [-1, 1] lose no digits. The number of
parts m is as small as the digits allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .profile import Profile, nodes

_TOGETHER = 256  # coefficients in one compiled expression
_STEP = 4  # the number of coefficients is filled up to a multiple of this, so that fewer expressions are compiled


@dataclass(frozen=True, eq=False)
class Factors:
    r"""Coefficients $c_{kab}$ as $\sum_s A_{kas}R_{sb}$, with as few terms s, and as few k for each, as can be.

    ``folds`` is the number m of parts of a polynomial; ``lengths`` the number of coefficients of each term; ``powers``
    (l, a) those of all parts, one under the other, for each group of terms.
    """

    rows: np.ndarray
    columns: np.ndarray
    lengths: tuple[int, ...]
    folds: int
    powers: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, profile: Profile, coefficients: np.ndarray, negligible: float, growth: float) -> "Factors":
        """Leave out what is below ``negligible``; powers may sum to ``growth`` times the largest value."""
        rank = coefficients.shape[2]
        Q, R = np.linalg.qr(coefficients.reshape(-1, rank))
        seen = profile.basis(_spread(nodes(2 * rank), profile.low, profile.high))
        left, values, _ = np.linalg.svd(R @ seen.T / np.sqrt(2 * rank))
        left = left[:, : max(1, int(np.sum(values > negligible)))]
        rows, columns = (Q @ left).reshape(-1, rank, left.shape[1]), left.T @ R
        sizes = np.abs(np.einsum("kas,na->kns", rows, seen)).max(axis=1) * np.abs(columns @ seen.T).max(axis=1)
        lengths = tuple(_needed(one, negligible) for one in sizes.T)
        folds = _folds(sizes, lengths, growth)
        powers = tuple(_powers_of(rows, group, lengths, folds) for group in _grouped(lengths))
        return cls(rows, columns, lengths, folds, powers)

    @property
    def constant(self) -> bool:
        """Whether the mean squares do not matter."""
        return self.rows.shape[1] == 1

    def of_rows(self, basis: np.ndarray) -> list[np.ndarray]:
        """The powers (l, n) of each group of terms, for rows with these polynomials in their mean square (n, r)."""
        return [powers @ (basis[:1] if self.constant else basis).T for powers in self.powers]

    def of_columns(self, basis: np.ndarray) -> np.ndarray:
        """The combinations (s, m) of columns with these polynomials in their mean square (m, r)."""
        return self.columns @ basis.T

    def of_pairs(self, basis: np.ndarray, combinations: np.ndarray) -> np.ndarray:
        """Chebyshev coefficients (k, p) of pairs: polynomials (p, r) of the row, combinations (s, p) of the column."""
        if self.constant:
            return self.rows[:, 0] @ combinations
        return np.einsum("ksp,sp->kp", np.moveaxis(self.rows, 1, 2) @ basis.T, combinations)

    @property
    def groups(self) -> list[list[int]]:
        """The terms, as many together as one compiled expression takes."""
        return _grouped(self.lengths)

    def sizes(self, terms: list[int]) -> tuple[int, ...]:
        """How many powers the parts of these terms have."""
        return tuple(-(-self.lengths[s] // self.folds) for s in terms)


def _spread(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Mean squares at these positions of the logarithm."""
    return np.exp(0.5 * (np.log(low) + np.log(high)) + 0.5 * (np.log(high) - np.log(low)) * x)


def _needed(sizes: np.ndarray, negligible: float) -> int:
    """How many coefficients are left when the last ones sum to less than what is negligible."""
    count = int(np.sum(np.cumsum(sizes[::-1])[::-1] > negligible)) or 1
    return min(-(-count // _STEP) * _STEP, -(-len(sizes) // 2) * 2)


def _grouped(lengths: tuple[int, ...]) -> list[list[int]]:
    found, size = [[]], 0
    for term, length in enumerate(lengths):
        if found[-1] and size + length > _TOGETHER:
            found.append([])
            size = 0
        found[-1].append(term)
        size += length
    return found


def _powers_of(rows: np.ndarray, terms: list[int], lengths: tuple[int, ...], folds: int) -> np.ndarray:
    parts = [fold(rows[: lengths[s], :, s], folds) for s in terms]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _folds(sizes: np.ndarray, lengths: tuple[int, ...], growth: float) -> int:
    """The least power of two for which the powers do not grow; with as many parts as coefficients there are none."""
    folds = 2
    while folds < max(lengths) and _growth(sizes, lengths, folds) > growth:
        folds *= 2
    return folds


def _growth(sizes: np.ndarray, lengths: tuple[int, ...], folds: int) -> float:
    """What the absolute values of all powers sum to at most, for coefficients of these absolute values (k, s)."""
    return sum(float(np.abs(fold(sizes[:length, s, None], folds, -1.0)).sum()) for s, length in enumerate(lengths))


def fold(coefficients: np.ndarray, folds: int, sign: float = 1.0) -> np.ndarray:
    r"""The powers (m, l, n) of the parts of Chebyshev series (k, n): $2T_rT_{mk} = T_{mk+r} + T_{mk-r}$.

    With ``sign=-1`` what is subtracted is added, as a bound on absolute values needs.
    """
    count = -(-len(coefficients) // folds)
    c = np.zeros((count * folds, coefficients.shape[1]))
    c[: len(coefficients)] = coefficients
    parts = np.zeros((count, folds, c.shape[1]))
    for k in range(count - 1, 0, -1):
        above = c[folds * k : folds * (k + 1)]
        parts[k] = 2.0 * above
        parts[k, 0] = above[0]
        c[folds * (k - 1) + 1 : folds * k] -= sign * above[:0:-1]
    parts[0] = c[:folds]
    return np.einsum("jk,krn->rjn", _powers(count, sign), parts)


def _powers(count: int, sign: float) -> np.ndarray:
    """The matrix (j, k) from coefficients of Chebyshev polynomials to those of powers."""
    found = np.eye(count)
    for k in range(2, count):
        found[:, k] = -sign * found[:, k - 2]
        found[1:, k] += 2.0 * found[:-1, k - 1]
    return found


@partial(jax.jit, static_argnames=("sizes", "folds"))
def summed(start, x, coefficients, combinations, scale, *, sizes: tuple[int, ...], folds: int):
    r"""$\text{start}_{ij} + \ell_i\sum_s b_{sj}P_{si}(x_{ij})$, for powers (l, n) or (l, 1) and b (s, m)."""
    polynomials = _chebyshev(x, folds)
    total, at = 0.0, 0
    for term, size in enumerate(sizes):
        rows = [one[:, None] for one in coefficients[at : at + size * folds]]
        parts = (horner(rows[r * size : (r + 1) * size], polynomials[-1]) for r in range(folds))
        value = sum(part if r == 0 else polynomials[r] * part for r, part in enumerate(parts))
        total = total + value * combinations[term][None, :]
        at += size * folds
    total = total * scale[:, None]
    return total if start is None else start + total


def horner(coefficients: Sequence, x):
    """The sum of coefficients times powers of x."""
    value = coefficients[-1] + 0.0 * x if len(coefficients) == 1 else coefficients[-1]
    for one in coefficients[-2::-1]:
        value = value * x + one
    return value


def _chebyshev(x, count: int) -> list:
    """Chebyshev polynomials up to this degree, a power of two."""
    found = [jnp.ones_like(x), x]
    for k in range(2, count + 1):
        found.append(2.0 * found[k // 2] ** 2 - 1.0 if k % 2 == 0 else 2.0 * x * found[k - 1] - found[k - 2])
    return found
