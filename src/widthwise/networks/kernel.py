"""Kernel matrices of infinitely wide networks."""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from widthwise.activations import Activation
from widthwise.numerics import reject

from .layer import AbstractLayer
from .pair import Pair

_TILE = 256  # inputs per side of a tile: its arrays fit a processor's cache
_CELL_TILE = 16  # duals by cells hold some hundred nodes per pair at once
_MAX_DEGREE = 4096
_CLOSE = 0.05  # below this gap the angle is taken from the difference of the inputs


@dataclass(frozen=True)
class Kernels:
    r"""NNGP and NTK of a network on two sets of inputs, each (n, m) in float64.

    ``error`` is a first-order bound on the relative error, in units of the geometric mean of the
    two diagonal entries; 0 is not reached, closed forms leave a few ulps.
    """

    nngp: Float[np.ndarray, "n m"]
    ntk: Float[np.ndarray, "n m"]
    error: float


def kernel(network: AbstractLayer, X: ArrayLike, Y: ArrayLike | None = None, *, tolerance: float = 1e-10) -> Kernels:
    r"""NNGP kernel $K$ and neural tangent kernel $\Theta$ of an infinitely wide network, one output.

    The covariance of an input pair is $x\cdot y/d$; each layer maps pairs by its ``propagate``
    (Jacot et al. 2018; Lee et al. 2018). Several outputs are independent copies.

    Arguments: inputs ``X`` (n, d) and ``Y`` (m, d), real and finite; ``Y=None`` means X with itself:
    only one triangle is computed, and the result is exactly symmetric. Runs in float64 and returns
    NumPy arrays. Activations without a closed dual get as many series terms, or nodes, as ``tolerance`` needs.
    Raises ``ValueError`` for inputs of the wrong shape or kind, and where the tolerance cannot be
    reached or a second moment overflows.

    >>> from widthwise.networks import MLP
    >>> K = kernel(MLP(depth=1, activation="relu").network(), [[1.0, 0.0], [0.0, 1.0]])
    >>> np.round(K.ntk, 6).tolist()
    [[1.0, 0.159155], [0.159155, 1.0]]
    """
    X = _inputs("X", X)
    other = X if Y is None else _inputs("Y", Y)
    if X.shape[1] != other.shape[1]:
        reject(
            f"X with {X.shape[1]} features and Y with {other.shape[1]}",
            "Both sets of inputs must have the same number of features",
            "Check the columns",
        )
    with jax.enable_x64(True):
        return _assemble(network, X, other, Y is None, tolerance)


@dataclass(frozen=True)
class InputPairs:
    r"""All pairs of two sets of inputs: mean squares xx (n,) and yy (m,), gap and cogap $1 \mp \cos\theta$ (n, m)."""

    xx: Float[np.ndarray, " n"]
    yy: Float[np.ndarray, " m"]
    gap: Float[np.ndarray, "n m"]
    cogap: Float[np.ndarray, "n m"]
    size: int


def pairs(X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "m d"]) -> InputPairs:
    """Compare all pairs of inputs; close and nearly opposite directions by their difference and their sum."""
    (xx, left), (yy, right) = _directions(X), _directions(Y)
    cosine = left @ right.T
    gap, cogap = np.clip(1.0 - cosine, 0.0, 2.0), np.clip(1.0 + cosine, 0.0, 2.0)
    for close, sign in ((gap, -1.0), (cogap, 1.0)):
        rows, columns = np.nonzero(close < _CLOSE)
        for part in np.array_split(np.arange(len(rows)), max(1, len(rows) * X.shape[1] // 2**24)):
            i, j = rows[part], columns[part]
            close[i, j] = 0.5 * np.sum((left[i] + sign * right[j]) ** 2, axis=1)
    # The larger of the two follows from the smaller, which has its own digits.
    smaller, larger = np.minimum(gap, cogap), 2.0 - np.minimum(gap, cogap)
    gap, cogap = np.where(gap < cogap, smaller, larger), np.where(gap < cogap, larger, smaller)
    zero = (xx == 0)[:, None] | (yy == 0)[None, :]
    return InputPairs(xx, yy, np.where(zero, 1.0, gap), np.where(zero, 1.0, cogap), X.shape[1])


def _directions(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares (n,) and unit vectors (n, d); scaled first, so that nothing under- or overflows."""
    largest = np.max(np.abs(X), axis=1, initial=0.0)
    scaled = X / np.where(largest == 0, 1.0, largest)[:, None]
    norm = np.sqrt(np.sum(scaled**2, axis=1))
    return (norm * largest) ** 2 / X.shape[1], scaled / np.where(norm == 0, 1.0, norm)[:, None]


@eqx.filter_jit
def _tile(network: AbstractLayer, size: int, xx, yy, gap, cogap):
    """One tile of pairs; what belongs to one input alone is computed once per input, not per pair."""

    def one(xx, yy, gap, cogap):
        zero = jnp.zeros_like(gap)
        return network.propagate(Pair(xx, yy, gap, cogap, zero, zero, size))

    rows = jax.vmap(one, in_axes=(None, 0, 0, 0))
    after = jax.vmap(rows, in_axes=(0, None, 0, 0))(xx, yy, gap, cogap)
    nngp = jnp.sqrt(after.xx) * jnp.sqrt(after.yy) * 0.5 * (after.cogap - after.gap)
    return nngp, after.ntk, jnp.max(after.error)


def _evaluate(network: AbstractLayer, inputs: InputPairs):
    arrays = (jnp.asarray(part) for part in (inputs.xx, inputs.yy, inputs.gap, inputs.cogap))
    return _tile(network, inputs.size, *arrays)


def _assemble(network: AbstractLayer, X: np.ndarray, Y: np.ndarray, symmetric: bool, tolerance: float) -> Kernels:
    """Fill the matrices tile by tile, the largest inputs last in each row of tiles and in the first row that is done.

    Large inputs need more terms, so inputs of about equal size share a tile, and what cannot be
    reached is refused at once.
    """
    nngp, ntk = (np.empty((len(X), len(Y))) for _ in range(2))
    side, worst = _side(network, max(len(X), len(Y))), 0.0
    by_row, by_column = _by_size(X), _by_size(Y)
    for top in reversed(range(0, len(X), side)):
        enough = network
        for left in range(top if symmetric else 0, len(Y), side):
            rows, columns = by_row[top : top + side], by_column[left : left + side]
            pair = pairs(X[_filled(rows, side)], Y[_filled(columns, side)])
            if symmetric and top == left:
                pair = _equal_diagonal(pair)
            enough, tile, error = _accurate(enough, pair, tolerance)
            for matrix, values in zip((nngp, ntk), tile, strict=True):
                _place(matrix, rows, columns, np.asarray(values), symmetric)
            worst = max(worst, error)
    return Kernels(nngp, ntk, worst)


def _side(network: AbstractLayer, count: int) -> int:
    """The side of a tile: tiles of one shape, as full as can be, so that one compilation serves all."""
    largest = _CELL_TILE if _uses_cells(network) else _TILE
    return -(-count // -(-count // largest))


def _by_size(X: np.ndarray) -> np.ndarray:
    """The order of the inputs from the smallest to the largest."""
    return np.argsort(np.sum(X**2, axis=1), kind="stable")


def _filled(rows: np.ndarray, side: int) -> np.ndarray:
    """Fill a tile up with its last row."""
    return np.concatenate([rows, np.full(side - len(rows), rows[-1])])


def _place(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, symmetric: bool) -> None:
    values = values[: len(rows), : len(columns)]
    if symmetric and np.array_equal(rows, columns):
        values = np.triu(values) + np.triu(values, 1).T
    matrix[np.ix_(rows, columns)] = values
    if symmetric:
        matrix[np.ix_(columns, rows)] = values.T


def _equal_diagonal(pair: InputPairs) -> InputPairs:
    """An input is equal to itself: its gap is zero, unless the input is zero and has no direction."""
    equal = np.eye(len(pair.xx), dtype=bool) & (pair.xx > 0)[:, None]
    gap, cogap = np.where(equal, 0.0, pair.gap), np.where(equal, 2.0, pair.cogap)
    return replace(pair, gap=gap, cogap=cogap)


def _accurate(network: AbstractLayer, pair: InputPairs, tolerance: float):
    """Evaluate a tile with four times the terms until they suffice: the network with them, kernels, error."""
    nngp, ntk, error = _evaluate(network, pair)
    _demand_finite(network, nngp, ntk)
    degrees = {part.degree for part in _activations(network) if part.closed is None}
    degree = max(degrees, default=0)
    if (left := float(error)) <= tolerance:
        return network, (nngp, ntk), left
    if degree in (0, _MAX_DEGREE):
        reject(
            f"an error of {left:.1e} with {degree} series terms (for kinks: nodes) for {_activations(network)}",
            f"The tolerance is {tolerance:.1e}, and at most {_MAX_DEGREE} terms are used",
            "Scale the inputs or the weight variance down, or pass a larger tolerance",
        )
    return _accurate(_set_degree(network, min(4 * degree, _MAX_DEGREE)), pair, tolerance)


def _demand_finite(network: AbstractLayer, *matrices: Float[Array, "n m"]) -> None:
    """Refuse a kernel that left the range of float64, such as that of exp at a large variance."""
    if not all(bool(jnp.all(jnp.isfinite(matrix))) for matrix in matrices):
        reject(
            f"a kernel that is not finite, with {_activations(network)}",
            "The second moments of every layer must be below 1.8e308",
            "Scale the inputs or the weight variance down",
        )


def _activations(network: AbstractLayer) -> list[Activation]:
    leaves = jax.tree.leaves(network, is_leaf=lambda node: isinstance(node, Activation))
    return [leaf for leaf in leaves if isinstance(leaf, Activation)]


def _set_degree(network: AbstractLayer, degree: int) -> AbstractLayer:
    """The same network whose numerical duals use so many terms."""

    def swap(leaf):
        return replace(leaf, degree=degree) if isinstance(leaf, Activation) else leaf

    return jax.tree.map(swap, network, is_leaf=lambda node: isinstance(node, Activation))


def _uses_cells(network: AbstractLayer) -> bool:
    return any(part.closed is None and part.kinks for part in _activations(network))


def _inputs(name: str, given: ArrayLike) -> np.ndarray:
    """Check a set of inputs and make it float64 of shape (n, d)."""
    array = np.asarray(given)
    if array.dtype == object or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        reject(
            f"{name} of type {array.dtype}", "Inputs are real numbers", "Encode text and categories as numbers first"
        )
    if np.iscomplexobj(array):
        reject(f"complex {name}", "Inputs are real numbers", "Stack real and imaginary parts as features")
    if array.ndim != 2 or 0 in array.shape:
        reject(
            f"{name} of shape {array.shape}",
            "Inputs have shape (n, d), n and d at least 1",
            "Use x[None, :] for one input",
        )
    bad = np.argwhere(~np.isfinite(array.astype(float)))
    if len(bad):
        row, column = bad[0]
        reject(
            f"{array[row, column]} in {name} at row {row}, column {column} ({len(bad)} in all)",
            "Inputs are finite numbers",
            "Remove or fill these entries",
        )
    return array.astype(float)
