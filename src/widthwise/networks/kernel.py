"""Kernel matrices of infinitely wide networks."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.grams import Grid, Progress, Tile, fingerprint, on_disk
from widthwise.numerics import mean_and_sem, nearest, reject

from .convolutions import Plan, convolutional, plan
from .gram import gram
from .inputs import Directions, check_inputs
from .layer import AbstractLayer, check_network
from .pairwise import has_draws, has_masks, pairwise, seeded, uses_cells
from .profile import Profile, compile_profile

# So many pairs are done one by one before a profile would be ready; by cells, one pair costs as much as hundreds.
_FEW, _FEW_BY_CELLS = 250_000, 2_000
_REPEATS = 8  # of a kernel with drawn expectations
_SIDE, _SIDE_BY_PAIRS, _SIDE_BY_CELLS, _LEAST_SIDE = 4000, 1000, 100, 8
_HEIGHT, _STRIP_BYTES = 1000, 2**28  # of a strip of whole rows of one matrix
_PROBED = 3
METHODS, PRECISIONS = ("auto", "pairs", "profile"), ("float64", "float32")


@dataclass(frozen=True)
class Kernels:
    r"""NNGP and NTK of a network on two sets of inputs, each (n, m).

    Where the network keeps positions, (n, m, \*p, \*p): first the positions of the first input of a pair.
    ``error`` is a first-order bound on the relative error, in units of the geometric mean of the
    two diagonal entries; 0 is not reached, closed forms leave a few ulps. Where an expectation is drawn, it holds three
    standard errors. ``method`` says how they were computed. Matrices on disk are memory maps, or zarr's arrays,
    that are read where they are indexed.
    """

    nngp: Float[np.ndarray, "n m ..."] | Float[Any, "n m ..."]
    ntk: Float[np.ndarray, "n m ..."] | Float[Any, "n m ..."]
    error: float
    method: str = ""


def kernel(
    network: AbstractLayer,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    tolerance: float = 1e-10,
    dtype: str = "float64",
    method: str = "auto",
    out: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> Kernels:
    r"""NNGP kernel $K$ and neural tangent kernel $\Theta$ of an infinitely wide network, one output.

    The covariance of an input pair is $x\cdot y/d$; each layer maps pairs by its ``propagate``
    (Jacot et al. 2018; Lee et al. 2018). Several outputs are independent copies.

    Arguments: inputs ``X`` (n, d) and ``Y`` (m, d), real and finite, or (n, \*positions, channels) for images
    and sequences, whose covariance is that of the channels at each pair of positions; ``Y=None`` means X with itself:
    only one triangle is computed, and the result is exactly symmetric. Activations without a closed
    dual get as many series terms, or nodes, as ``tolerance`` needs.

    ``method="pairs"`` propagates every pair; ``"profile"`` compiles the network into polynomials in
    the angle and, where they matter, the two mean squares, and then costs little more than one matrix
    product whatever the depth and the activation; ``"auto"`` takes the profile for many pairs, where it
    reaches the tolerance. The profile is computed in float64, and the matrices as ``dtype``; float32
    is faster and its error larger, as ``error`` says.

    ``out`` names a folder for matrices that are larger than the memory: tile after tile is written into
    ``nngp.npy`` and ``ntk.npy`` there, or, where its name ends in ``.zarr``, into two zarr arrays. A call that was
    cut off is made again and goes on where it stopped. ``progress(done, total)`` is called after each tile.

    Raises ``ValueError`` for inputs of the wrong shape or kind, for an unknown method or dtype, and where
    the tolerance cannot be reached or a second moment overflows, and for a folder that cannot be written or holds
    anything else.

    >>> from widthwise.networks import MLP
    >>> K = kernel(MLP(depth=1, activation="relu").network(), [[1.0, 0.0], [0.0, 1.0]])
    >>> np.round(K.ntk, 6).tolist(), K.method
    ([[1.0, 0.159155], [0.159155, 1.0]], 'pair by pair')
    """
    check_network(network)
    _demand_known("method", method, METHODS)
    dtype = dtype if dtype in PRECISIONS else getattr(dtype, "__name__", str(dtype))
    _demand_known("dtype", dtype, PRECISIONS)
    _demand_options(tolerance, out, progress)
    X = check_inputs("X", X)
    other = None if Y is None else check_inputs("Y", Y)
    if other is not None and X.shape[1:] != other.shape[1:]:
        reject(
            f"X with {_features(X)} and Y with {_features(other)}",
            "Both sets of inputs must have the same number of features, and the same positions",
            "Check the columns",
        )
    left, right = Directions.of(X), None if other is None else Directions.of(other)
    with jax.enable_x64(True):
        way = _chosen(network, left, right, tolerance, dtype, method)
        if out is None:
            nngp, ntk, error = way.compute(left, right, progress)
        else:
            request = {"method": method, "tolerance": tolerance, "inputs": [fingerprint(X)], "network": way.probe()}
            request["inputs"] += [] if other is None else [fingerprint(other)]
            nngp, ntk, error = _on_disk(out, way, left, right, dtype, request, progress)
    return Kernels(nngp, ntk, max(error, float(np.finfo(dtype).eps)), way.name)


@dataclass(frozen=True, eq=False)
class _Way:
    """How kernels are computed: of two sets of inputs, under which name, and with numbers that tell networks apart.

    ``side``: a tile on disk of so many inputs squared takes minutes at most; none where a number is computed faster
    than it is written.
    """

    compute: Callable[[Directions, Directions | None, Progress | None], tuple[np.ndarray, np.ndarray, float]]
    name: str
    probe: Callable[[], list[float]]
    side: int | None


def _chosen(
    network: AbstractLayer, X: Directions, Y: Directions | None, tolerance: float, dtype: str, method: str
) -> _Way:
    few = _FEW_BY_CELLS if uses_cells(network) else _FEW
    many = len(X) * len(X if Y is None else Y) > few
    alone = not (X.positions or has_masks(network) or has_draws(network))
    if method == "profile" or (method == "auto" and many and alone):
        found = _by_profile(network, X, Y, tolerance, dtype) if alone else None
        if found is not None:
            return found
        if method == "profile":
            _refuse_profile(tolerance)
    convolutions = plan(network, X.positions, X.size) if method == "auto" else None
    if convolutions is not None:
        return _by_displacements(convolutions, X, dtype)
    return _by_pairs(network, X, tolerance, dtype)


def _by_displacements(convolutions: Plan, X: Directions, dtype: str) -> _Way:
    def compute(X, Y, progress):
        nngp, ntk, error = convolutional(convolutions, X, Y, dtype, progress)
        return nngp.astype(dtype, copy=False), ntk.astype(dtype, copy=False), error

    def probe():
        return _entries(*compute(X[:_PROBED], None, None)[:2])

    return _Way(compute, convolutions.method, probe, min(_SIDE, max(_LEAST_SIDE, convolutions.side)))


def _by_pairs(network: AbstractLayer, X: Directions, tolerance: float, dtype: str) -> _Way:
    def compute(X, Y, progress):
        found = _repeated if has_draws(network) else pairwise
        nngp, ntk, error = found(network, X, Y, tolerance, progress)
        return nngp.astype(dtype, copy=False), ntk.astype(dtype, copy=False), error

    def probe():
        matrices = compute(X[:_PROBED], None, None)[:2]
        if matrices[0].ndim > 2:
            reject(
                f"A network that keeps positions, whose kernels of one pair have shape {matrices[0].shape[2:]}",
                "On disk there is one number for each pair of inputs",
                "End the network with Flatten or GlobalPool, or compute in memory, without out",
            )
        return _entries(*matrices)

    side = _SIDE_BY_CELLS if uses_cells(network) else _SIDE_BY_PAIRS
    return _Way(compute, "pair by pair", probe, max(_LEAST_SIDE, side // math.prod(X.positions)))


def _entries(*matrices: np.ndarray) -> list[float]:
    return [float(one) for matrix in matrices for one in np.ravel(matrix)]


def _repeated(
    network: AbstractLayer, X: Directions, Y: Directions | None, tolerance: float, progress: Progress | None = None
):
    """The mean over independent draws, and three of its standard errors over the largest entry."""
    found = []
    for seed in range(_REPEATS):
        found.append(pairwise(seeded(network, seed), X, Y, tolerance))
        if progress is not None:
            progress(seed + 1, _REPEATS)
    means = [mean_and_sem(np.stack(matrices)) for matrices in list(zip(*found, strict=True))[:2]]
    seen = max(float(np.max(mean.error) / np.max(np.abs(mean.value))) for mean in means)
    return *(mean.value for mean in means), max(part[2] for part in found) + 3.0 * seen


def _by_profile(
    network: AbstractLayer, X: Directions, Y: Directions | None, tolerance: float, dtype: str
) -> _Way | None:
    """The way of a profile; none where the tolerance cannot be reached so."""
    power = X.power if Y is None else np.concatenate([X.power, Y.power])
    if not np.any(power > 0):
        return None
    least = float(np.min(power[power > 0]))
    profile = compile_profile(network, X.size, least, float(np.max(power)), tolerance)
    if profile is None:
        return None

    def compute(X, Y, progress):
        both = X.at_least(least), None if Y is None else Y.at_least(least)
        nngp, ntk, error = gram(profile, *both, dtype, progress)
        return nngp, ntk, max(error, _at_zero(network, (nngp, ntk), X, Y, tolerance))

    def probe():
        firsts = (part[:_PROBED, 0, 0] for part in (profile.nngp, profile.ntk))
        return np.concatenate([*firsts, profile.levels[:, 0]]).tolist()

    return _Way(compute, _described(profile), probe, None)


def _on_disk(out, way: _Way, X: Directions, Y: Directions | None, dtype: str, request: dict, progress: Progress | None):
    """Kernels in a folder; each tile is a call of its own."""
    n, m = len(X), None if Y is None else len(Y)

    def tile(rows: slice, columns: slice):
        own = Y is None and rows == columns
        *both, error = way.compute(X[rows], None if own else (X if Y is None else Y)[columns], None)
        return tuple(both), error

    if way.side is not None or Path(out).suffix == ".zarr":
        grid, whole = Grid.of(n, m, way.side or _SIDE), tile
    else:
        grid, whole = _strips(tile, n, m, dtype)
    (nngp, ntk), error = on_disk(out, grid, whole, ("nngp", "ntk"), dtype, request, progress)
    return nngp, ntk, error


def _strips(tile: Tile, n: int, m: int | None, dtype: str) -> tuple[Grid, Tile]:
    """Strips of whole rows, which a disk takes several times as fast as pieces of rows.

    A symmetric matrix is computed in full, the lower half by the very calls of the upper one: it is exactly symmetric.
    """
    width = n if m is None else m
    height = max(1, min(_HEIGHT, _STRIP_BYTES // (width * np.dtype(dtype).itemsize)))
    grid, parts = Grid.strips(n, width, height), Grid.of(n, m, height).columns

    def block(rows: slice, columns: slice):
        if m is not None or rows.start <= columns.start:
            return tile(rows, columns)
        matrices, error = tile(columns, rows)
        return tuple(matrix.T for matrix in matrices), error

    def strip(rows: slice, _: slice):
        blocks = [block(rows, columns) for columns in parts]
        matrices = zip(*(matrices for matrices, _ in blocks), strict=True)
        return tuple(np.concatenate(row, axis=1) for row in matrices), max(error for _, error in blocks)

    return grid, strip


def _features(X: np.ndarray) -> str:
    return f"{X.shape[1]} features" if X.ndim == 2 else f"inputs of shape {X.shape[1:]}"


def _described(profile: Profile) -> str:
    degree, norms = profile.degrees
    if norms == 1:
        return f"polynomials of degree {degree} in the angle"
    return f"polynomials of degree {degree} in the angle, through {norms} nodes in each mean square"


def _at_zero(network: AbstractLayer, matrices, X: Directions, Y: Directions | None, tolerance: float) -> float:
    """Fill the rows and columns of zero inputs, which have no angle and are all alike, and return the error there."""
    worst = 0.0
    zeros = [np.flatnonzero(part.power == 0) for part in (X, X if Y is None else Y)]
    nothing = Directions(np.zeros(1), np.zeros((1, X.size)))
    for rows, others, swap in ((zeros[0], X if Y is None else Y, False), (zeros[1], X, True)):
        if len(rows):
            *values, error = pairwise(network, nothing, others, tolerance)
            worst = max(worst, error)
            for matrix, row in zip(matrices, values, strict=True):
                (matrix.T if swap else matrix)[rows] = row
    return worst


def _demand_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        reject(f"{name}={value!r}{nearest(value, known)}", f"Known are {', '.join(known)}", "Choose one of them")


def _demand_options(tolerance: Any, out: Any, progress: Any) -> None:
    if not (isinstance(tolerance, int | float) and tolerance > 0):
        reject(f"tolerance={tolerance!r}", "A tolerance is a positive number", "Give for example tolerance=1e-10")
    if progress is not None and not callable(progress):
        reject(f"progress={progress!r}", "It is called as progress(done, total)", "Give for example progress=print")
    if not (out is None or isinstance(out, str | os.PathLike)) or Path(out or "").suffix in (".npy", ".npz", ".h5"):
        reject(f"out={out!r}", "It names a folder, of zarr arrays if it ends in .zarr", "Give for example out='kernel'")


def _refuse_profile(tolerance: float) -> None:
    reject(
        f"No profile of this network reaches the tolerance {tolerance:.1e} on these inputs",
        "It needs flat inputs, and kernels that are smooth in the angle and in the logarithm of the mean squares",
        "Use method='pairs', or pass a larger tolerance",
    )
