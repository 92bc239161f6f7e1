"""Kernel matrices pair by pair: every pair of inputs is propagated through the whole network.

Nothing is assumed and nothing interpolated, so this is the reference, and the way for few pairs.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.numerics import reject

from .inputs import Directions, InputPairs, pairs
from .layer import AbstractLayer
from .pair import Pair

_TILE = 256  # inputs per side of a tile: its arrays fit a processor's cache
_CELL_TILE = 16  # duals by cells hold some hundred nodes per pair at once
MAX_DEGREE = 4096


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


def pairwise(
    network: AbstractLayer, X: Directions, Y: Directions | None, tolerance: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """NNGP and NTK of all pairs, each (n, m), and their relative error; ``Y=None`` means X with itself.

    Tile by tile, the largest inputs last in each row of tiles and in the first row that is done:
    large inputs need more terms, so inputs of about equal size share a tile, and what cannot be
    reached is refused at once, by ``ValueError``.
    """
    symmetric, Y = Y is None, X if Y is None else Y
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
    return nngp, ntk, worst


def _side(network: AbstractLayer, count: int) -> int:
    """The side of a tile: tiles of one shape, as full as can be, so that one compilation serves all."""
    largest = _CELL_TILE if uses_cells(network) else _TILE
    return -(-count // -(-count // largest))


def _by_size(X: Directions) -> np.ndarray:
    """The order of the inputs from the smallest to the largest."""
    return np.argsort(X.power, kind="stable")


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
    degree = series_degree(network)
    if (left := float(error)) <= tolerance:
        return network, (nngp, ntk), left
    if degree in (0, MAX_DEGREE):
        reject(
            f"an error of {left:.1e} with {degree} series terms (for kinks: nodes) for {_activations(network)}",
            f"The tolerance is {tolerance:.1e}, and at most {MAX_DEGREE} terms are used",
            "Scale the inputs or the weight variance down, or pass a larger tolerance",
        )
    return _accurate(set_degree(network, min(4 * degree, MAX_DEGREE)), pair, tolerance)


def series_degree(network: AbstractLayer) -> int:
    """How many terms, or nodes, the numerical duals use; 0 where there are none."""
    return max((part.degree for part in _activations(network) if part.closed is None), default=0)


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


def set_degree(network: AbstractLayer, degree: int) -> AbstractLayer:
    """The same network whose numerical duals use so many terms."""

    def swap(leaf):
        return replace(leaf, degree=degree) if isinstance(leaf, Activation) else leaf

    return jax.tree.map(swap, network, is_leaf=lambda node: isinstance(node, Activation))


def has_kinks(network: AbstractLayer) -> bool:
    """Whether an activation of the network is not smooth."""
    return any(part.kinks for part in _activations(network))


def uses_cells(network: AbstractLayer) -> bool:
    """Whether a dual of the network is computed by cells, with some thousand nodes for a pair."""
    return any(part.closed is None and part.kinks for part in _activations(network))
