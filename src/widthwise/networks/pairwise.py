"""Kernel matrices pair by pair: every pair of inputs is propagated through the whole network.

Nothing is assumed and nothing interpolated, so this is the reference, and the way for few pairs.
"""

import itertools
import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthwise.activations import Activation
from widthwise.grams import Grid, Progress
from widthwise.numerics import reject

from .attention import Attention
from .combine import Dropout
from .inputs import Directions, InputPairs, pairs
from .layer import AbstractLayer
from .pair import Pair
from .positional import Tile, after_one_pair, kernels, propagated

_TILE = 256  # flat inputs per side of a tile: its arrays fit a processor's cache
_CELL_TILE = 16  # duals by cells hold some hundred nodes per pair at once
_ENTRIES, _CELL_ENTRIES = 2**22, 2**16  # pairs of positions in a tile
MAX_DEGREE = 4096
_DRAWN = 1e-6  # the least tolerance beside a mean over draws, whose standard error is thousands of times as large


@eqx.filter_jit
def _tile(network: AbstractLayer, size: int, xx, yy, gap, cogap):
    """One tile of flat pairs; what belongs to one input alone is computed once per input, not per pair."""

    def one(xx, yy, gap, cogap):
        zero = jnp.zeros_like(gap)
        after = network.propagate(Pair(xx, yy, gap, cogap, zero, zero, None, size, gaussian=False))
        return after.xy, after.ntk, after.error

    rows = jax.vmap(one, in_axes=(None, 0, 0, 0))
    nngp, ntk, error = jax.vmap(rows, in_axes=(0, None, 0, 0))(xx, yy, gap, cogap)
    return nngp, ntk, None, None, jnp.max(error)


def _evaluate(network: AbstractLayer, inputs: InputPairs):
    """NNGP and NTK of the pairs; those of inputs with themselves, where they do not follow from these; the error."""
    if inputs.xx.ndim > 1 or has_masks(network):
        return kernels(propagated(network, Tile.of(inputs)))
    return _tile(network, inputs.size, *map(jnp.asarray, (inputs.xx, inputs.yy, inputs.gap, inputs.cogap)))


def pairwise(
    network: AbstractLayer, X: Directions, Y: Directions | None, tolerance: float, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """NNGP and NTK of all pairs, each (n, m), and their relative error; ``Y=None`` means X with itself.

    Tile by tile, the largest inputs last in each row of tiles and in the first row that is done:
    large inputs need more terms, so inputs of about equal size share a tile, and what cannot be
    reached is refused at once, by ``ValueError``; beside expectations that are drawn, no more than
    1e-6 is asked for. Where the network keeps positions, the matrices have shape (n, m, \\*p, \\*p).
    """
    symmetric, Y = Y is None, X if Y is None else Y
    tolerance = max(tolerance, _DRAWN) if has_draws(network) else tolerance
    crossed, out = after_one_pair(network, X.positions, X.size) if X.positions else (False, ())
    nngp, ntk = (np.empty((len(X), len(Y), *out)) for _ in range(2))
    side, worst = _side(network, X.positions, crossed, max(len(X), len(Y))), 0.0
    by_row, by_column, done = _by_size(X), _by_size(Y), itertools.count(1)
    total = len(Grid.of(len(X), None if symmetric else len(Y), side))
    for top in reversed(range(0, len(X), side)):
        enough = network
        for left in range(top if symmetric else 0, len(Y), side):
            rows, columns = by_row[top : top + side], by_column[left : left + side]
            pair = pairs(X[_filled(rows, side)], Y[_filled(columns, side)], crossed)
            if symmetric and top == left and not X.positions:
                pair = _equal_diagonal(pair)
            enough, tile, own, error = _accurate(enough, pair, tolerance)
            for matrix, values, diagonal in zip((nngp, ntk), tile, own, strict=True):
                _place(matrix, rows, columns, np.asarray(values), symmetric)
                if symmetric and top == left and diagonal is not None:
                    matrix[rows, rows] = np.asarray(diagonal)[: len(rows)]
            worst = max(worst, error)
            if progress is not None:
                progress(next(done), total)
    return nngp, ntk, worst


def _side(network: AbstractLayer, positions: tuple[int, ...], crossed: bool, count: int) -> int:
    """The side of a tile: tiles of one shape, as full as can be, so that one compilation serves all."""
    entries = math.prod(positions) ** (2 if crossed else 1)
    largest = _CELL_TILE if uses_cells(network) else _TILE
    most = _CELL_ENTRIES if uses_cells(network) else _ENTRIES
    largest = max(1, min(largest, math.isqrt(most // entries)))
    return -(-count // -(-count // largest))


def _by_size(X: Directions) -> np.ndarray:
    """The order of the inputs from the smallest to the largest."""
    return np.argsort(X.power.reshape(len(X), -1).max(axis=1), kind="stable")


def _filled(rows: np.ndarray, side: int) -> np.ndarray:
    """Fill a tile up with its last row."""
    return np.concatenate([rows, np.full(side - len(rows), rows[-1])])


def _place(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, symmetric: bool) -> None:
    values = values[: len(rows), : len(columns)]
    mirrored = _mirrored(values)
    if symmetric and np.array_equal(rows, columns):
        upper = np.triu(np.ones(values.shape[:2], bool)).reshape(values.shape[:2] + (1,) * (values.ndim - 2))
        values = mirrored = np.where(upper, values, mirrored)
    matrix[np.ix_(rows, columns)] = values
    if symmetric:
        matrix[np.ix_(columns, rows)] = _mirrored(values)


def _mirrored(values: np.ndarray) -> np.ndarray:
    """The kernel of (y, x) from that of (x, y): inputs and, where there are any, positions change places."""
    half = (values.ndim - 2) // 2
    positions = [*range(2 + half, values.ndim), *range(2, 2 + half)]
    return np.transpose(values, [1, 0, *positions])


def _equal_diagonal(pair: InputPairs) -> InputPairs:
    """An input is equal to itself: its gap is zero, unless the input is zero and has no direction."""
    equal = np.eye(len(pair.xx), dtype=bool) & (pair.xx > 0)[:, None]
    gap, cogap = np.where(equal, 0.0, pair.gap), np.where(equal, 2.0, pair.cogap)
    return replace(pair, gap=gap, cogap=cogap)


def _accurate(network: AbstractLayer, pair: InputPairs, tolerance: float):
    """Evaluate a tile with four times the terms until they suffice: network, kernels, diagonals, error."""
    nngp, ntk, own_nngp, own_ntk, error = _evaluate(network, pair)
    _demand_finite(network, nngp, ntk)
    degree = series_degree(network)
    if (left := float(error)) <= tolerance:
        return network, (nngp, ntk), (own_nngp, own_ntk), left
    if degree == 0:
        summed = pair.xx.ndim > 1  # only sums over positions lose digits
        reject(
            f"an error of {left:.1e} by rounding" + (", of sums over positions that nearly agree" if summed else ""),
            f"The tolerance is {tolerance:.1e}",
            "Pass a larger tolerance" + (", or remove inputs that are almost duplicates" if summed else ""),
        )
    if degree == MAX_DEGREE:
        reject(
            f"an error of {left:.1e} with {degree} series terms (for kinks: nodes) for {_activations(network)}",
            f"The tolerance is {tolerance:.1e}, and at most {MAX_DEGREE} terms are used",
            "Scale the inputs or the weight variance down, or pass a larger tolerance",
        )
    return _accurate(set_degree(network, min(4 * degree, MAX_DEGREE)), pair, tolerance)


def series_degree(network: AbstractLayer) -> int:
    """How many terms, or nodes, the numerical duals use; 0 where there are none."""
    return max((part.degree for part in _activations(network) if part.closed is None), default=0)


def _demand_finite(network: AbstractLayer, *matrices: Float[Array, "n m ..."]) -> None:
    """Refuse a kernel that left the range of float64, such as that of exp at a large variance."""
    if not all(bool(jnp.all(jnp.isfinite(matrix))) for matrix in matrices):
        reject(
            f"a kernel that is not finite, with {_activations(network)}",
            "The second moments of every layer must be below 1.8e308",
            "Scale the inputs or the weight variance down",
        )


def _activations(network: AbstractLayer) -> list[Activation]:
    return _parts(network, Activation)


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


def has_masks(network: AbstractLayer) -> bool:
    """Whether the kernel of an input with itself differs from that of two equal inputs."""
    return any(layer.keep < 1.0 for layer in _parts(network, Dropout))


def has_draws(network: AbstractLayer) -> bool:
    """Whether an expectation in the network is a mean over draws."""
    return any(layer.drawn for layer in _parts(network, Attention))


def seeded(network: AbstractLayer, seed: int) -> AbstractLayer:
    """The same network with other draws of its expectations."""

    def swap(leaf):
        return replace(leaf, seed=jnp.asarray(1000 * seed + leaf.seed)) if isinstance(leaf, Attention) else leaf

    return jax.tree.map(swap, network, is_leaf=lambda node: isinstance(node, Attention))


def _parts(network: AbstractLayer, kind: type) -> list:
    leaves = jax.tree.leaves(network, is_leaf=lambda node: isinstance(node, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]
