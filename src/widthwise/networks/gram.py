r"""Kernel matrices from a profile: for each tile one matrix product and two polynomials.

Legend: $u_i$ directions, $h = \frac12(1 - |u_i\cdot v_j|)$, $\theta = 2\arcsin\sqrt h$ for acute angles and $\pi$ minus
that for obtuse ones, $x = 2\theta/\pi - 1$. A cosine near 1 or -1 has lost the digits of its angle; such pairs are
looked up in the directions themselves.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from widthwise.grams import Grid, Progress, in_memory

from .inputs import Directions, squared_distance
from .profile import Profile, clenshaw, nodes
from .series import Factors, horner, summed

# Inputs per side of a tile; not a power of two, whose columns would share a few lines of a processor's cache.
_SIDE = 1000
_CLOSE = {"float64": 5e-4, "float32": 2e-2}  # h below which a cosine has too few digits of the angle
_NEGLIGIBLE = {"float64": 1e-13, "float32": 2e-8}  # what is left out of a series
_GROWTH = {"float64": 64.0, "float32": 4.0}  # what powers may sum to, in units of the largest value
_ROUNDING = {"float64": 3e-13, "float32": 2e-6}  # ten times what is seen against float64 and against single pairs
_AT_ONCE = 2**22  # coefficients of single pairs


def gram(
    profile: Profile, X: Directions, Y: Directions | None, dtype: str, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """NNGP and NTK of all pairs, each (n, m), and their relative error; ``Y=None`` means X with itself."""
    both = tuple(Factors.of(profile, part, _NEGLIGIBLE[dtype], _GROWTH[dtype]) for part in (profile.nngp, profile.ntk))
    grid = Grid.of(len(X), None if Y is None else len(Y), _SIDE)
    left = {part.start: _Block.of(profile, both, X[part], dtype) for part in grid.rows}
    right = left if Y is None else {part.start: _Block.of(profile, both, Y[part], dtype) for part in grid.columns}

    def tile(rows: slice, columns: slice) -> tuple[tuple[np.ndarray, ...], float]:
        return _tile(both, left[rows.start], right[columns.start]), 0.0

    nngp, ntk = in_memory(grid, tile, dtype, progress=progress)
    return nngp, ntk, profile.error + _ROUNDING[dtype]


@dataclass(frozen=True, eq=False)
class _Block:
    """Some inputs with the polynomials in their mean square (n, r), and for each kernel what a tile needs of them.

    ``powers`` (l, n) of groups of terms as rows, ``combinations`` (s, n) as columns, and ``scale`` (n,) as both.
    """

    inputs: Directions
    unit: np.ndarray
    basis: np.ndarray
    powers: tuple[list[np.ndarray], ...]
    combinations: tuple[np.ndarray, ...]
    scale: np.ndarray

    @classmethod
    def of(cls, profile: Profile, both: tuple[Factors, ...], inputs: Directions, dtype: str) -> "_Block":
        basis, scale = profile.basis(inputs.power), np.sqrt(profile.own(inputs.power))
        powers = tuple([part.astype(dtype) for part in one.of_rows(basis)] for one in both)
        combinations = tuple(one.of_columns(basis) * part for one, part in zip(both, scale, strict=True))
        return cls(inputs, np.ascontiguousarray(inputs.unit, dtype), basis, powers, combinations, scale)


def _tile(both: tuple[Factors, ...], rows: _Block, columns: _Block) -> tuple[np.ndarray, ...]:
    """The tile of two blocks, which are one and the same on the diagonal of a symmetric matrix."""
    own = rows is columns
    cosine = rows.unit @ columns.unit.T
    if own:
        np.fill_diagonal(cosine, 0.0)
    dtype = cosine.dtype
    x, near = _positions(cosine)
    each = zip(both, rows.powers, columns.combinations, rows.scale, strict=True)
    values = [_evaluated(one, powers, x, part.astype(dtype), scale.astype(dtype)) for one, powers, part, scale in each]
    found = tuple(np.asarray(value) for value in values)
    close = np.flatnonzero(near)
    if own or len(close):
        found = tuple(np.array(one) for one in found)
    if len(close):
        _mend(both, found, cosine, close, rows, columns)
    if own:
        for one, scale in zip(found, rows.scale, strict=True):
            np.fill_diagonal(one, scale**2)
    return found


def _evaluated(factors: Factors, powers: list[np.ndarray], x: jax.Array, combinations: np.ndarray, scale: np.ndarray):
    """One kernel at positions x, for one group of terms after the other."""
    total = None
    for terms, coefficients in zip(factors.groups, powers, strict=True):
        sizes = factors.sizes(terms)
        total = summed(total, x, coefficients, combinations[terms], scale, sizes=sizes, folds=factors.folds)
    return total


@jax.jit
def _positions(cosine):
    """Positions x of all pairs, and the rows that hold a pair too close for its cosine."""
    half = jnp.maximum(0.5 * (1.0 - jnp.abs(cosine)), 0.0)
    near = jnp.any(half < _CLOSE[str(cosine.dtype)], axis=1)
    arcsine = jnp.sqrt(half) * _arcsine_over_root(half)
    return _position(arcsine, cosine < 0, jnp.where), near


def _position(arcsine, obtuse, where):
    r"""$x = 2\theta/\pi - 1$ from $\arcsin\sqrt h$."""
    x = 4.0 / np.pi * arcsine - 1.0
    return where(obtuse, -x, x)


def _arcsine(count: int) -> list[float]:
    r"""$\arcsin(\sqrt h)/\sqrt h$ on [0, 1/2] in powers of $z = 4h - 1$."""
    h = 0.25 * (1.0 + nodes(64))
    values = np.arcsin(np.sqrt(h)) / np.sqrt(h)
    series = np.cos(np.outer(np.arange(count), np.arccos(nodes(64)))) @ values / 32
    series[0] *= 0.5
    return np.polynomial.chebyshev.cheb2poly(series).tolist()


_ARCSINE = {"float64": _arcsine(22), "float32": _arcsine(10)}


def _arcsine_over_root(half):
    """Even and odd powers apart: two short chains of multiplications instead of a long one."""
    powers, z = _ARCSINE[str(half.dtype)], 4.0 * half - 1.0
    return horner(powers[::2], z * z) + z * horner(powers[1::2], z * z)


def _mend(both, found: tuple[np.ndarray, ...], cosine: np.ndarray, some: np.ndarray, rows: _Block, columns: _Block):
    """Compute close pairs in these rows again, their angle from the difference or the sum of the directions."""
    i, j = np.nonzero(np.abs(cosine[some]) > 1.0 - 2.0 * _CLOSE[str(cosine.dtype)])
    largest = max(sum(one.lengths) for one in both)
    for at in np.array_split(np.arange(len(i)), len(i) * largest // _AT_ONCE + 1):
        _mend_pairs(both, found, cosine, some[i[at]], j[at], rows, columns)


def _mend_pairs(both, found, cosine: np.ndarray, i: np.ndarray, j: np.ndarray, rows: _Block, columns: _Block) -> None:
    obtuse = cosine[i, j] < 0
    half = 0.25 * squared_distance(rows.inputs, columns.inputs, i, j, np.where(obtuse, 1.0, -1.0))
    x = _position(np.arcsin(np.sqrt(half)), obtuse, np.where)
    for one, factors, combinations, scale in zip(found, both, columns.combinations, rows.scale, strict=True):
        one[i, j] = clenshaw(factors.of_pairs(rows.basis[i], combinations[:, j]), x) * scale[i]
