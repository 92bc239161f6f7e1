"""Kernel matrices of infinitely wide networks."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from widthwise.numerics import nearest, reject

from .convolutions import convolutional, plan
from .gram import gram
from .inputs import Directions, check_inputs
from .layer import AbstractLayer
from .pairwise import has_masks, pairwise, uses_cells
from .profile import Profile, compile_profile

# So many pairs are done one by one before a profile would be ready; by cells, one pair costs as much as hundreds.
_FEW, _FEW_BY_CELLS = 250_000, 2_000
METHODS, PRECISIONS = ("auto", "pairs", "profile"), ("float64", "float32")


@dataclass(frozen=True)
class Kernels:
    r"""NNGP and NTK of a network on two sets of inputs, each (n, m).

    Where the network keeps positions, (n, m, \*p, \*p): first the positions of the first input of a pair.
    ``error`` is a first-order bound on the relative error, in units of the geometric mean of the
    two diagonal entries; 0 is not reached, closed forms leave a few ulps. ``method`` says how they were computed.
    """

    nngp: Float[np.ndarray, "n m ..."]
    ntk: Float[np.ndarray, "n m ..."]
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

    Raises ``ValueError`` for inputs of the wrong shape or kind, for an unknown method or dtype, and where
    the tolerance cannot be reached or a second moment overflows.

    >>> from widthwise.networks import MLP
    >>> K = kernel(MLP(depth=1, activation="relu").network(), [[1.0, 0.0], [0.0, 1.0]])
    >>> np.round(K.ntk, 6).tolist(), K.method
    ([[1.0, 0.159155], [0.159155, 1.0]], 'pair by pair')
    """
    _demand_known("method", method, METHODS)
    dtype = str(np.dtype(dtype))
    _demand_known("dtype", dtype, PRECISIONS)
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
        few = _FEW_BY_CELLS if uses_cells(network) else _FEW
        many = len(X) * len(X if other is None else other) > few
        alone = not (left.positions or has_masks(network))
        if method == "profile" or (method == "auto" and many and alone):
            found = _by_profile(network, left, right, tolerance, dtype) if alone else None
            if found is not None:
                return found
            if method == "profile":
                _refuse_profile(tolerance)
        convolutions = plan(network, left.positions, left.size) if method == "auto" else None
        if convolutions is None:
            (nngp, ntk, error), told = pairwise(network, left, right, tolerance), "pair by pair"
        else:
            (nngp, ntk, error), told = convolutional(convolutions, left, right, dtype), convolutions.method
    least = float(np.finfo(dtype).eps)
    return Kernels(nngp.astype(dtype, copy=False), ntk.astype(dtype, copy=False), max(error, least), told)


def _by_profile(
    network: AbstractLayer, X: Directions, Y: Directions | None, tolerance: float, dtype: str
) -> Kernels | None:
    """The kernels from a profile; none where the tolerance cannot be reached so."""
    power = X.power if Y is None else np.concatenate([X.power, Y.power])
    if not np.any(power > 0):
        return None
    least = float(np.min(power[power > 0]))
    profile = compile_profile(network, X.size, least, float(np.max(power)), tolerance)
    if profile is None:
        return None
    nngp, ntk, error = gram(profile, X.at_least(least), None if Y is None else Y.at_least(least), dtype)
    error = max(error, _at_zero(network, (nngp, ntk), X, Y, tolerance))
    return Kernels(nngp, ntk, error, _described(profile))


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


def _refuse_profile(tolerance: float) -> None:
    reject(
        f"No profile of this network reaches the tolerance {tolerance:.1e} on these inputs",
        "It needs flat inputs, and kernels that are smooth in the angle and in the logarithm of the mean squares",
        "Use method='pairs', or pass a larger tolerance",
    )
