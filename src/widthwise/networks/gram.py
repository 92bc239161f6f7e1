r"""Kernel matrices from a profile: for each tile one matrix product and two polynomials.

Legend: $u_i$ directions, $h = \frac12(1 - |u_i\cdot v_j|)$, $\theta = 2\arcsin\sqrt h$ for acute angles and $\pi$ minus
that for obtuse ones, $x = 2\theta/\pi - 1$. A cosine near 1 or -1 has lost the digits of its angle; such pairs are
looked up in the directions themselves.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from .inputs import Directions, squared_distance
from .profile import Profile, clenshaw, nodes

_SIDE = 1024  # inputs per side of a tile
_CLOSE = {"float64": 5e-4, "float32": 2e-2}  # h below which a cosine has too few digits of the angle
_NEGLIGIBLE = {"float64": 1e-14, "float32": 2e-8}  # singular values of the dependence on a mean square
_ROUNDING = {"float64": 1e-13, "float32": 2e-6}  # ten times what is seen against float64 and against single pairs
_MOST_TERMS = 8  # above, the inputs are sorted by their mean squares, so that a tile needs fewer
_WRITTEN_OUT = 12


def gram(profile: Profile, X: Directions, Y: Directions | None, dtype: str) -> tuple[np.ndarray, np.ndarray, float]:
    """NNGP and NTK of all pairs, each (n, m), and their relative error; ``Y=None`` means X with itself."""
    both = tuple(_Factors.of(part, _NEGLIGIBLE[dtype]) for part in (profile.nngp, profile.ntk))
    sort = both[0].rank > 1 and max(part.terms(profile, profile.low, profile.high) for part in both) > _MOST_TERMS
    left = _Side.of(profile, both, X, dtype, sort)
    right = left if Y is None else _Side.of(profile, both, Y, dtype, sort)
    nngp, ntk = (np.empty((len(X), len(right.inputs)), dtype) for _ in range(2))
    for i, rows in enumerate(left.blocks):
        for columns in right.blocks[i if Y is None else 0 :]:
            _fill((nngp, ntk), rows, columns, symmetric=Y is None)
    if sort:
        nngp, ntk = (_unsorted(part, left.order, right.order) for part in (nngp, ntk))
    return nngp, ntk, profile.error + _ROUNDING[dtype]


@dataclass(frozen=True, eq=False)
class _Factors:
    r"""A kernel's coefficients (k r, r) as $QR$: few combinations of the second mean square matter in a small range."""

    Q: np.ndarray
    R: np.ndarray
    negligible: float

    @classmethod
    def of(cls, coefficients: np.ndarray, negligible: float) -> "_Factors":
        return cls(*np.linalg.qr(coefficients.reshape(-1, coefficients.shape[2])), negligible)

    @property
    def rank(self) -> int:
        return len(self.R)

    def directions(self, profile: Profile, low: float, high: float) -> np.ndarray:
        """The combinations (r, s) that matter for mean squares in this range."""
        if self.rank == 1:
            return np.ones((1, 1))
        seen = profile.basis(_spread(nodes(2 * self.rank), low, high)) / np.sqrt(2 * self.rank)
        left, values, _ = np.linalg.svd(self.R @ seen.T)
        kept = max(1, int(np.sum(values > self.negligible)))
        return left[:, : min(kept + kept % 2, self.rank)]

    def terms(self, profile: Profile, low: float, high: float) -> int:
        return self.directions(profile, low, high).shape[1]

    def rows(self, directions: np.ndarray) -> np.ndarray:
        """Coefficients (k, r, s) by the nodes of the first mean square and these combinations of the second."""
        return (self.Q @ directions).reshape(-1, self.rank, directions.shape[1])


@dataclass(frozen=True, eq=False)
class _Block:
    """Some inputs: their places in the matrix, polynomials in their mean square (n, r), and as columns of a tile.

    ``columns``: for each kernel the coefficients (k, r, s) and the combinations (s, n) of the mean square.
    """

    places: slice
    inputs: Directions
    unit: np.ndarray
    basis: np.ndarray
    scale: np.ndarray
    columns: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class _Side:
    """The inputs of one side in blocks, and their order where they are sorted by mean square."""

    inputs: Directions
    order: np.ndarray
    blocks: tuple[_Block, ...]

    @classmethod
    def of(cls, profile: Profile, both: tuple[_Factors, ...], X: Directions, dtype: str, sort: bool) -> "_Side":
        order = np.argsort(X.power, kind="stable") if sort else np.arange(len(X))
        count = -(-len(X) // _SIDE)
        blocks = (_block(profile, both, X, order, part, dtype, sort) for part in np.array_split(range(len(X)), count))
        return cls(X, order, tuple(blocks))


def _block(profile: Profile, both: tuple[_Factors, ...], X: Directions, order, part, dtype: str, sort: bool) -> _Block:
    inputs = X[order[part]] if sort else X[part[0] : part[-1] + 1]
    basis = profile.basis(inputs.power)
    ends = (inputs.power.min(), inputs.power.max()) if sort else (profile.low, profile.high)
    chosen = [factors.directions(profile, *ends) for factors in both]
    columns = tuple((factors.rows(one), one.T @ factors.R @ basis.T) for factors, one in zip(both, chosen, strict=True))
    scale = np.sqrt(profile.own(inputs.power))
    return _Block(slice(part[0], part[-1] + 1), inputs, inputs.unit.astype(dtype), basis, scale, columns)


def _spread(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Mean squares at these positions of the logarithm."""
    return np.exp(0.5 * (np.log(low) + np.log(high)) + 0.5 * (np.log(high) - np.log(low)) * x)


def _fill(out: tuple[np.ndarray, np.ndarray], rows: _Block, columns: _Block, symmetric: bool) -> None:
    """Compute the tile of two blocks and put it, and where the matrix is symmetric its transpose, into its place."""
    own = symmetric and rows is columns
    cosine = rows.unit @ columns.unit.T
    if own:
        np.fill_diagonal(cosine, 0.0)
    series = [_series(rows, *one) for one in columns.columns]
    scales = tuple(zip(rows.scale, columns.scale, strict=True))
    *values, near = _tile(cosine, *jax.tree.map(lambda part: part.astype(cosine.dtype), (series, scales)))
    values = _mended([np.asarray(part) for part in values], cosine, np.flatnonzero(near), series, scales, rows, columns)
    for matrix, part, (scale, _) in zip(out, values, scales, strict=True):
        if own:
            part = np.triu(part, 1)
            part += part.T
            np.fill_diagonal(part, scale**2)
        matrix[rows.places, columns.places] = part
        if symmetric and not own:
            matrix[columns.places, rows.places] = part.T


def _series(rows: _Block, coefficients: np.ndarray, combinations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of a kernel for each row (k, n, s) and the combinations of the columns (s, m)."""
    if coefficients.shape[1] == 1:  # the mean squares do not matter
        return coefficients * combinations[:, :1], np.ones((1, 1))
    return np.einsum("nr,krs->kns", rows.basis, coefficients, optimize=True), combinations


def _unsorted(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bring rows and columns that were sorted back to their places."""
    found, back = np.empty_like(matrix), np.argsort(columns)
    for start in range(0, len(rows), _SIDE):
        part = slice(start, start + _SIDE)
        found[rows[part]] = np.take(matrix[part], back, axis=1)
    return found


@jax.jit
def _tile(cosine, series, scales):
    """Both kernels of a tile, and the rows that hold a pair too close for its cosine."""
    half = jnp.maximum(0.5 * (1.0 - jnp.abs(cosine)), 0.0)
    x = _position(half, cosine < 0)
    near = jnp.any(half < _CLOSE[str(cosine.dtype)], axis=1)
    first, second = (
        _summed(coefficients, combinations, x) * (left[:, None] * right[None, :])
        for (coefficients, combinations), (left, right) in zip(series, scales, strict=True)
    )
    return first, second, near


def _summed(coefficients, basis, x):
    """The sum of the series, the coefficients (k, n, r) of each pair (n, m) computed on the way.

    For few nodes it is written out, and one loop over the pairs computes all.
    """
    if len(basis) <= _WRITTEN_OUT:
        return clenshaw(
            [sum(one[:, r, None] * basis[r][None, :] for r in range(len(basis))) for one in coefficients], x
        )

    def term(carry, one):
        last, before = carry
        return (one @ basis + 2.0 * x * last - before, last), None

    (last, before), _ = jax.lax.scan(term, (jnp.zeros_like(x), jnp.zeros_like(x)), coefficients[1:], reverse=True)
    return coefficients[0] @ basis + x * last - before


def _arcsine(count: int) -> np.ndarray:
    r"""Chebyshev coefficients of $\arcsin(\sqrt h)/\sqrt h$ on [0, 1/2]."""
    h = 0.25 * (1.0 + nodes(64))
    return (np.cos(np.outer(np.arange(64), np.arccos(nodes(64)))) @ (np.arcsin(np.sqrt(h)) / np.sqrt(h)) / 32)[:count]


_ARCSINE = {"float64": _arcsine(21), "float32": _arcsine(10)}
for _coefficient in _ARCSINE.values():
    _coefficient[0] *= 0.5


def _position(half, obtuse):
    r"""$x = 2\theta/\pi - 1$ from h."""
    arcsine = np.sqrt(half) if isinstance(half, np.ndarray) else jnp.sqrt(half)
    arcsine = arcsine * clenshaw([float(one) for one in _ARCSINE[str(half.dtype)]], 4.0 * half - 1.0)
    x = 4.0 / np.pi * arcsine - 1.0
    return np.where(obtuse, -x, x) if isinstance(half, np.ndarray) else jnp.where(obtuse, -x, x)


def _mended(values, cosine: np.ndarray, some: np.ndarray, series, scales, rows: _Block, columns: _Block) -> list:
    """Compute close pairs in these rows again, their angle from the difference or the sum of the directions."""
    i, j = np.nonzero(np.abs(cosine[some]) > 1.0 - 2.0 * _CLOSE[str(cosine.dtype)])
    i = some[i]
    if not len(i):
        return values
    obtuse = cosine[i, j] < 0
    half = 0.25 * squared_distance(rows.inputs, columns.inputs, i, j, np.where(obtuse, 1.0, -1.0))
    x, found = _position(half, obtuse), []
    for value, (coefficients, combinations), (left, right) in zip(values, series, scales, strict=True):
        at = (
            coefficients[:, :, 0]
            if coefficients.shape[1] == 1
            else np.einsum("kpr,rp->kp", coefficients[:, i], combinations[:, j])
        )
        found.append(np.array(value))
        found[-1][i, j] = clenshaw(at, x) * (left[i] * right[j])
    return found
